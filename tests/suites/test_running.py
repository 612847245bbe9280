"""What counts as a difference between two runs of another project's tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suites.__main__ import main
from tests.suites.projects import PROJECTS, Project
from tests.suites.running import Difference, Results, _label, differences, last_line, run
from tests.suites.wrapping.usage_wrapping import WRAPPERS
from tests.support import ServerProcess

OURS = Project("ours", ("flask",))
TESTS = """
import flask, pytest

app = flask.Flask("tested")

@app.get("/")
def root():
    return "yes" if "usage.call" in flask.request.environ else "no"

def test_that_sees_us():
    assert app.test_client().get("/").text == "no"

def test_that_does_not():
    assert app.test_client().get("/nowhere").status_code == 404

@pytest.mark.skip
def test_that_is_skipped():
    raise AssertionError

@pytest.mark.xfail
def test_that_is_expected_to_fail():
    raise AssertionError
"""


def results(**outcomes: str) -> Results:
    return Results(outcomes, {"broken": "E   assert 1 == 2\n\nfile.py:3: AssertionError"}, {})


def test_differences_are_other_outcomes_and_tests_of_one_run_only() -> None:
    without = results(same="passed", broken="passed", gone="passed", fails="failed")
    under = results(same="passed", broken="failed", new="skipped", fails="failed")
    assert [(one.test, one.without, one.under) for one in differences(without, under)] == [
        ("broken", "passed", "failed"),
        ("gone", "passed", "missing"),
        ("new", "missing", "skipped"),
    ]
    assert last_line(differences(without, under)[0].reason) == "assert 1 == 2"
    assert last_line("no such file") == "no such file"
    assert last_line("") == ""


def test_a_test_of_django_has_a_label() -> None:
    assert _label("test_it (handlers.tests.HandlerTests.test_it)") == "handlers.tests.HandlerTests.test_it"


def test_what_the_projects_wrap_is_known() -> None:
    assert {name for project in PROJECTS for name in project.wraps} == set(WRAPPERS)
    assert any(project.is_short for project in PROJECTS)


def test_an_unknown_project_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nonesuch"])
    assert "there is no project 'nonesuch'; choose from starlette, " in capsys.readouterr().err


def test_a_test_that_sees_the_middleware_is_a_difference(tmp_path: Path, server: ServerProcess) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    without, under = (run(OURS, tmp_path, server.url, wrapped=wrapped) for wrapped in (False, True))
    assert sorted(without.outcomes.values()) == ["passed", "passed", "passed", "skipped"]
    (found,) = differences(without, under)
    assert found[:3] == Difference("tests/test_it.py::test_that_sees_us", "passed", "failed", "")[:3]
    assert last_line(found.reason).endswith("+ yes")
    assert under.lost == {}


@pytest.mark.slow
def test_the_wrapping_needs_nothing_of_the_checkout() -> None:
    folder = Path(__file__).parent / "wrapping"
    command = [sys.executable, "-c", "import usage_wrapping, sys; assert 'tests' not in sys.modules"]
    subprocess.run(command, check=True, cwd="/", env={**os.environ, "PYTHONPATH": str(folder)})
