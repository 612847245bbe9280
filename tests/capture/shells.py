"""One small API in five frameworks, and one way to ask each of them: the shells that the behavioural suite runs through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import fastapi
import flask
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.capture.recording import Usage
from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.capture.call import track
from usage_middleware.capture.wsgi import WSGIUsageMiddleware

Headers = dict[str, str]
#: The paths of the API, as a plain application must write them down.
ROUTES = {"items": "/items/{id}", "stream": "/stream", "boom": "/boom", "status": "/status/{code}", "track": "/track"}


class Boom(Exception):
    """What the application raises."""


class Answer(NamedTuple):
    """What the client gets."""

    status: int
    body: bytes


Ask = Callable[..., Answer]
Shell = Callable[[Usage], Ask]
#: What a handler does with the request it got, so that a test can say it.
Act = Callable[[Any], None]


def nothing(request: Any) -> None:
    """The act of a handler that does nothing of its own."""


# --- asking


def ask_asgi(app: Any, method: str = "GET", path: str = "/", headers: Headers | None = None, **scope: Any) -> Answer:
    """Ask an ASGI application as a server would; raises what it raises when it has sent nothing."""
    return asyncio.run(_exchange(app, http_scope(method, path, headers, **scope)))


def http_scope(method: str = "GET", path: str = "/", headers: Headers | None = None, **more: Any) -> dict[str, Any]:
    """The scope of a request."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
    }
    scope |= {"scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": raw}
    return scope | {"server": ("test", 80), "client": ("127.0.0.1", 1)} | more


async def _exchange(app: Any, scope: dict[str, Any]) -> Answer:
    incoming = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[Any] = []
    answered = asyncio.Event()

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        await answered.wait()  # the client waits for its answer
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            answered.set()

    try:
        await app(scope, receive, send)
    except Boom:  # the server logs it; the client has its answer
        if not sent:
            raise
    return Answer(sent[0]["status"], b"".join(message.get("body", b"") for message in sent))


def environ(method: str = "GET", path: str = "/", headers: Headers | None = None, **more: Any) -> dict[str, Any]:
    """The environ of a request."""
    found: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", "SCRIPT_NAME": ""}
    setup_testing_defaults(found)
    for name, value in (headers or {}).items():
        found["HTTP_" + name.upper().replace("-", "_")] = value
    return found | more


def ask_wsgi(app: Any, method: str = "GET", path: str = "/", headers: Headers | None = None, **more: Any) -> Answer:
    """Ask a WSGI application as a server would."""
    return exchange(app, environ(method, path, headers, **more))


def exchange(app: Any, asked: dict[str, Any]) -> Answer:
    """One request through a WSGI application, with all that a server must do."""
    started: list[str] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        started[:] = [status]
        return written.append

    pieces = app(asked, start_response)
    try:
        body = b"".join(pieces)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
    return Answer(int(started[0][:3]), b"".join(written) + body)


# --- the API, in each framework


def _starlette_routes(act: Act, usage: Usage) -> list[Route]:
    async def items(request: Request) -> Response:
        return Response(b"hello")

    async def stream(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for piece in (b"ab", b"", b"cde"):
                usage.timer.advance(0.25)
                yield piece

        def late() -> None:
            usage.timer.advance(60)

        return StreamingResponse(pieces(), background=BackgroundTask(late))

    async def boom(request: Request) -> Response:
        raise Boom

    async def status(request: Request) -> Response:
        code = int(request.path_params["code"])
        return Response(b"" if code in (204, 304) else b"no", code)

    async def tracked(request: Request) -> Response:
        act(request)
        return Response(b"ok")

    handlers = {"items": items, "stream": stream, "boom": boom, "status": status, "track": tracked}
    return [Route(path, handlers[name], methods=["GET", "POST"]) for name, path in ROUTES.items()]


def starlette(usage: Usage, act: Act = nothing) -> Ask:
    """Starlette, with the middleware added to the application."""
    app = Starlette(routes=_starlette_routes(act, usage))
    app.add_middleware(UsageMiddleware, usage=usage)
    return lambda *asked, **more: ask_asgi(app, *asked, **more)


def starlette_outside(usage: Usage, act: Act = nothing) -> Ask:
    """Starlette, with the middleware around the application."""
    app = UsageMiddleware(Starlette(routes=_starlette_routes(act, usage)), usage)
    return lambda *asked, **more: ask_asgi(app, *asked, **more)


def fast(usage: Usage, act: Act = nothing) -> Ask:
    """FastAPI, with the routes in a router included."""
    app = fastapi.FastAPI()
    router = fastapi.APIRouter()
    for route in _starlette_routes(act, usage):
        router.add_api_route(route.path, _annotated(route.endpoint), methods=["GET", "HEAD", "POST"])
    app.include_router(router)
    app.add_middleware(UsageMiddleware, usage=usage)
    return lambda *asked, **more: ask_asgi(app, *asked, **more)


def _annotated(endpoint: Any) -> Any:
    async def answer(request: fastapi.Request) -> fastapi.Response:
        found: fastapi.Response = await endpoint(request)
        return found

    answer.__annotations__ = {"request": fastapi.Request, "return": fastapi.Response}
    return answer


def plain_asgi(usage: Usage, act: Act = nothing) -> Ask:
    """An ASGI application by hand, which leaves its template under `usage.route`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        name, _, rest = scope["path"][1:].partition("/")
        status, pieces = _plain(name, rest, scope, act, usage)
        await receive()
        await send({"type": "http.response.start", "status": status, "headers": []})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
        usage.timer.advance(60)

    wrapped = UsageMiddleware(app, usage)
    return lambda *asked, **more: ask_asgi(wrapped, *asked, **more)


def _plain(name: str, rest: str, notes: Any, act: Act, usage: Usage) -> tuple[int, Iterable[bytes]]:
    if name not in ROUTES:
        return 404, [b"none"]
    notes["usage.route"] = ROUTES[name]
    if name == "boom":
        raise Boom
    if name == "track":
        act(notes)
    if name == "status":
        return int(rest), [] if int(rest) in (204, 304) else [b"no"]
    return 200, _pieces(usage) if name == "stream" else [b"hello" if name == "items" else b"ok"]


def _pieces(usage: Usage) -> Iterator[bytes]:
    for piece in (b"ab", b"", b"cde"):
        usage.timer.advance(0.25)
        yield piece


def flask_shell(usage: Usage, act: Act = nothing) -> Ask:
    """Flask, between two validators."""
    app = flask.Flask(__name__)

    def items(id: str) -> flask.Response:
        return flask.Response(b"hello")

    def stream() -> flask.Response:
        return flask.Response(_pieces(usage))

    def boom() -> flask.Response:
        raise Boom

    def status(code: int) -> flask.Response:
        response = flask.Response(b"" if code in (204, 304) else b"no", code)
        if code in (204, 304):
            del response.headers["Content-Type"]
        return response

    def tracked() -> flask.Response:
        act(flask.request)
        return flask.Response(b"ok")

    views: dict[str, Any] = {"items": items, "stream": stream, "boom": boom, "status": status, "track": tracked}
    for name, path in ROUTES.items():
        rule = path.replace("{id}", "<id>").replace("{code}", "<int:code>")
        app.add_url_rule(rule, name, views[name], methods=["GET", "POST"])
    return _validated(app, usage)


def plain_wsgi(usage: Usage, act: Act = nothing) -> Ask:
    """A WSGI application by hand, between two validators."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        name, _, rest = environ["PATH_INFO"][1:].partition("/")
        status, pieces = _plain(name, rest, environ, act, usage)
        start_response(f"{status} Whatever", [] if status in (204, 304) else [("Content-Type", "text/plain")])
        return pieces

    return _validated(app, usage)


def _validated(app: Any, usage: Usage) -> Ask:
    wrapped = validator(WSGIUsageMiddleware(validator(app), usage))
    return lambda *asked, **more: ask_wsgi(wrapped, *asked, **more)


ASGI_SHELLS = {"starlette": starlette, "starlette-outside": starlette_outside, "fastapi": fast, "asgi": plain_asgi}
WSGI_SHELLS = {"flask": flask_shell, "wsgi": plain_wsgi}
SHELLS = ASGI_SHELLS | WSGI_SHELLS

__all__ = ["ASGI_SHELLS", "SHELLS", "WSGI_SHELLS", "Answer", "Boom", "ask_asgi", "ask_wsgi", "environ", "exchange", "track"]
