"""`python3 run suites`: other projects' tests, unchanged, with and without the middleware; prints which tests differ."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.suites.projects import PROJECTS, Project
from tests.suites.running import Difference, compare, count, last_line, source_of
from tests.support import ServerProcess

ROOT = Path(__file__).parents[2]


def main(arguments: list[str]) -> None:
    """Run the suites that are asked for; exit with status 1 if a test differs."""
    names = [project.name for project in PROJECTS]
    parser = argparse.ArgumentParser(prog="python3 run suites", description=__doc__)
    parser.add_argument("projects", nargs="*", metavar="project", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--short", action="store_true", help="what takes a minute: for CI")
    options = parser.parse_args(arguments)
    for name in set(options.projects) - set(names):
        parser.error(f"there is no project {name!r}; choose from {', '.join(names)}")
    wanted = options.projects or [one.name for one in PROJECTS if one.is_short or not options.short]
    chosen = [one for one in PROJECTS if one.name in wanted]
    print("| project | tests | passed without | passed under | skipped | errors of ours | differ |", flush=True)
    print("|---|---|---|---|---|---|---|", flush=True)
    with ServerProcess() as server:
        found = {project.name: _show(project, server.url) for project in chosen}
    for name, different in found.items():
        for one in different:
            print(f"\n{name}: {one.test}\n    without: {one.without}, under: {one.under}. {last_line(one.reason)}")
    passed = sum(not different for different in found.values())
    print(f"\n{passed} passed, {len(found) - passed} failed")
    sys.exit(passed < len(found))


def _show(project: Project, url: str) -> list[Difference]:
    """A line of the table; what differs."""
    if not project.folder:
        print(f"| {project.name} | its source distribution has no tests | | | | | |", flush=True)
        return []
    if find_spec(project.name) is None:
        print(f"| {project.name} | it is not installed | | | | | |", flush=True)
        return []
    without, under, different = compare(project, source_of(project, ROOT / ".suites"), url)
    cells = [len(without.outcomes), count(without, "passed"), count(under, "passed"), count(without, "skipped")]
    errors = ", ".join(f"{reason}: {times}" for reason, times in under.lost.items()) or 0
    print(f"| {project.name} | {' | '.join(map(str, cells))} | {errors} | {len(different)} |", flush=True)
    if not count(under, "passed"):
        sys.exit(f"{project.name}: no test passed; set USAGE_SUITE_SHOW=1 to see why")
    return different


if __name__ == "__main__":
    main(sys.argv[1:])
