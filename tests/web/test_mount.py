"""`mount_usage`: the usage API under a path, with and without the slash at its end; and what a plain mount does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import RedirectResponse
from starlette.routing import Mount, Route, Router

from tests.web.conftest import ACME
from tests.web.hosts import Api, Host, exchange, over_asgi
from usage_middleware import UsageMiddleware
from usage_middleware.errors import ConfigurationError
from usage_middleware.report.reports import VIEWS
from usage_middleware.web import KeyAuth, mount_usage, usage_app

if TYPE_CHECKING:
    from usage_middleware import Usage

APPS = pytest.mark.parametrize("make", [Starlette, FastAPI])


def asked(app: Any, prefix: str = "/usage") -> Api:
    return Api(Host("", prefix, over_asgi), over_asgi(app), ACME)


@APPS
@pytest.mark.parametrize("path", ["/usage", "/my/own/usage", "/t/{tenant}/usage"])
def test_with_and_without_the_slash(usage: Usage, make: Callable[[], Any], path: str) -> None:
    app = make()
    mount_usage(app, path, usage, auth=KeyAuth(usage.keys), cache_seconds=0)
    api = asked(UsageMiddleware(app, usage), path.replace("{tenant}", "acme"))
    for under in ("", "/", "?timeframe=7d", "/summary", "/summary/"):
        for method in ("GET", "HEAD"):
            assert api.call(method, under).status == 200
    assert api.get("").json["usage"]["requests"] == 0
    assert api.with_key(None).get("").status == 401
    assert api.call("POST", "").status == 405
    assert api.get("/openapi.json").json["servers"] == [{"url": api.host.prefix}]
    assert usage.flush()
    assert usage.reader.summary().total_calls == 0


@pytest.mark.parametrize(("path", "root"), [("/usage", ""), ("/api/usage", "/api"), ("/usage", "/api"), ("/usage", "/us")])
def test_behind_a_prefix(usage: Usage, path: str, root: str) -> None:
    app = FastAPI()
    mount_usage(app, "/usage", usage, auth=KeyAuth(usage.keys))
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": root,
        "query_string": b"",
        "headers": [(b"x-api-key", ACME.encode())],
    }
    reply = asyncio.run(exchange(app, scope))
    assert (reply.status, reply.json["success"]) == (200, True)


@APPS
def test_what_is_no_path_or_no_application_is_refused(usage: Usage, make: Callable[[], Any]) -> None:
    for path in ("usage", "/usage/", "/", "", None):
        with pytest.raises(ConfigurationError, match="path"):
            mount_usage(make(), path, usage, auth=KeyAuth(usage.keys))  # type: ignore[arg-type]
    for app in (APIRouter(), Router(), None, usage):
        with pytest.raises(ConfigurationError, match="application"):
            mount_usage(app, "/usage", usage, auth=KeyAuth(usage.keys))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="auth"):
        mount_usage(make(), "/usage", usage, auth=None)


def test_it_has_the_options_of_usage_app(usage: Usage) -> None:
    app = Starlette()
    mount_usage(app, "/usage", usage, auth=KeyAuth(usage.keys), limit="1/day")
    assert [asked(app).get("").status for _ in range(2)] == [200, 429]
    with pytest.raises(TypeError, match="nonsense"):
        mount_usage(app, "/usage", usage, auth=KeyAuth(usage.keys), nonsense=1)  # type: ignore[call-arg]


# A plain mount leaves the path without the slash to the router.


def plain(usage: Usage, auth: Any) -> Any:
    app = FastAPI()
    app.mount("/usage", usage_app(usage, auth=auth))
    return app


def nested(usage: Usage, auth: Any) -> Any:
    inner = Mount("/usage", usage_app(usage, auth=auth), middleware=[Middleware(GZipMiddleware)])
    app = Starlette(routes=[Mount("/t/{tenant}", routes=[Mount("/my", Starlette(routes=[inner]))])])
    app.add_middleware(GZipMiddleware)
    return app


@pytest.mark.parametrize(("make", "prefix"), [(plain, "/usage"), (nested, "/t/acme/my/usage")])
def test_its_redirect_is_not_counted(usage: Usage, make: Callable[[Any, Any], Any], prefix: str) -> None:
    app = make(usage, KeyAuth(usage.keys))
    for api in (asked(UsageMiddleware(app, usage), prefix), asked(app, prefix)):
        for method in ("GET", "HEAD", "POST"):
            reply = api.call(method, "")
            assert (reply.status, reply.headers["location"]) == (307, f"http://testserver{prefix}/")
        assert api.get("?timeframe=7d").status == 307
    inside = make(usage, KeyAuth(usage.keys))
    inside.add_middleware(UsageMiddleware, usage=usage)
    asked(inside, prefix).get("")
    assert usage.flush()
    assert usage.reader.summary().total_calls == 0
    keys = usage.reader.by_key(org="acme").keys or []
    assert [key.last_activity for key in keys] == [None, None]


def test_other_redirects_are_counted(usage: Usage) -> None:
    async def away(_: Any) -> Any:
        return RedirectResponse("/elsewhere")

    app = Starlette(
        routes=[
            Mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys))),
            Mount("/other", Router()),
            Route("/away", away),
            Route("/slashed/", away),
        ]
    )
    api = asked(UsageMiddleware(app, usage), "")
    assert [api.get(path).status for path in ("/other", "/away", "/slashed")] == [307, 307, 307]
    assert api.get("/usages").status == 404
    assert usage.flush()
    assert usage.reader.summary().total_calls == 4


def test_every_view_is_there(usage: Usage) -> None:
    app = FastAPI()
    mount_usage(app, "/usage", usage, auth=KeyAuth(usage.keys))
    assert [asked(app).get(view.path).status for view in VIEWS] == [200] * len(VIEWS)
    assert "/usage" not in str(app.openapi()["paths"])
