"""The label of an endpoint, asked of real applications of Starlette, FastAPI and Flask."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi
import flask
import pytest
import starlette
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.capture.recording import Usage
from tests.capture.shells import Boom, ask_asgi, ask_wsgi
from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.capture.frameworks.bottle import bottle_template
from usage_middleware.capture.frameworks.starlette import RouteIndex
from usage_middleware.capture.templates import template_of
from usage_middleware.capture.wsgi import WSGIUsageMiddleware

#: Before 1.7 Starlette left no route in the scope: nothing of what a mount hides can be seen.
NEW_STARLETTE = tuple(int(part) for part in starlette.__version__.split(".")[:2]) >= (1, 7)


async def ok(request: Request) -> Response:
    return PlainTextResponse("ok")


async def raw(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application without a router; `?` anything, 404 below /missing."""
    await send({"type": "http.response.start", "status": 404 if "missing" in scope["path"] else 200, "headers": []})
    await send({"type": "http.response.body", "body": b"raw"})


def label(app: Any, path: str, method: str = "GET", **scope: Any) -> str:
    """The label of one request, the middleware around the application."""
    usage = Usage()
    ask_asgi(UsageMiddleware(app, usage), method, path, **scope)
    return usage.only.endpoint


class Hidden:
    """A middleware that does not tell what it wraps."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __call__(self, *call: Any) -> None:
        await self._inner(*call)


# --- Starlette


def starlette_app(static: Path) -> Starlette:
    class Thing(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            return PlainTextResponse("thing")

    leaf: list[BaseRoute] = [Route("/items/{id:int}", ok, methods=["GET", "DELETE"]), Route("/", ok)]
    shared = Router(leaf)
    return Starlette(
        routes=[
            Route("/", ok),
            Route("/v1/items/{id:int}", ok),
            Route("/files/{path:path}", ok),
            Route("/thing/{name}", Thing),
            Route("/plain/{x}", raw_endpoint),
            Mount("/v2", routes=leaf),
            Mount("/t/{tenant}", routes=[Mount("/p/{project:int}", routes=leaf), Route("/me", ok)]),
            Mount("/one", app=shared),
            Mount("/two/{part}", app=shared),
            Mount("/cors", app=CORSMiddleware(Starlette(routes=[Mount("/in", routes=leaf)]), allow_origins=["*"])),
            Mount("/hidden/{h}", app=Hidden(Starlette(routes=[*leaf, Mount("/deep", routes=leaf)]))),
            Mount("/static", StaticFiles(directory=static)),
            Mount("/raw/{kind}", app=raw),
            Mount("/fast", app=fastapi_app()),
            Host("{sub}.example.org", app=Router([Route("/hosted/{x}", ok)])),
            Mount("", routes=[Route("/nameless/{x}", ok)]),
        ]
    )


class _RawEndpoint:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await raw(scope, receive, send)


raw_endpoint = _RawEndpoint()

STARLETTE = {
    "/": "/",
    "/v1/items/5": "/v1/items/{id}",
    "/v1/items/x": "(unmatched)",
    "/files/a/b/c.txt": "/files/{path}",
    "/thing/a": "/thing/{name}",
    "/plain/a": "/plain/{x}",
    "/v2/items/5": "/v2/items/{id}",
    "/v2/": "/v2/",
    "/v2/nothing": "(unmatched)",
    "/t/acme/me": "/t/{tenant}/me",
    "/t/acme/p/7/items/5": "/t/{tenant}/p/{project}/items/{id}",
    "/t/acme/nothing": "(unmatched)",
    "/one/items/5": "/one/items/{id}",
    "/two/b/items/5": "/two/{part}/items/{id}",
    "/two/one/": "/two/{part}/",
    "/cors/in/items/5": "/cors/in/items/{id}",
    "/cors/nothing": "(unmatched)",
    "/hidden/a/items/5": "/hidden/{h}/items/{id}" if NEW_STARLETTE else "/hidden/{h}/{path}",
    "/static/a.txt": "/static/{path}",
    "/static/missing.txt": "/static/{path}",
    "/raw/x/y/z": "/raw/{kind}/{path}",
    "/raw/x/missing": "/raw/{kind}/{path}",
    "/nameless/5": "/nameless/{x}",
    "/nothing": "(unmatched)",
    "/one": "(unmatched)",  # redirected to /one/
    "/fast/v1/items/5": "/fast/v1/items/{id}",
    "/fast/in/5/plain": "/fast/in/{x}/plain",
    "/fast/docs": "/fast/docs",
    "/fast/nothing": "(unmatched)",
}


@pytest.fixture
def static(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("a")
    return tmp_path


@pytest.mark.parametrize(("path", "template"), STARLETTE.items())
def test_starlette(static: Path, path: str, template: str) -> None:
    assert label(starlette_app(static), path) == f"GET {template}"


def test_all_paths_of_one_starlette_in_turn(static: Path) -> None:
    """What one request leaves behind does not confuse the next."""
    usage = Usage()
    app = starlette_app(static)
    app.add_middleware(UsageMiddleware, usage=usage)
    for path in STARLETTE:
        ask_asgi(app, "GET", path)
    assert usage.labels == [f"GET {template}" for template in STARLETTE.values()]
    assert not usage.recording.reasons


@pytest.mark.parametrize("root", ["/api", "/v2", "/t/acme", "/api/"])
def test_the_deployments_prefix_is_no_part_of_it(static: Path, root: str) -> None:
    for path in ("/v1/items/5", "/t/acme/p/7/items/5", "/one/items/5", "/two/b/items/5", "/raw/x/y/z", "/hidden/a/items/5"):
        asked = label(starlette_app(static), root.rstrip("/") + path, root_path=root.rstrip("/"))
        assert asked == f"GET {STARLETTE[path]}"


def test_a_deployments_prefix_that_the_proxy_strips(static: Path) -> None:
    assert label(starlette_app(static), "/v1/items/5", root_path="/api") == "GET /v1/items/{id}"


def test_hosts(static: Path) -> None:
    assert label(starlette_app(static), "/hosted/5", headers={"host": "a.example.org"}) == "GET /hosted/{x}"


def test_a_method_that_is_not_allowed(static: Path) -> None:
    assert label(starlette_app(static), "/v2/items/5", "PATCH") == "PATCH /v2/items/{id}"
    assert label(starlette_app(static), "/t/acme/p/1/items/5", "HEAD") == "HEAD /t/{tenant}/p/{project}/items/{id}"


def test_in_the_mounted_application_alone() -> None:
    usage = Usage()
    inner = Starlette(routes=[Route("/items/{id}", ok)])
    inner.add_middleware(UsageMiddleware, usage=usage)
    ask_asgi(Starlette(routes=[Mount("/t/{tenant}", app=inner)]), "GET", "/t/acme/items/5")
    assert usage.only.endpoint == "GET /t/{tenant}/items/{id}"


def test_a_route_added_while_running() -> None:
    usage = Usage()
    app = Starlette(routes=[Route("/a", raw_endpoint)])
    wrapped = UsageMiddleware(app, usage)
    ask_asgi(wrapped, "GET", "/a")
    app.router.routes.append(Mount("/b/{x}", routes=[Route("/c", ok)]))
    ask_asgi(wrapped, "GET", "/b/1/c")
    assert usage.labels == ["GET /a", "GET /b/{x}/c"]


def test_routes_made_for_each_request_do_not_cost_a_walk_each(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[int] = []
    build = RouteIndex._build

    def counted(index: RouteIndex) -> None:
        walks.append(1)
        build(index)

    monkeypatch.setattr(RouteIndex, "_build", counted)

    async def fresh(scope: Any, receive: Any, send: Any) -> None:
        async def endpoint(request: Request) -> Response:
            return PlainTextResponse("ok")

        await Router([Route("/fresh/{x}", endpoint)])(scope, receive, send)

    usage = Usage()
    wrapped = UsageMiddleware(Starlette(routes=[Mount("/m/{y}", app=fresh)]), usage)
    for number in range(200):
        ask_asgi(wrapped, "GET", f"/m/1/fresh/{number}")
    assert set(usage.labels) == {"GET /m/{y}/fresh/{x}" if NEW_STARLETTE else "GET /m/{y}/{path}"}
    assert len(walks) < 140


def test_a_route_that_two_applications_share() -> None:
    shared = Route("/items/{item}", ok)
    apps = {f"/{name}": Starlette(routes=[Mount(f"/{name}", routes=[shared])]) for name in ("one", "two")}

    async def either(scope: Any, receive: Any, send: Any) -> None:
        await apps[scope["path"][:4]](scope, receive, send)

    usage = Usage()
    app = UsageMiddleware(either, usage)
    for path in ["/one/items/1", "/two/items/1"] * 3:
        ask_asgi(app, "GET", path)
    assert usage.labels == ["GET /one/items/{item}", "GET /two/items/{item}"] * 3


def test_no_route_in_the_scope_as_in_old_starlette(static: Path) -> None:
    """Before 1.7 the endpoint alone was there, and `scope["route"]` was not."""

    async def forgetting(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            scope.pop("route", None)
            await send(message)

        await app(scope, receive, sending)

    def endpoint() -> Any:
        async def answer(request: Request) -> Response:
            return PlainTextResponse("ok")

        return answer

    once, twice = endpoint(), endpoint()
    app = Starlette(
        routes=[
            Route("/x/{id}", once),
            Mount("/m/{y}", routes=[Route("/a/{id}", twice), Route("/b/{id}", twice)]),
            Mount("/static", StaticFiles(directory=static)),
        ]
    )
    for path, template in {
        "/x/1": "/x/{id}",
        "/m/1/a/2": "/m/{y}/a/{id}",
        "/m/1/b/2": "/m/{y}/b/{id}",
        "/static/a.txt": "/static/{path}",
        "/nothing": "(unmatched)",
    }.items():
        assert label(forgetting, path) == f"GET {template}"


def test_one_endpoint_at_two_paths() -> None:
    app = Starlette(routes=[Route("/a/{x}", ok), Route("/a/{x}/b", ok), Route("/c/{p:path}", ok)])
    assert [label(app, path) for path in ("/a/1", "/a/1/b", "/c/1/2")] == ["GET /a/{x}", "GET /a/{x}/b", "GET /c/{p}"]


# --- an inner middleware that hides the match


@pytest.mark.parametrize(("path", "expected"), [("/items/5", "GET (unknown)"), ("/nothing", "GET (unmatched)")])
def test_a_copied_scope(caplog: pytest.LogCaptureFixture, path: str, expected: str) -> None:
    class Copying:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(dict(scope), receive, send)

    app = Copying(Starlette(routes=[Route("/items/{id}", ok)]))
    usage = Usage()
    wrapped = UsageMiddleware(app, usage)
    with caplog.at_level(logging.WARNING):
        ask_asgi(wrapped, "GET", path)
        ask_asgi(wrapped, "GET", path)
    assert usage.labels == [expected] * 2
    assert caplog.text.count("copy of the scope") == (expected == "GET (unknown)")


def test_turned_away_before_the_router() -> None:
    class Limiter:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await PlainTextResponse("slow down", 429)(scope, receive, send)

    assert label(Limiter(Starlette(routes=[Route("/", ok)])), "/") == "GET (unmatched)"


# --- FastAPI


def fastapi_app(**options: Any) -> fastapi.FastAPI:
    app = fastapi.FastAPI(**options)
    inner = fastapi.APIRouter()
    nested = fastapi.APIRouter(prefix="/nested")
    shared = fastapi.APIRouter()

    def item() -> str:
        return "ok"

    def other() -> str:
        return "ok"

    app.get("/v1/items/{id}")(item)
    inner.get("/leaf/{y:path}")(item)
    inner.get("")(other)
    inner.add_route("/plain", ok)
    inner.mount("/raw", raw)
    inner.mount("/starlette/{s}", Starlette(routes=[Route("/items/{id}", ok)]))
    inner.mount("/fast", sub_fastapi())
    nested.get("/deep/{z}")(lambda: "ok")
    shared.get("/items/{id}")(lambda: "ok")
    inner.include_router(nested, prefix="/more")
    app.include_router(inner, prefix="/in/{x}")
    app.include_router(shared, prefix="/a")
    app.include_router(shared, prefix="/b/{tenant}")
    app.mount("/sub/{tenant}", sub_fastapi())
    app.mount("/raw", raw)
    app.mount("/starlette", Starlette(routes=[Route("/items/{id}", ok), Mount("/raw", app=raw)]))
    return app


def sub_fastapi() -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    router = fastapi.APIRouter(prefix="/r")
    router.get("/{q}")(lambda: "ok")
    app.include_router(router)
    app.get("/top/{q}")(lambda: "ok")
    return app


FASTAPI = {
    "/v1/items/5": "/v1/items/{id}",
    "/in/1": "/in/{x}",
    "/in/1/leaf/a/b": "/in/{x}/leaf/{y}",
    "/in/1/plain": "/in/{x}/plain",
    "/in/1/more/nested/deep/3": "/in/{x}/more/nested/deep/{z}",
    "/a/items/5": "/a/items/{id}",
    "/b/acme/items/5": "/b/{tenant}/items/{id}",
    "/sub/acme/top/5": "/sub/{tenant}/top/{q}",
    "/sub/acme/r/5": "/sub/{tenant}/r/{q}",
    "/sub/acme/docs": "/sub/{tenant}/docs",
    "/sub/acme/nothing": "(unmatched)",
    "/raw/a/b": "/raw/{path}",
    "/starlette/items/5": "/starlette/items/{id}",
    "/starlette/raw/x": "/starlette/raw/{path}",
    "/docs": "/docs",
    "/openapi.json": "/openapi.json",
    "/nothing": "(unmatched)",
    "/v1/items/": "(unmatched)",
}
#: Mounts in a router that is included: FastAPI has them since 0.137.
FASTAPI_INCLUDED_MOUNTS = {
    "/in/1/raw/a/b": "/in/{x}/raw/{path}",
    "/in/1/starlette/2/items/5": "/in/{x}/starlette/{s}/items/{id}",
    "/in/1/fast/top/5": "/in/{x}/fast/top/{q}",
    "/in/1/fast/r/5": "/in/{x}/fast/r/{q}",
    "/in/1/fast/docs": "/in/{x}/fast/docs",
}
NEW_FASTAPI = tuple(int(part) for part in fastapi.__version__.split(".")[:2]) >= (0, 137)
ALL_FASTAPI = FASTAPI | (FASTAPI_INCLUDED_MOUNTS if NEW_FASTAPI else {})


@pytest.mark.parametrize(("path", "template"), ALL_FASTAPI.items())
def test_fastapi(path: str, template: str) -> None:
    assert label(fastapi_app(), path) == f"GET {template}"


def test_all_paths_of_one_fastapi_in_turn() -> None:
    usage = Usage()
    app = fastapi_app()
    app.add_middleware(UsageMiddleware, usage=usage)
    for path in ALL_FASTAPI:
        ask_asgi(app, "GET", path)
    assert usage.labels == [f"GET {template}" for template in ALL_FASTAPI.values()]
    assert not usage.recording.reasons


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("outside", [True, False])
def test_fastapis_own_root_path(prefixed: bool, outside: bool) -> None:
    # A mount below a root path that the request does not carry is 404 in Starlette itself.
    mounted = ("/sub/acme/r/5", "/starlette/items/5") if prefixed else ()
    for path in ("/v1/items/5", "/b/acme/items/5", "/raw/a/b", "/docs", *mounted):
        usage = Usage()
        app = fastapi_app(root_path="/proxy")
        if not outside:
            app.add_middleware(UsageMiddleware, usage=usage)
        ask_asgi(UsageMiddleware(app, usage) if outside else app, "GET", "/proxy" * prefixed + path)
        assert usage.only.endpoint == f"GET {FASTAPI.get(path, '/raw/{path}')}"


def test_fastapi_refuses_a_method_and_a_parameter() -> None:
    assert label(fastapi_app(), "/a/items/5", "DELETE") == "DELETE /a/items/{id}"
    app = fastapi.FastAPI()
    router = fastapi.APIRouter()

    def item(id: int) -> int:
        return id

    router.get("/items/{id}")(item)
    app.include_router(router, prefix="/v1")
    assert label(app, "/v1/items/x") == "GET /v1/items/{id}"


@pytest.mark.skipif(not hasattr(fastapi.FastAPI, "frontend"), reason="this FastAPI serves no frontends")
def test_fastapis_frontend(static: Path) -> None:
    app = fastapi.FastAPI()
    app.frontend("/ui", directory=static)
    host = Starlette(routes=[Mount("/t/{tenant}", app=app)])
    assert label(app, "/ui/a.txt") == "GET /ui/{path}"
    assert label(app, "/ui/missing.txt") == "GET (unmatched)"
    assert label(host, "/t/acme/ui/a.txt") == "GET /t/{tenant}/{path}"


# --- Flask


def flask_app(**config: Any) -> flask.Flask:
    app = flask.Flask(__name__)
    app.config.update(config)
    outer = flask.Blueprint("outer", __name__, url_prefix="/outer/<tenant>")
    inner = flask.Blueprint("inner", __name__, url_prefix="/inner")

    def boom() -> str:
        raise Boom

    app.add_url_rule("/", "root", lambda: "ok")
    app.add_url_rule("/items/<int:id>", "item", lambda id: "ok")
    app.add_url_rule("/files/<path:path>", "file", lambda path: "ok")
    app.add_url_rule('/any/<any("a", "b"):which>/<string(length=2):lang>', "any", lambda which, lang: "ok")
    app.add_url_rule("/slash/", "slash", lambda: "ok")
    app.add_url_rule("/boom/<x>", "boom", lambda x: boom())
    app.add_url_rule("/abort/<x>", "abort", lambda x: flask.abort(403))
    inner.add_url_rule("/<int:id>", "item", lambda tenant, id: "ok")
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    return app


FLASK = {
    "/": "/",
    "/items/5": "/items/{id}",
    "/items/x": "(unmatched)",
    "/files/a/b": "/files/{path}",
    "/any/a/de": "/any/{which}/{lang}",
    "/slash": "(unmatched)",  # redirected
    "/outer/acme/inner/7": "/outer/{tenant}/inner/{id}",
    "/boom/1": "/boom/{x}",
    "/abort/1": "/abort/{x}",
    "/nothing": "(unmatched)",
}


def flask_label(app: Any, path: str, method: str = "GET", **environ: Any) -> str:
    usage = Usage()
    wrapped = WSGIUsageMiddleware(app, usage)
    with contextlib.suppress(Boom):
        ask_wsgi(wrapped, method, path, **environ)
    return usage.only.endpoint


@pytest.mark.parametrize(("path", "template"), FLASK.items())
def test_flask(path: str, template: str) -> None:
    assert flask_label(flask_app(), path) == f"GET {template}"


def test_flask_refuses_a_method() -> None:
    assert flask_label(flask_app(), "/items/5", "DELETE") == "DELETE (unmatched)"


def test_flask_lets_an_exception_through() -> None:
    app = flask_app(PROPAGATE_EXCEPTIONS=True)
    usage = Usage()
    app.wsgi_app = WSGIUsageMiddleware(app.wsgi_app, usage)  # type: ignore[method-assign]
    with pytest.raises(Boom):
        app.test_client().get("/boom/1")
    assert (usage.only.endpoint, usage.only.status) == ("GET /boom/{x}", 500)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/items/5", "GET /items/{id}"),
        ("/api/v1/items/5", "GET /api/v1/items/{id}"),
        ("/api/v1/nothing", "GET (unmatched)"),
        ("/api/v1/boom/1", "GET /api/v1/boom/{x}"),
    ],
)
@pytest.mark.parametrize("propagate", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_under_a_dispatcher(path: str, expected: str, inside: bool, propagate: bool) -> None:
    usage = Usage()
    outer, inner = flask_app(), flask_app(PROPAGATE_EXCEPTIONS=propagate)

    def wrap(app: Any) -> Any:
        return WSGIUsageMiddleware(app, usage)

    if inside:
        whole: Any = DispatcherMiddleware(wrap(outer), {"/api/v1": wrap(inner)})
    else:
        whole = wrap(DispatcherMiddleware(outer, {"/api/v1": inner}))
    try:
        ask_wsgi(whole, "GET", path)
    except Boom:
        assert propagate
    assert usage.only.endpoint == expected


def test_a_proxy_prefix_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    behind: Callable[..., Any] = ProxyFix(DispatcherMiddleware(flask_app(), {"/sub": flask_app()}), x_prefix=1)
    forwarded = {"HTTP_X_FORWARDED_PREFIX": "/proxy"}
    assert flask_label(behind, "/items/5", **forwarded) == "GET /items/{id}"
    assert flask_label(behind, "/sub/items/5", **forwarded) == "GET /sub/items/{id}"
    monkeypatch.setenv("SCRIPT_NAME", "/deployed")
    assert flask_label(behind, "/sub/items/5", SCRIPT_NAME="/deployed") == "GET /sub/items/{id}"


def test_a_mount_in_other_letters() -> None:
    app = DispatcherMiddleware(flask_app(), {"/ä".encode().decode("latin-1"): flask_app()})
    assert flask_label(app, "/ä/items/5".encode().decode("latin-1")) == "GET /ä/items/{id}"


def test_a_copied_environ() -> None:
    inner = flask_app()

    def copying(environ: Any, start_response: Any) -> Any:
        return inner(dict(environ), start_response)

    copying.app = inner  # type: ignore[attr-defined]
    assert flask_label(copying, "/items/5") == "GET (unknown)"
    assert flask_label(copying, "/nothing") == "GET (unmatched)"


# --- other frameworks, by what they leave behind


@pytest.mark.parametrize(
    ("rule", "template"),
    [
        ("/items/{id:int}", "/items/{id}"),
        ("items/{id}", "/items/{id}"),
        ("/<converter('a', b=1):name>/x", "/{name}/x"),
        ("<slug:title>/", "/{title}/"),
        (r"^articles/(?P<year>[0-9]{4})/(?P<slug>(a|b\))+)\.html$", "/articles/{year}/{slug}.html"),
        ("", "/"),
    ],
)
def test_the_syntax_of_other_frameworks(rule: str, template: str) -> None:
    assert template_of(rule) == template


def test_bottles_syntax() -> None:
    assert bottle_template("/a/<id:int>/<path:re:[a-z]+>/<x>") == "/a/{id}/{path}/{x}"


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ({"usage.route": "items/<int:id>"}, "GET /items/{id}"),
        ({"path_template": "/litestar/{id:int}"}, "GET /litestar/{id}"),
        ({"usage.route": "/a", "path_template": "/b"}, "GET /a"),
        ({}, "GET (unknown)"),
    ],
)
def test_left_in_a_scope(left: dict[str, Any], expected: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope.update(left)
        await raw(scope, receive, send)

    assert label(app, "/x") == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, "GET (unknown)") for status in (200, 204, 302, 304, 400, 401, 403, 422, 429, 500)),
        *((status, "GET (unmatched)") for status in (404, 405)),
    ],
)
def test_where_no_route_can_be_seen(caplog: pytest.LogCaptureFixture, status: int, expected: str) -> None:
    """As of any framework without an adapter."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Response(status_code=status)(scope, receive, send)

    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        start_response(f"{status} Whatever", [])
        return [b""]

    asgi, wsgi = Usage(), Usage()
    for _ in range(3):
        ask_asgi(UsageMiddleware(app, asgi), "GET", "/items/5")
        ask_wsgi(WSGIUsageMiddleware(wsgi_app, wsgi), "GET", "/items/5")
    assert asgi.labels == wsgi.labels == [expected] * 3
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        wrapped = UsageMiddleware(app, Usage())
        for _ in range(3):
            ask_asgi(wrapped, "GET", "/items/5")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (status < 400)
    assert all("usage.route" in line for line in lines)


def test_usage_route_wins_over_the_framework() -> None:
    async def handler(request: Request) -> Response:
        request.scope["usage.route"] = "/said/{so}"
        return PlainTextResponse("ok")

    assert label(Starlette(routes=[Route("/items/{id}", handler)]), "/items/5") == "GET /said/{so}"


def test_left_in_an_environ() -> None:
    class BottleRoute:
        rule = "/bottle/<id:int>"

    def app(environ: Any, start_response: Any) -> list[bytes]:
        environ["bottle.route"] = BottleRoute
        start_response("200 OK", [])
        return [b""]

    assert flask_label(app, "/bottle/5", SCRIPT_NAME="/x") == "GET /bottle/{id}"
