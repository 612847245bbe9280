"""The README is true: its quick starts run, its answer is a real one, its options, views, links and commands exist."""

from __future__ import annotations

import inspect
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.docs.pages import DOCS, ROOT, blocks, name_of, pages, section
from tests.serving import serving
from tests.support import end_embedded, free_port
from usage_middleware import Usage
from usage_middleware.report.reports import PLAN_VIEWS, VIEWS
from usage_middleware.web.app_options import AppOptions

PAGE = ROOT / "README.md"
README = PAGE.read_text("utf-8")
OPTIONS = DOCS / "reference" / "options.md"
SECRET = {"X-API-Key": "sk_acme"}
PORT = "--port 8000"
#: Differ from run to run.
VARYING = {"window", "bytes", "latency_ms", "complete_through", "generated_at", "by_day"}


def code_under(heading: str) -> str:
    return next(block.text for block in blocks(PAGE, "python") if block.text in section(PAGE, heading))


def python(*arguments: str) -> list[str]:
    """A command of the README in the tests' environment."""
    return [sys.executable, *arguments]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to paste into; the embedded server has its data there, and ends with the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("USAGE_REDIS_URL", raising=False)
    monkeypatch.setenv("USAGE_DATA_DIR", str(tmp_path / "data"))
    yield tmp_path
    # `flask run` leaves it when it is told to end.
    end_embedded(tmp_path / "data")


def after_four_calls(command: list[str], port: int, how: signal.Signals) -> dict[str, Any]:
    """The summary that the customer gets, after a restart: what was counted is delivered when the server ends."""
    with serving(command, port) as running:
        for item in "123x":
            running.call("GET", f"/v1/items/{item}", headers=SECRET)
        # One thread answers: when it answers this, it has finished the calls before it.
        running.view("/usage/summary", "sk_acme")
        running.process.send_signal(how)
        running.process.wait(20)
    with serving(command, port) as running:
        assert httpx2.get(f"http://127.0.0.1:{port}/usage/summary").status_code == 401
        return running.view("/usage/summary?period=24h", "sk_acme")


@pytest.mark.slow
def test_fastapi_quick_start_gives_the_answer_that_is_shown(folder: Path) -> None:
    (folder / "main.py").write_text(code_under("FastAPI"), "utf-8")
    assert "python main.py " in README
    assert f"uvicorn main:app {PORT}\n" in README
    subprocess.run(python("main.py"), check=True)
    port = free_port()
    answer = after_four_calls(python("-m", "uvicorn", "main:app", "--port", str(port)), port, signal.SIGTERM)
    shown = json.loads(blocks(PAGE, "json")[0].text)
    assert list(answer) == list(shown)
    assert {name: answer[name] for name in answer.keys() - VARYING} == {name: shown[name] for name in shown.keys() - VARYING}
    assert answer["latency_ms"].keys() == shown["latency_ms"].keys()
    assert answer["window"].keys() == shown["window"].keys()


@pytest.mark.slow
def test_flask_quick_start_shows_a_customer_its_calls(folder: Path) -> None:
    (folder / "main.py").write_text(code_under("Flask"), "utf-8")
    assert "`flask --app main add-key`" in README
    assert f"`flask --app main run {PORT}`" in README
    subprocess.run(python("-m", "flask", "--app", "main", "add-key"), check=True)
    port = free_port()
    command = python("-m", "flask", "--app", "main", "run", "--without-threads", "--port", str(port))
    answer = after_four_calls(command, port, signal.SIGTERM)
    found = {row["endpoint"]: row["calls"] for row in answer["by_endpoint"]}
    assert found == {"GET /v1/items/{item_id}": 3, "GET (unmatched)": 1}


def test_is_short() -> None:
    assert len(README.splitlines()) <= 150


def table(heading: str) -> dict[str, str]:
    text = OPTIONS.read_text("utf-8").split(f"| option of `{heading}` |", 1)[1].split("\n\n", 1)[0]
    rows = [line.strip("|").split("|") for line in text.splitlines()[2:]]
    return {name.split("`")[1]: default.strip().strip("`") for name, default, *_ in rows}


def options_of(heading: str) -> dict[str, Any]:
    """The options and their defaults."""
    if heading == "usage_app":
        return {"auth": None, **{option.name: option.default for option in fields(AppOptions)}}
    return {name: option.default for name, option in list(inspect.signature(Usage).parameters.items())}


@pytest.mark.parametrize("heading", ["Usage", "usage_app"])
def test_every_option_is_in_its_table(heading: str) -> None:
    options, documented = options_of(heading), table(heading)
    assert list(documented) == list(options)
    for name, default in options.items():
        if isinstance(default, str | bool) or (isinstance(default, int | float) and default < 1_000_000):
            assert documented[name].strip('"') == str(default), name


def test_views_are_those_that_are_served() -> None:
    cells = re.findall(r"^\| (`/[^|]*) \|", section(PAGE, "Mounting"), re.MULTILINE)
    documented = {path for cell in cells for path in re.findall(r"`([^`]*)`", cell)}
    assert documented == {view.path for view in (*VIEWS, *PLAN_VIEWS)}


def test_links_lead_somewhere() -> None:
    """Those of pages that are not part of the site; mkdocs checks the others."""
    for page in pages():
        if not page.is_relative_to(DOCS):
            for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
                assert (page.parent / target).exists(), f"{name_of(page)}: {target}"


def test_commands_are_those_of_the_script() -> None:
    script = (ROOT / "run").read_text("utf-8")
    for page in pages():
        for command in re.findall(r"`python3 run ([a-z-]+)", page.read_text("utf-8")):
            assert f'"{command}":' in script, name_of(page)
