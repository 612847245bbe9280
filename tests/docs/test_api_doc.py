"""`docs/reference/usage-api.md` says what the table of views says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from usage_middleware.report.parameters import Parameter
from usage_middleware.report.reports import PLAN_VIEWS, VIEWS
from usage_middleware.report.view import AnyView
from usage_middleware.web.errors import STATUS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "reference" / "usage-api.md").read_text("utf-8")


EVERY = (*VIEWS, *PLAN_VIEWS)


def section(view: AnyView) -> str:
    return re.split(r"^## ", DOCUMENT.split(f"\n## {view.name}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def row(parameter: Parameter) -> str:
    """A parameter as the document lists it."""
    default = "" if parameter.default is None else json.dumps(parameter.default).strip('"')
    return f"| `{parameter.name}` | {allowed(parameter)} | {default} | {parameter.description} |"


def allowed(parameter: Parameter) -> str:
    if parameter.kind == "integer":
        return f"{parameter.minimum} to {parameter.maximum}"
    words = {"boolean": "true, false", "time": "RFC 3339, or a date", "date": "a date", "zone": "an IANA zone", "text": "text"}
    return ", ".join(parameter.choices) or words[parameter.kind]


#: Told once, for all views.
SHARED = ("org", "start", "end", "align", "compare", "timezone", "format")


@pytest.mark.parametrize("view", EVERY, ids=[view.name for view in EVERY])
def test_parameters(view: AnyView) -> None:
    listed = [line for line in section(view).splitlines() if line.startswith("| `")]
    assert listed == [row(parameter) for parameter in view.parameters if parameter.name not in SHARED]
    assert f"`GET {view.path}`" in section(view)


@pytest.mark.parametrize("name", SHARED)
def test_shared_parameters(name: str) -> None:
    parameter = next(one for one in VIEWS[0].parameters if one.name == name)
    assert row(parameter) in DOCUMENT.split("\n## Errors", 1)[0]


@pytest.mark.parametrize("view", EVERY, ids=[view.name for view in EVERY])
def test_examples(view: AnyView) -> None:
    shown = re.search(r"```json\n(.*?)```", section(view), re.DOTALL)
    assert shown
    assert json.loads(shown[1]) == json.loads(view.example)


def test_every_code_is_listed_under_its_status() -> None:
    for code, status in STATUS.items():
        assert re.search(rf"^\| {status} \|.*`{code}`", DOCUMENT, re.MULTILINE), code
