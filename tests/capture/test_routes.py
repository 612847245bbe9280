"""The application's own routes, and which of them its schema lists, without a request having been made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastapi
import flask
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.capture.recording import Usage
from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.capture.frameworks import routes
from usage_middleware.capture.wsgi import WSGIUsageMiddleware


async def ok(request: Request) -> Response:
    return PlainTextResponse("ok")


class Thing(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return PlainTextResponse("thing")

    async def delete(self, request: Request) -> Response:
        return PlainTextResponse("gone")


async def raw(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError


def starlette_app(static: Path) -> Starlette:
    return Starlette(
        routes=[
            Route("/", ok),
            Route("/items/{id:int}", ok, methods=["POST", "GET"]),
            Route("/hidden", ok, include_in_schema=False),
            Route("/thing/{x}", Thing),
            Route("/head", ok, methods=["HEAD"]),
            Route("/options", ok, methods=["OPTIONS"]),
            WebSocketRoute("/ws", raw),
            Mount("/static", StaticFiles(directory=static)),
            Mount("/raw", raw),
            Mount("/t/{tenant}", app=GZipMiddleware(Starlette(routes=[Route("/me", ok)]))),
        ]
    )


STARLETTE = [
    ("GET", "/"),
    ("GET", "/items/{id}"),
    ("POST", "/items/{id}"),
    ("GET", "/hidden"),
    ("DELETE", "/thing/{x}"),
    ("GET", "/thing/{x}"),
    ("HEAD", "/head"),
    ("OPTIONS", "/options"),
    ("GET", "/t/{tenant}/me"),
]


def plain(found: list[Any]) -> list[tuple[str, str]]:
    """Routes of which no schema tells."""
    assert not any(route.public for route in found)
    return [(route.method, route.template) for route in found]


def test_starlette(tmp_path: Path) -> None:
    assert plain(routes(starlette_app(tmp_path))) == STARLETTE


def test_of_what_a_middleware_wraps(tmp_path: Path) -> None:
    usage = Usage(exclude=["/", "/items/*"])
    app = starlette_app(tmp_path)
    app.add_middleware(UsageMiddleware, usage=usage)
    assert usage.capture.routes() == []
    app.middleware_stack = app.build_middleware_stack()
    assert plain(usage.capture.routes()) == [pair for pair in STARLETTE if not pair[1].startswith("/items") and pair[1] != "/"]


def test_fastapi() -> None:
    app = fastapi.FastAPI()
    router = fastapi.APIRouter(prefix="/in")
    nested = fastapi.APIRouter()
    hidden = fastapi.APIRouter()
    sub = fastapi.FastAPI()

    def handler() -> str:
        return "ok"

    app.get("/items/{id}")(handler)
    app.post("/items/{id}")(handler)
    app.get("/secret", include_in_schema=False)(handler)
    nested.put("/leaf/{x:path}")(handler)
    nested.get("/quiet", include_in_schema=False)(handler)
    hidden.get("/h")(handler)
    sub.get("/top")(handler)
    router.include_router(nested, prefix="/nested")
    app.include_router(router, prefix="/v1")
    app.include_router(hidden, include_in_schema=False)
    app.mount("/sub", sub)
    app.add_route("/plain", ok)
    router.add_route("/also/plain", ok)
    found = routes(app)
    assert [route[:2] for route in found if route.public] == [
        ("GET", "/items/{id}"),
        ("POST", "/items/{id}"),
        ("PUT", "/v1/in/nested/leaf/{x}"),
        ("GET", "/sub/top"),
    ]
    assert {route.template for route in found if not route.public} >= {
        "/secret",
        "/v1/in/nested/quiet",
        "/h",
        "/plain",
        "/openapi.json",
        "/docs",
    }


def test_the_schema_is_seen_by_a_middleware_that_is_added() -> None:
    for app, public in ((fastapi.FastAPI(), True), (fastapi.FastAPI(openapi_url=None), False)):
        usage = Usage()
        app.get("/top")(lambda: "ok")
        app.add_middleware(UsageMiddleware, usage=usage)
        app.middleware_stack = app.build_middleware_stack()
        assert [route.public for route in usage.capture.routes() if route.template == "/top"] == [public]


def test_a_schema_that_nobody_may_read_makes_nothing_public() -> None:
    app, closed, opened = fastapi.FastAPI(openapi_url=None), fastapi.FastAPI(openapi_url=None), fastapi.FastAPI()
    for one in (app, closed, opened):
        one.get("/top")(lambda: "ok")
    app.mount("/closed", closed)
    app.mount("/opened", GZipMiddleware(opened))
    app.mount("/plain", Starlette(routes=[Route("/top", ok)]))
    assert [route[:2] for route in routes(GZipMiddleware(app)) if route.public] == [("GET", "/opened/top")]
    assert {route.template for route in routes(app)} >= {"/top", "/closed/top", "/opened/top", "/plain/top"}


def test_the_usage_app_is_no_route_of_the_application() -> None:
    from usage_middleware import Usage as RealUsage
    from usage_middleware.web import mount_usage, usage_app
    from usage_middleware.web.flask import usage_blueprint

    usage = RealUsage("redis://nowhere.invalid")
    app, flask_app = fastapi.FastAPI(openapi_url=None), flask.Flask(__name__)
    mount_usage(app, "/usage", usage, auth=lambda _: None)
    app.mount("/again", usage_app(usage, auth=lambda _: None))
    flask_app.register_blueprint(usage_blueprint(usage, auth=lambda _: None), url_prefix="/usage")
    assert routes(app) == []
    assert routes(flask_app) == []


def test_flask() -> None:
    usage = Usage()
    app, other = flask.Flask(__name__), flask.Flask(__name__)
    blueprint = flask.Blueprint("b", __name__, url_prefix="/b/<tenant>", static_folder=".")

    def view(**_: Any) -> str:
        return "ok"

    def hidden() -> str:
        return "ok"

    app.add_url_rule("/items/<int:id>", "item", view, methods=["GET", "POST"])
    app.add_url_rule("/options", "options", view, methods=["OPTIONS"], provide_automatic_options=False)
    app.add_url_rule("/hidden", "hidden", hidden)
    app.add_url_rule("/built", "built", build_only=True)
    blueprint.add_url_rule("/x", "x", view)
    app.register_blueprint(blueprint)
    other.add_url_rule("/y", "y", view)
    expected = [
        ("GET", "/items/{id}"),
        ("POST", "/items/{id}"),
        ("OPTIONS", "/options"),
        ("GET", "/hidden"),
        ("GET", "/b/{tenant}/x"),
    ]
    assert plain(routes(app)) == expected
    app.wsgi_app = WSGIUsageMiddleware(DispatcherMiddleware(app.wsgi_app, {"/o": other}), usage)  # type: ignore[method-assign]
    assert plain(usage.capture.routes()) == [*expected, ("GET", "/o/y")]
    assert routes(app.wsgi_app) == usage.capture.routes()


def test_of_something_else() -> None:
    assert routes(raw) == []
    assert routes(None) == []
