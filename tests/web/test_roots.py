"""Where the usage app finds itself, behind proxies and under mounts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.web.hosts import exchange
from usage_middleware import Viewer
from usage_middleware.web import usage_app

if TYPE_CHECKING:
    from usage_middleware import Usage


def servers(app: Any, path: str, root_path: str) -> Any:
    """What `/openapi.json` says of where it is mounted."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": b"",
        "headers": [],
    }
    reply = asyncio.run(exchange(app, scope))
    assert reply.status == 200, reply.body
    return reply.json["servers"][0]["url"]


@pytest.mark.parametrize(
    ("path", "root_path", "mounted_at"),
    [
        ("/usage/openapi.json", "", "/usage"),
        ("/api/usage/openapi.json", "/api", "/api/usage"),  # uvicorn --root-path: in the path too
        ("/usage/openapi.json", "/api", "/api/usage"),  # a server that leaves it out of the path
    ],
)
def test_a_prefix_of_the_server(usage: Usage, path: str, root_path: str, mounted_at: str) -> None:
    app = Starlette(routes=[Mount("/usage", usage_app(usage, auth=lambda _: Viewer.organization("acme")))])
    assert servers(app, path, root_path) == mounted_at


def test_a_prefix_of_fastapi(usage: Usage) -> None:
    app = FastAPI()
    app.root_path = "/api"
    app.mount("/usage", usage_app(usage, auth=lambda _: Viewer.organization("acme")))
    assert servers(app, "/usage/openapi.json", "") == "/api/usage"
    assert servers(app, "/api/usage/openapi.json", "") == "/api/usage"


def test_two_mounts_do_not_share_anything(usage: Usage) -> None:
    mine = usage_app(usage, auth=lambda _: Viewer.organization("acme"))
    theirs = usage_app(usage, auth=lambda _: None)
    app = Starlette(routes=[Mount("/mine", mine), Mount("/theirs", theirs)])
    assert servers(app, "/mine/openapi.json", "") == "/mine"
    with pytest.raises(AssertionError, match="unauthenticated"):
        servers(app, "/theirs/openapi.json", "")


async def test_a_websocket_is_closed(usage: Usage) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    app = usage_app(usage, auth=lambda _: Viewer.organization("acme"))
    await app({"type": "websocket", "path": "/", "headers": [], "query_string": b""}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
