"""Litestar's own middlewares run after the match: the usage middleware among them counts what matches nothing all the same."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest

from tests.capture.recording import Usage
from usage_middleware import Usage as RealUsage
from usage_middleware.capture.asgi import UsageMiddleware

litestar = pytest.importorskip("litestar")


def app(usage: Usage, kind: str) -> Any:
    from litestar.middleware import DefineMiddleware

    @litestar.get("/items/{id:int}", sync_to_thread=False)
    def items() -> str:
        return "ok"

    middleware: Any = (
        DefineMiddleware(UsageMiddleware, usage=usage) if kind == "define" else functools.partial(UsageMiddleware, usage=usage)
    )
    return litestar.Litestar([items], middleware=[middleware], openapi_config=None)


@pytest.mark.parametrize("kind", ["define", "partial"])
@pytest.mark.filterwarnings("ignore")
def test_what_matches_nothing_is_counted(kind: str) -> None:
    from litestar.testing import TestClient

    usage = Usage()
    with TestClient(app(usage, kind)) as client:
        for path in ("/nothing", "/items/5", "/nothing"):
            client.get(path)
        assert client.put("/items/5").status_code == 405
    assert usage.labels == ["GET (unmatched)", "GET /items/{id}", "GET (unmatched)", "PUT (unmatched)"]
    assert [seen.status for seen in usage.recording.seen] == [404, 200, 404, 405]


def test_a_usage_is_copied_as_itself() -> None:
    """Litestar copies a router with what its middlewares are given."""
    with RealUsage("redis://127.0.0.1:1") as usage:
        assert copy.deepcopy({"usage": usage}) == {"usage": usage}


@pytest.mark.filterwarnings("ignore")
def test_of_a_router_it_stays_with_its_routes() -> None:
    from litestar.middleware import DefineMiddleware
    from litestar.testing import TestClient

    @litestar.get("/in", sync_to_thread=False)
    def inside() -> str:
        return "ok"

    @litestar.get("/out", sync_to_thread=False)
    def outside() -> str:
        return "ok"

    usage = Usage()
    router = litestar.Router("/r", route_handlers=[inside], middleware=[DefineMiddleware(UsageMiddleware, usage=usage)])
    with TestClient(litestar.Litestar([router, outside], openapi_config=None)) as client:
        for path in ("/out", "/r/in", "/nothing"):
            client.get(path)
    assert usage.labels == ["GET /r/in"]
