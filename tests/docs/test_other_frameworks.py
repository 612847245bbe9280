"""The guide for other frameworks keeps its word: each application counts its calls, and serves the usage API."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.docs.pages import DOCS, Run
from tests.web.hosts import over_asgi, over_wsgi
from usage_middleware import KeyInfo

PAGE = DOCS / "guides" / "other-frameworks.md"
ASGI = ("starlette_app", "litestar_app", "quart_app", "connexion_asgi")
WSGI = ("falcon_wsgi", "bottle_wsgi", "pyramid_wsgi")
KEY = {"x-api-key": "sk_acme"}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:pkg_resources")


def calls(usage: Any, dimension: str) -> dict[str, int]:
    """How often each member of a dimension was called, of Acme."""
    assert usage.flush()
    found: dict[str, int] = {}
    for name in usage.engine.client.keys(f"usage:{{acme}}:board:1d:*:{dimension}:calls"):
        found |= {member.decode(): int(score) for member, score in usage.engine.client.zrange(name, 0, -1, withscores=True)}
    return found


def test_the_applications(run: Run) -> None:
    names = run.page(PAGE)
    usage = names["usage"]
    usage.keys.put("acme", KeyInfo(id="key_7", name="Search backend"), secret="sk_acme")
    sends = [over_asgi(names[name]) for name in ASGI] + [over_wsgi(names[name]) for name in WSGI]
    for send in sends:
        assert send("GET", "/items/5", KEY).status == 200
        assert send("GET", "/usage/summary", KEY).status == 200
        assert send("GET", "/usage/summary", {}).status == 401
    assert calls(usage, "endpoint") == {"GET /items/{id}": len(sends)}


def test_graphql_and_mcp_are_tagged(run: Run) -> None:
    names = run.page(PAGE)
    usage = names["usage"]
    usage.keys.put("acme", KeyInfo(id="key_7", name="Search backend"), secret="sk_acme")
    asked = {"query": "query Hello { hello }", "operationName": "Hello"}
    for served in (names["graphql"], names["ariadne"]):
        assert TestClient(served).post("/graphql/", json=asked, headers=KEY).json() == {"data": {"hello": "hello"}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "find_item", "arguments": {"id": 5}}}
    headers = {**KEY, "accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    with TestClient(names["mcp_app"], base_url="http://127.0.0.1:8000") as client:
        assert client.post("/mcp", json=call, headers=headers).json()["result"]["structuredContent"] == {"result": "5"}
    assert calls(usage, "operation") == {"Hello": 2, "find_item": 1}
