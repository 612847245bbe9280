"""The README is true: its code runs, its options exist, its redis-cli lines name what is written."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from usage_middleware import KeyInfo, Usage
from usage_middleware.web import usage_app
from usage_middleware.web.views import VIEWS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SECTIONS = dict(part.split("\n", 1) for part in README.split("\n## ")[1:])
URL = '"redis://localhost:6379/0"'
SECRET = {"X-API-Key": "the key that Acme sends"}


def code_of(heading: str) -> str:
    found = re.search(r"```python\n(.*?)```", SECTIONS[heading], re.DOTALL)
    assert found, heading
    return found[1]


@pytest.fixture
def run(redis_url: str, namespace: str) -> Any:
    """Runs the code of a section, on the tests' server; its names."""
    made: list[Usage] = []

    def run(heading: str) -> dict[str, Any]:
        code = code_of(heading)
        assert URL in code
        names: dict[str, Any] = {"__name__": "readme"}
        exec(compile(code.replace(URL, f'"{redis_url}", namespace="{namespace}"'), f"README.md, {heading}", "exec"), names)
        made.append(names["usage"])
        return names

    yield run
    for usage in made:
        usage.close()


def counted(usage: Usage, caller: tuple[str, str]) -> dict[str, int]:
    """What a key has, by measure, as everybody may read it."""
    assert usage.flush()
    names = usage.engine.client.keys(f"{usage.settings.namespace}:{{{caller[0]}}}:series:1d:*:key:{caller[1]}")
    fields = usage.engine.client.hgetall(names[0]) if names else {}
    return {field.decode().split(" ", 1)[1]: int(number) for field, number in fields.items()}


def test_fastapi_quick_start_shows_a_customer_its_calls(run: Any) -> None:
    names = run("FastAPI")
    names["app"].get("/v1/items/{item}")(lambda item: item)
    with TestClient(names["app"]) as client:
        client.get("/v1/items/1", headers=SECRET)
        assert names["usage"].flush()
        check_quick_start(client.get("/usage/summary", headers=SECRET).json(), "GET /v1/items/{item}")
        assert client.get("/usage/summary").status_code == 401


def test_flask_quick_start_shows_a_customer_its_calls(run: Any) -> None:
    names = run("Flask")
    names["app"].get("/v1/items/<item>")(lambda item: item)
    client = names["app"].test_client()
    client.get("/v1/items/1", headers=SECRET).close()
    assert names["usage"].flush()
    check_quick_start(client.get("/usage/summary", headers=SECRET).json, "GET /v1/items/{item}")
    assert client.get("/usage/summary").status_code == 401


def test_a_months_bill_by_a_program(redis_url: str, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Usage(redis_url, namespace=namespace) as usage:
        usage.keys.put("acme", KeyInfo(id="key_7", name="Search backend"))
        usage.recorder.add(("acme", "key_7"), "GET /v1/items", (), 200, 1_000, 10, ())
        usage.recorder.add(("acme", "key_7"), "GET /v1/items", (), 500, 1_000, 10, ())
        assert usage.flush()
    today = datetime.now(UTC)
    after = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    months = {"2026, 10, 1": f"{today.year}, {today.month}, 1", "2026, 11, 1": f"{after.year}, {after.month}, 1"}
    code = code_of("In programs").replace(URL, f'"{redis_url}", namespace="{namespace}"')
    assert all(shown in code for shown in months)
    code = re.sub("|".join(months), lambda found: months[found[0]], code)
    exec(compile(code, "README.md, In programs", "exec"), {})
    assert capsys.readouterr().out == "acme,key_7,Search backend,1\n"


def check_quick_start(summary: Any, endpoint: str) -> None:
    assert (summary["org_id"], summary["total_calls"]) == ("acme", 1)
    assert summary["by_endpoint"] == [{"endpoint": endpoint, "calls": 1, "successful": 1}]


def test_who_called(run: Any) -> None:
    names = run("Who called")

    async def authenticated(scope: Any, receive: Any, send: Any) -> None:
        user = SimpleNamespace(organization="globex") if scope["path"] == "/nothing" else None
        await names["app"]({**scope, "state": {"user": user}}, receive, send)

    client = TestClient(authenticated)
    client.get("/v1/reports")
    client.get("/nothing")
    client.get("/nowhere", headers={"X-Organization": "globex"})
    assert counted(names["usage"], ("acme", "key_7"))["calls"] == 1
    assert counted(names["usage"], ("globex", "web"))["calls"] == 1


def test_tags_and_counters(run: Any) -> None:
    names = run("Tags and counters")
    with TestClient(names["app"]) as client:
        assert client.post("/v1/match", json=["a", "b"]).json() == ["a"]
    found = counted(names["usage"], ("default", "(anonymous)"))
    assert (found["c.records"], found["c.matches"]) == (2, 1)


def test_keys(run: Any) -> None:
    usage = run("Keys")["usage"]
    assert usage.keys.find("old secret") is None
    assert usage.keys.find("new secret").revoked_at is not None


def test_who_may_look(run: Any) -> None:
    with TestClient(run("Mounting, and who may look")["app"]) as client:
        for path in ("/usage", "/my-usage", "/all-usage"):
            assert client.get(f"{path}/summary").status_code == 401
        seen = client.get("/all-usage/summary", headers={"X-Operator": "the operators' secret"})
        assert (seen.status_code, seen.json()["org_id"]) == (200, None)


def test_every_block_of_python_is_run_here() -> None:
    tested = {"FastAPI", "Flask", "Who called", "Tags and counters", "Keys", "Mounting, and who may look", "In programs"}
    assert {heading for heading, text in SECTIONS.items() if "```python" in text} == tested
    assert README.count("```python") == len(tested)


def table(heading: str) -> dict[str, str]:
    text = SECTIONS["Options"].split(f"| option of `{heading}` |", 1)[1].split("\n\n", 1)[0]
    rows = [line.strip("|").split("|") for line in text.splitlines()[2:]]
    return {name.split("`")[1]: default.strip().strip("`") for name, default, *_ in rows}


@pytest.mark.parametrize(("heading", "function", "positional"), [("Usage", Usage.__init__, 1), ("usage_app", usage_app, 1)])
def test_every_option_is_in_its_table(heading: str, function: Any, positional: int) -> None:
    given = dict(inspect.signature(function).parameters)
    options = {name: given[name].default for name in list(given)[1:]}
    documented = table(heading)
    assert list(documented) == list(options)
    for name, default in options.items():
        if isinstance(default, str | bool) or (isinstance(default, int | float) and default < 1_000_000):
            assert documented[name] == str(default), name


def test_views_are_those_that_are_served() -> None:
    text = SECTIONS["Mounting, and who may look"]
    documented = set(re.findall(r"^\| `(/[a-z-]*)` \|", text, re.MULTILINE))
    assert documented == {view.path for view in VIEWS}


def test_redis_lines_are_those_of_the_schema() -> None:
    contract = (ROOT / "docs" / "reference" / "redis-schema.md").read_text("utf-8")
    lines = re.findall(r"^redis-cli (.*?) +#", README, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        assert line.replace("'", "") in contract


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_commands_are_those_of_the_script() -> None:
    script = (ROOT / "run").read_text("utf-8")
    for command in re.findall(r"python3 run (\w+)", README):
        assert f'"{command}":' in script
