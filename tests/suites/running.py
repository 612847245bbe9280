"""Downloads the source of a project and runs its tests, with and without the middleware."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.suites.projects import Project

WRAPPING = Path(__file__).parent / "wrapping"
#: A suite that takes longer is ended, seconds.
LONGEST = 1800
#: How often a test that differs is run again, alone with the others that differ: some fail now and then by themselves.
AGAIN = 2


class Results(NamedTuple):
    """How the tests of a project went.

    Attributes:
        outcomes: by test, `passed`, `failed` or `skipped`.
        reasons: why tests failed.
        lost: errors of the middleware, by reason.
    """

    outcomes: dict[str, str]
    reasons: dict[str, str]
    lost: dict[str, int]


class Difference(NamedTuple):
    """A test that goes another way under the middleware."""

    test: str
    without: str
    under: str
    reason: str


def source_of(project: Project, folder: Path) -> Path:
    """The source distribution of the installed version, unpacked."""
    name = f"{project.name}-{version(project.name)}"
    if not (folder / name).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as downloads:
            _download(project, name, downloads)
            (archive,) = Path(downloads).glob("*.tar.gz")
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
    return folder / name


def _download(project: Project, name: str, folder: str) -> None:
    # The pip that `run` uses has no place in the environment that it has made.
    pip = os.environ.get("USAGE_PIP", "").split("\n")
    options = ["--quiet", "--no-deps", "--no-binary", project.name, "--dest", folder]
    subprocess.run([*pip, "download", *options, name.replace("-", "==", 1)], check=True)


def run(project: Project, source: Path, url: str, *, wrapped: bool, tests: Collection[str] = ()) -> Results:
    """Run the tests of a project: all, or some of them by name."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        environment = {
            **os.environ,
            "USAGE_SUITE": " ".join(project.wraps) if wrapped else "",
            "USAGE_SUITE_RESULTS": str(results),
            "USAGE_REDIS_URL": url,
            # Our own plugins are not theirs.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join([str(WRAPPING), *_own_source(source)]),
        }
        subprocess.run(
            _command(project, tests),
            cwd=source / project.folder if project.has_own_runner else source,
            env=environment,
            stdout=subprocess.DEVNULL if not os.environ.get("USAGE_SUITE_SHOW") else None,
            stderr=subprocess.STDOUT if not os.environ.get("USAGE_SUITE_SHOW") else None,
            timeout=LONGEST,
            check=False,
        )
        return Results(**json.loads(results.read_text()))


def _own_source(source: Path) -> list[str]:
    """Flask's and Werkzeug's tests look for their files beside an installed package."""
    return [str(source / "src")] if (source / "src").is_dir() else []


def _command(project: Project, tests: Collection[str]) -> list[str]:
    if project.has_own_runner:
        labels = [_label(test) for test in tests]
        options = [argument for argument in project.arguments if argument.startswith("--") or not tests]
        return [sys.executable, str(WRAPPING / "usage_wrapping.py"), *options, *labels]
    options = ["-q", "-p", "usage_wrapping", "-p", "no:cacheprovider", "--continue-on-collection-errors", *project.arguments]
    return [sys.executable, "-m", "pytest", *options, *(tests or [project.folder])]


def _label(test: str) -> str:
    """The label of Django's runner for `test_x (module.Class.test_x)`."""
    return test.partition("(")[2].partition(")")[0]


def compare(project: Project, source: Path, url: str) -> tuple[Results, Results, list[Difference]]:
    """Run all without and under the middleware; what differs is run again, until it does not or has had its chances."""
    without, under = (run(project, source, url, wrapped=wrapped) for wrapped in (False, True))
    found = differences(without, under)
    for _ in range(AGAIN):
        names = [one.test for one in found if _is_name(one.test)]
        if not names:
            break
        again = [run(project, source, url, wrapped=wrapped, tests=names) for wrapped in (False, True)]
        same = set(names) - {one.test for one in differences(*again)}
        found = [one for one in found if one.test not in same]
    return without, under, found


def _is_name(test: str) -> bool:
    return "setUpClass" not in test


def differences(without: Results, under: Results) -> list[Difference]:
    """The tests that went another way under the middleware, or are in one run only."""
    return [
        Difference(test, before, after, under.reasons.get(test, ""))
        for test in sorted(without.outcomes.keys() | under.outcomes.keys())
        if (before := without.outcomes.get(test, "missing")) != (after := under.outcomes.get(test, "missing"))
    ]


def count(results: Results, outcome: str) -> int:
    """How many tests went this way."""
    return sum(found == outcome for found in results.outcomes.values())


def last_line(reason: str) -> str:
    """What a failure says at its end."""
    lines: Sequence[str] = [line for line in reason.splitlines() if line.strip()]
    return next((line[1:].strip() for line in reversed(lines) if line.startswith("E ")), lines[-1] if lines else "")
