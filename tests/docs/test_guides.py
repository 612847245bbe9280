"""The guides keep their word: what their code sets up counts, shows and refuses as the text says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.docs.pages import DOCS, Run
from tests.support import ServerProcess
from usage_middleware import KeyInfo, Usage, Viewer
from usage_middleware.credentials import credential_digest

ACME = {"X-API-Key": "sk_acme"}


def guide(name: str) -> Path:
    return DOCS / "guides" / f"{name}.md"


def counted(usage: Usage, org: str, key: str) -> dict[str, int]:
    """What a key has, by measure, as everybody may read it."""
    assert usage.flush()
    names = usage.engine.client.keys(f"usage:{{{org}}}:series:1d:*:key:{key}")
    fields = usage.engine.client.hgetall(names[0]) if names else {}
    return {field.decode().split(" ", 1)[1]: int(number) for field, number in fields.items()}


def test_operators_see_everybody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    operators = run.page(DOCS / "getting-started.md")["operators"]
    monkeypatch.setenv("OPERATOR_TOKEN", "change-me")
    assert operators(SimpleNamespace(headers={"x-operator-token": "change-me"})) == Viewer.operator()
    assert operators(SimpleNamespace(headers={"x-operator-token": "é"})) is None
    assert operators(SimpleNamespace(headers={})) is None
    monkeypatch.delenv("OPERATOR_TOKEN")
    assert operators(SimpleNamespace(headers={"x-operator-token": ""})) is None


def test_fastapi(run: Run) -> None:
    names = run.page(guide("fastapi"))
    usage, client = names["usage"], TestClient(names["app"])
    assert client.post("/v1/match", json=["ann", "bob"], headers={**ACME, "X-Project": "search"}).json() == ["ann"]
    assert client.post("/v1/match", json=[], headers={"X-API-Key": "wrong"}).status_code == 401
    found = counted(usage, "acme", "key_7")
    assert (found["calls"], found["c.records"], found["c.matches"]) == (1, 2, 1)
    assert client.get("/usage/summary", headers=ACME).status_code == 401  # this secret was dropped
    seen = client.get("/usage/summary", headers={"X-API-Key": "sk_acme_2"}).json()
    assert seen["by_project"] == [{"project_name": "search", "calls": 1}]


def test_identify_of_fastapi(run: Run) -> None:
    names = run.page(guide("fastapi"))
    app = names["FastAPI"]()
    app.add_middleware(names["UsageMiddleware"], usage=names["by_user"])

    async def authenticated(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"user": SimpleNamespace(organization="globex")}}, receive, send)

    TestClient(authenticated).get("/nothing")
    assert counted(names["by_user"], "globex", "web")["calls"] == 1


def test_an_outage_does_not_stop_the_start(run: Run, own_server: ServerProcess) -> None:
    names = run.page(guide("fastapi"))
    own_server.kill()
    with TestClient(names["FastAPI"](lifespan=names["lifespan_with_keys"])):
        pass


def test_flask(run: Run) -> None:
    names = run.page(guide("flask"))
    usage, client = names["usage"], names["app"].test_client()
    assert names["app"].test_cli_runner().invoke(args=["add-key"]).exit_code == 0
    with client.post("/v1/match", json=["a", "b"], headers=ACME) as answer:
        assert answer.json == ["a"]
    assert counted(usage, "acme", "key_7")["c.records"] == 2
    assert client.get("/usage/summary", headers=ACME).json["total_calls"] == 1
    assert client.get("/usage/summary").status_code == 401


def test_identify_and_dispatcher_of_flask(run: Run) -> None:
    names = run.page(guide("flask"))
    with names["other"].test_client().get("/usage/summary", headers=ACME) as answer:
        assert answer.status_code == 401
    middleware = names["WSGIUsageMiddleware"](names["mounted"].app, names["by_user"])
    names["other"].wsgi_app = middleware
    names["other"].test_client().get("/nothing").close()
    assert counted(names["by_user"], "acme", "web")["calls"] == 1


def test_own_key_store_answers_as_the_key_directory_does(run: Run) -> None:
    names = run.page(guide("own-key-store"))
    engine, own, ours = names["engine"], names["keys"], run.made_usage().keys
    for org, key_id, name in [("acme", "b", "Beta"), ("acme", "a", "Beta"), ("acme", "c", "Alpha"), ("globex", "a", "Other")]:
        names["add_key"](engine, org, key_id, name, f"{org}-{key_id}")
        ours.put(org, KeyInfo(key_id, name), secret=f"{org}-{key_id}")
    names["revoke_key"](engine, "acme", "b")
    ours.revoke("acme", "b")
    assert own.count("acme") == ours.count("acme") == 2
    choices: list[dict[str, Any]] = [{}, {"include_revoked": True}, {"limit": 1}, {"after": ("Alpha", "c")}]
    for options in [*choices, {"after": ("Beta", "a"), "include_revoked": True}]:
        assert plain(own.list("acme", **options)) == plain(ours.list("acme", **options)), options
    for ids in [["a", "b", "x"], []]:
        assert plain(own.get_many("acme", ids)) == plain(ours.get_many("acme", ids))
    assert plain(own.get("acme", "b")) == plain(ours.get("acme", "b"))
    assert own.get("acme", "x") is None
    for secret in ("acme-a", "acme-b", "nobody"):
        assert plain(own.find(secret)) == plain(ours.find(secret))
    known = [credential_digest(secret) for secret in ("acme-a", "acme-b", "globex-a")]
    assert plain(own.resolve([*known, b"x" * 32])) == plain(ours.resolve(known))
    engine.dispose()


def plain(found: Any) -> Any:
    """The same without instants, which differ by when they were written."""
    if isinstance(found, KeyInfo):
        return found.org, found.id, found.name, found.environment, found.revoked_at is None, found.created_at is None
    if isinstance(found, list):
        return [plain(one) for one in found]
    if isinstance(found, tuple):
        return (*found[:-1], found[-1] is None)
    return {name: plain(one) for name, one in found.items()} if isinstance(found, dict) else found


def test_customers_of_an_own_key_store_see_their_calls(run: Run) -> None:
    names = run.page(guide("own-key-store"))
    names["add_key"](names["engine"], "acme", "key_7", "Search backend", "sk_acme")
    client = TestClient(names["app"])
    client.get("/nothing", headers=ACME)
    assert names["usage"].flush()
    assert client.get("/usage/summary", headers=ACME).json()["total_calls"] == 1
    names["revoke_key"](names["engine"], "acme", "key_7")
    assert client.get("/usage/summary", headers=ACME).status_code == 401
    names["Base"].metadata.drop_all(names["engine"])
    names["engine"].dispose()


def test_the_tests_of_the_guide_pass(run: Run) -> None:
    run.page(guide("testing"))
    assert {file.name for file in Path.cwd().glob("*.py")} == {"shop.py", "conftest.py", "test_shop.py"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
