"""Down to the last detail the application can't tell that a middleware is around it: scope, messages, copies, memory."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import flask
import pytest
from starlette.applications import Starlette

from tests.capture.recording import Usage
from tests.capture.shells import ask_wsgi, environ, http_scope
from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.capture.call import NOWHERE, _place_of, track
from usage_middleware.capture.identity import Caller
from usage_middleware.capture.wsgi import WSGIUsageMiddleware
from usage_middleware.credentials import credential_digest

SECRET = credential_digest("sk_1")
RAW = [(b"host", b"test"), (b"x-api-key", b"sk_1")]
PREFLIGHT = [(b"host", b"test"), (b"origin", b"https://example.org"), (b"access-control-request-method", b"POST")]


async def answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def ask_raw(app: Any, method: str = "GET", headers: Any = ()) -> None:
    """One request, whose headers are these very ones."""

    async def nothing(*_: Any) -> None:
        """Never sends, and forgets what it gets."""

    asyncio.run(app(http_scope(method) | {"headers": headers}, nothing, nothing))


def once(headers: list[tuple[bytes, bytes]], read: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Headers that can be read once; `read` tells what was."""
    for name, value in headers:
        read.append(name)
        yield name, value


# --- headers that can be read once


def not_reading(scope: Any) -> None:
    """An application that does not look at its headers."""


def reading(scope: Any) -> None:
    assert list(scope["headers"]) in (RAW, PREFLIGHT)


def reading_one(scope: Any) -> None:
    assert next(iter(scope["headers"])) == RAW[0]


def replacing(scope: Any) -> None:
    """As Starlette."""
    scope["headers"] = list(scope["headers"])


def reading_a_copy(scope: Any) -> None:
    inner = dict(scope)
    inner["headers"] = dict(inner["headers"])


@pytest.mark.parametrize("read", [not_reading, reading, reading_one, replacing, reading_a_copy])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_headers_that_can_be_read_once(read: Callable[[Any], None], method: str) -> None:
    usage, seen = Usage(), list[bytes]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert seen == [], "somebody was there before"
        read(scope)
        await answer(send)

    ask_raw(UsageMiddleware(app, usage), method, headers=once(RAW, seen))
    assert usage.only.caller == SECRET


@pytest.mark.parametrize("read", [not_reading, reading, replacing])
def test_a_preflight_whose_headers_can_be_read_once(read: Callable[[Any], None]) -> None:
    usage, seen = Usage(identify=lambda request: pytest.fail("nobody is asked")), list[bytes]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert seen == []
        read(scope)
        await answer(send)

    ask_raw(UsageMiddleware(app, usage), "OPTIONS", headers=once(PREFLIGHT, seen))
    assert usage.recording.seen == []
    assert not usage.recording.reasons


def test_identify_reads_headers_that_were_read() -> None:
    usage = Usage(identify=lambda request: Caller(request.headers["x-api-key"], request.headers["host"]))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reading(scope)
        await answer(send)

    ask_raw(UsageMiddleware(app, usage), headers=once(RAW, []))
    assert usage.only.caller == ("sk_1", "test")


def test_headers_that_can_be_read_again_stay_what_they_are() -> None:
    class Own(tuple[Any, ...]):
        """A server's own kind."""

    for headers in ([*RAW], tuple(RAW), Own(RAW), dict(RAW).items()):
        usage = Usage()

        async def app(scope: Any, receive: Any, send: Any, headers: object = headers) -> None:
            assert scope["headers"] is headers
            await answer(send)

        ask_raw(UsageMiddleware(app, usage), headers=headers)
        assert usage.only.caller == SECRET


def test_headers_that_fail_when_read_are_nobodys() -> None:
    def broken() -> Iterator[tuple[bytes, bytes]]:
        yield RAW[0]
        raise RuntimeError("half of a request")

    for method in ("GET", "OPTIONS"):
        usage = Usage()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send)

        ask_raw(UsageMiddleware(app, usage), method, headers=broken())
        (seen,) = usage.recording.seen
        assert seen.caller == ("default", "(anonymous)")
        assert set(usage.recording.reasons) == {"headers unreadable"}


# --- copies


def test_a_scope_can_be_copied_deeply() -> None:
    usage, kept = Usage(), list[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.append(copy.deepcopy(scope))
        assert kept[0] == scope
        assert kept[0]["client"] is not None
        track(kept[0]).tag(project="search")
        await answer(send)

    ask_raw(UsageMiddleware(app, usage), headers=[])
    assert usage.only.tags == ("search", "home")


def test_an_environ_can_be_copied_deeply() -> None:
    usage = Usage()

    def app(environ: Any, start_response: Any) -> Any:
        track(copy.deepcopy({key: value for key, value in environ.items() if key != "wsgi.errors"})).tag(project="search")
        start_response("200 OK", [])
        return [b"ok"]

    ask_wsgi(WSGIUsageMiddleware(app, usage))
    assert usage.only.tags == ("search", "home")


def test_a_deep_copy_that_goes_further_in_is_counted_once() -> None:
    usage = Usage()
    inner = UsageMiddleware(lambda scope, receive, send: answer(send), usage)

    async def copying(scope: Any, receive: Any, send: Any) -> None:
        await inner(copy.deepcopy(scope), receive, send)

    ask_raw(UsageMiddleware(copying, usage))
    assert usage.only.status == 200


def test_a_scope_can_be_pickled_without_us() -> None:
    usage = Usage(strict=True)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        unpickled = pickle.loads(pickle.dumps(scope))
        track(unpickled).tag(colour="a name that nobody declared")
        await answer(send)

    ask_raw(UsageMiddleware(app, usage))
    assert usage.only.tags == ("(none)", "home")


# --- what the application returns, and what is malformed


def test_what_an_asgi_application_returns_is_handed_on() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> Any:
        return scope["type"]

    wrapped: Any = UsageMiddleware(app, Usage())
    for scope in (http_scope(), {"type": "websocket"}, {"type": "lifespan"}):
        assert asyncio.run(wrapped(scope, None, None)) == scope["type"]


def test_what_a_servers_send_returns_is_handed_on() -> None:
    returned: list[object] = []

    async def send(message: Any) -> object:
        return message["type"]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        returned.append(await send({"type": "http.response.start", "status": 200}))
        returned.append(await send({"type": "http.response.body"}))

    wrapped: Any = UsageMiddleware(app, Usage())
    asyncio.run(wrapped(http_scope(), None, send))
    assert returned == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize("scope", [None, {}, {"type": None}, {"type": "http"}, {"type": "http", "method": "GET"}, 5, "http"])
def test_a_malformed_scope_passes_as_it_is(scope: Any) -> None:
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    async def send(message: Any) -> None:
        """Never called."""

    wrapped: Any = UsageMiddleware(app, Usage())
    asyncio.run(wrapped(scope, None, send))
    assert seen[0] is scope
    assert seen[1:] == [None, send]


@pytest.mark.parametrize("kind", ["http", "lifespan"])
@pytest.mark.parametrize("message", [None, {}, {"type": None}, 7, {"type": "http.response.start"}, {"type": "lifespan"}])
def test_a_malformed_message_passes_as_it_is(kind: str, message: Any) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(await receive())

    wrapped: Any = UsageMiddleware(app, Usage())
    asyncio.run(wrapped(http_scope() | {"type": kind}, receive, send))
    assert sent[0] is message


def test_a_receive_that_fails_does_not_replace_what_the_application_raised() -> None:
    """It is asked whether the client has left. FastAPI's tests have one that is no `Exception`."""

    class Refused(BaseException):
        """Nobody should have asked."""

    async def receive() -> Any:
        raise Refused

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    usage = Usage()
    wrapped: Any = UsageMiddleware(app, usage)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(wrapped(http_scope(), receive, None))
    assert [seen.status for seen in usage.recording.seen] == [500]


@pytest.mark.parametrize("body", [None, 7, object()])
def test_a_wsgi_application_that_answers_with_no_iterable(body: Any) -> None:
    usage = Usage()

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return body

    wrapped: Any = WSGIUsageMiddleware(app, usage)
    assert wrapped(environ(), lambda *_: None) is body
    assert usage.only.status == 200


def test_a_wsgi_application_that_answers_with_more_than_an_iterable() -> None:
    class Response:
        """As Django's, which a caller in Python may ask for more."""

        status_code = 200
        _private = 1

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"ok"])

        def __bytes__(self) -> bytes:
            return b"Content-Type: text/plain\r\n\r\nok"

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Response()

    wrapped: Any = WSGIUsageMiddleware(app, Usage())
    body = wrapped(environ(), lambda *_: None)
    assert (body.status_code, bytes(body)) == (200, bytes(Response()))
    assert not hasattr(body, "nothing")
    assert not hasattr(body, "_private")
    assert not hasattr(body, "__len__")
    assert list(body) == [b"ok"]


def test_start_response_takes_names_and_returns_what_the_server_does() -> None:
    usage, returned = Usage(), list[object]()

    def app(environ: Any, start_response: Any) -> Any:
        returned.append(start_response(status="200 OK", headers=[], exc_info=None))
        return [b"ok"]

    wrapped: Any = WSGIUsageMiddleware(app, usage)
    list(wrapped(environ(), lambda *_: None))
    assert returned == [None]


@pytest.mark.parametrize("given", [None, 5])
def test_a_malformed_environ_passes_as_it_is(given: Any) -> None:
    app: Any = lambda environ, start_response: [environ]  # noqa: E731
    wrapped: Any = WSGIUsageMiddleware(app, Usage())
    assert wrapped(given, None) == [given]


# --- memory


def starlette() -> Any:
    app = Starlette()
    app.add_middleware(UsageMiddleware, usage=USAGE)
    app.middleware_stack = app.build_middleware_stack()
    return app


def flask_app() -> Any:
    app: Any = flask.Flask("wrapped")
    app.wsgi_app = WSGIUsageMiddleware(app.wsgi_app, USAGE)
    return app


class Bare:
    """An application that is an object."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await answer(send)


def bare() -> Any:
    app = Bare()
    ask_raw(UsageMiddleware(app, USAGE))
    return app


USAGE = Usage()


@pytest.mark.parametrize("make", [starlette, flask_app, bare])
def test_no_application_is_kept_alive_by_having_been_wrapped(make: Callable[[], Any]) -> None:
    made = [weakref.ref(make()) for _ in range(3)]
    gc.collect()
    assert [one() for one in made] == [None] * 3
    assert USAGE.capture.routes() == []


def test_routes_are_those_of_the_applications_that_are_left() -> None:
    usage = Usage()
    for number in range(40):
        app: Any = flask.Flask("wrapped")
        app.add_url_rule(f"/items{number}", view_func=lambda: "ok")
        app.wsgi_app = WSGIUsageMiddleware(app.wsgi_app, usage)
    gc.collect()
    assert [(route.method, route.template) for route in usage.capture.routes()] == [("GET", "/items39")]


def test_no_kind_of_request_is_kept_alive() -> None:
    def tracked() -> weakref.ref[type]:
        class Own:
            """A request whose class belongs to an application."""

            scope: ClassVar[dict[str, Any]] = {}

        assert track(Own()) is track(Own()) is NOWHERE
        return weakref.ref(Own)

    before = len(_place_of)
    made = [tracked() for _ in range(100)]
    gc.collect()
    assert [one() for one in made] == [None] * 100
    assert len(_place_of) <= before + 1
