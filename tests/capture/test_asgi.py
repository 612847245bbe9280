"""What is ASGI's own: messages, clients that leave, files, websockets, lifespan, async identify."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import fastapi
import flask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from tests.capture.recording import Broken, Recording, Usage
from tests.capture.shells import Boom, ask_asgi, http_scope
from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.capture.call import track
from usage_middleware.capture.identity import Caller
from usage_middleware.capture.wsgi import WSGIUsageMiddleware
from usage_middleware.errors import ConfigurationError

Messages = list[dict[str, Any]]
START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
REQUEST: dict[str, Any] = {"type": "http.request", "body": b"", "more_body": False}
GONE: dict[str, Any] = {"type": "http.disconnect"}


def body(data: Any, **more: Any) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data} | more


def talk(app: Any, usage: Usage, incoming: Messages | None = None, scope: dict[str, Any] | None = None) -> Messages:
    """Run one request through the middleware with these messages from the server; the messages it got back."""
    sent: Messages = []
    waiting = list([REQUEST] if incoming is None else incoming)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(_called(UsageMiddleware(app, usage), http_scope() if scope is None else scope, receive, send))
    return sent


async def _called(app: Any, *call: Any) -> None:
    await app(*call)


def sending(*messages: dict[str, Any]) -> Callable[..., Awaitable[None]]:
    """An application that sends these messages."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


# --- messages


def test_messages_are_the_very_objects() -> None:
    messages = [START, body(b"ab", more_body=True), body(b"c")]
    sent = talk(sending(*messages), usage := Usage())
    assert [id(message) for message in sent] == [id(message) for message in messages]
    assert usage.only.sent == 3


@pytest.mark.parametrize("last", [{"type": "http.response.body"}, body(b"", more_body=False), body(b"")])
def test_a_missing_more_body_is_false(last: dict[str, Any]) -> None:
    usage = Usage()
    talk(sending(START, body(b"ab", more_body=True), last), usage)
    assert usage.only.sent == 2


def test_any_bytes() -> None:
    usage = Usage()
    pieces = [bytearray(b"abc"), memoryview(b"de"), memoryview(b"fghi").cast("H"), b""]
    talk(sending(START, *(body(piece, more_body=True) for piece in pieces), body(b"j")), usage)
    assert usage.only.sent == 10


def test_it_is_recorded_on_the_last_body_not_when_the_application_returns() -> None:
    usage = Usage()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        usage.timer.advance(0.5)
        await send(body(b"ab"))
        assert len(usage.recording.seen) == 1
        usage.timer.advance(60)

    talk(app, usage)
    assert usage.only.latency_us == 500_000


def test_the_last_byte_is_sent_when_the_server_took_it() -> None:
    usage = Usage()

    async def slow(message: Any) -> None:
        usage.timer.advance(0.125)

    async def receive() -> Any:
        return REQUEST

    asyncio.run(_called(UsageMiddleware(sending(START, body(b"a")), usage), http_scope(), receive, slow))
    assert usage.only.latency_us == 250_000


def test_trailers_and_early_hints_pass() -> None:
    usage = Usage()
    messages = [
        {"type": "http.response.early_hint", "links": []},
        START | {"trailers": True},
        body(b"ab"),
        {"type": "http.response.trailers", "headers": [], "more_trailers": False},
    ]
    assert talk(sending(*messages), usage) == messages
    assert usage.only.sent == 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_that_the_server_sends_by_its_path(method: str) -> None:
    usage = Usage()
    start = START | {"headers": [(b"Content-Length", b"1234")]}
    talk(sending(start, {"type": "http.response.pathsend", "path": "/x"}), usage, scope=http_scope(method))
    assert usage.only.sent == (1234 if method == "GET" else 0)


def test_a_file_response_over_pathsend(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await FileResponse(tmp_path / "a.txt")(scope, receive, send)

    usage = Usage()
    talk(app, usage, scope=http_scope(extensions={"http.response.pathsend": {}}))
    assert usage.only.sent == 5
    usage = Usage()
    assert b"".join(message.get("body", b"") for message in talk(app, usage)) == b"hello"
    assert usage.only.sent == 5


def test_zero_copy_send() -> None:
    usage = Usage()
    piece = {"type": "http.response.zerocopysend", "file": 3, "count": 7}
    talk(sending(START, piece | {"more_body": True}, piece), usage)
    assert usage.only.sent == 14


@pytest.mark.parametrize("message", [{}, {"type": "http.response.body", "body": 7}, START | {"status": "x"}])
def test_a_message_that_is_none_still_passes(message: dict[str, Any]) -> None:
    usage = Usage()
    sent = talk(sending(START, message, body(b"ab")), usage)
    assert sent == [START, message, body(b"ab")]
    assert [seen.status for seen in usage.recording.seen] == [200]


@pytest.mark.parametrize(("status", "counted"), [(100, 100), (999, 999), (99, 500), (-5, 500), (1000, 500), (10**20, 500)])
def test_what_is_no_status_is_a_500(status: int, counted: int) -> None:
    usage = Usage()
    talk(sending(START | {"status": status}, body(b"ab")), usage)
    assert usage.only.status == counted


@pytest.mark.parametrize(("length", "sent"), [(b"1" + b"0" * 30, 10**12), (b"-7", 0)])
def test_a_length_that_no_file_has(length: bytes, sent: int) -> None:
    usage = Usage()
    start = START | {"headers": [(b"content-length", length)]}
    talk(sending(start, {"type": "http.response.pathsend", "path": "/x"}), usage)
    assert usage.only.sent == sent


def test_a_response_that_never_ends_is_counted_when_the_application_returns() -> None:
    usage = Usage()
    talk(sending(START | {"status": 206}, body(b"ab", more_body=True)), usage)
    assert (usage.only.status, usage.only.sent) == (206, 2)


def test_no_response_at_all_is_a_500() -> None:
    usage = Usage()
    talk(sending(), usage)
    assert usage.only.status == 500


MESSAGES = st.lists(
    st.one_of(
        st.builds(lambda status: START | {"status": status}, st.integers(100, 599)),
        st.builds(lambda data, more: body(data, more_body=more), st.binary(max_size=20), st.booleans()),
        st.just({"type": "http.response.trailers", "headers": []}),
        st.just({"type": "whatever", 7: object()}),
    ),
    max_size=8,
)


@given(MESSAGES, st.sampled_from(["GET", "HEAD", "POST"]))
def test_any_messages_pass_and_count_once(messages: Messages, method: str) -> None:
    usage = Usage()
    sent = talk(sending(*messages), usage, scope=http_scope(method))
    assert len(sent) == len(messages)
    assert all(one is other for one, other in zip(sent, messages, strict=True))
    assert len(usage.recording.seen) == 1
    assert 0 <= usage.only.sent <= sum(len(message.get("body", b"")) for message in messages)


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_bytes_are_those_that_were_sent(pieces: list[bytes]) -> None:
    usage = Usage()
    talk(sending(START, *(body(piece, more_body=True) for piece in pieces), body(b"")), usage)
    assert usage.only.sent == sum(map(len, pieces))


# --- exceptions and clients that leave


@pytest.mark.parametrize("error", [Boom(), ValueError("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_an_exception_passes_unchanged(error: BaseException) -> None:
    usage = Usage()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    async def caught() -> BaseException | None:
        try:
            await UsageMiddleware(app, usage)(http_scope(), None, None)
        except BaseException as found:
            return found
        return None

    assert asyncio.run(caught()) is error
    assert usage.only.status == 500


def test_an_exception_after_the_start_keeps_the_status() -> None:
    usage = Usage()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"ab", more_body=True))
        raise Boom

    with pytest.raises(Boom):
        talk(app, usage)
    assert (usage.only.status, usage.only.sent) == (200, 2)


def test_a_send_that_fails_passes_and_counts() -> None:
    usage = Usage()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        asyncio.run(_called(UsageMiddleware(sending(START, body(b"a")), usage), http_scope(), None, send))
    assert usage.only.status == 200


def test_a_client_that_left_before_the_response() -> None:
    usage = Usage()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() is GONE
        await PlainTextResponse("too late")(scope, receive, send)

    talk(app, usage, [GONE])
    assert usage.only.status == 499


def test_a_client_that_left_and_got_no_response() -> None:
    usage = Usage()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    talk(app, usage, [GONE])
    assert usage.only.status == 499


def test_a_client_that_left_later_keeps_the_status() -> None:
    usage = Usage()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START | {"status": 201})
        await receive()

    talk(app, usage, [GONE])
    assert usage.only.status == 201


@pytest.mark.parametrize(
    "error",
    [ClientDisconnect(), asyncio.CancelledError(), BaseExceptionGroup("x", [asyncio.CancelledError(), ClientDisconnect()])],
)
def test_what_is_raised_when_a_client_leaves_is_a_499(error: BaseException) -> None:
    usage = Usage()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    with pytest.raises(type(error)):
        talk(app, usage, [GONE])
    assert usage.only.status == 499


def test_a_group_with_another_error_is_a_500() -> None:
    usage = Usage()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise BaseExceptionGroup("x", [asyncio.CancelledError(), Boom()])

    with pytest.raises(BaseExceptionGroup):
        talk(app, usage)
    assert usage.only.status == 500


async def test_a_task_that_cancels_itself_is_the_500_that_its_client_sees() -> None:
    usage = Usage()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def silent() -> Any:
        await asyncio.Event().wait()

    task = asyncio.create_task(_called(UsageMiddleware(app, usage), http_scope(), silent, None))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert usage.only.status == 500


def test_a_cancelled_future_that_is_awaited_is_a_500() -> None:
    usage = Usage()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        talk(app, usage, [{"type": "http.request"}])
    assert usage.only.status == 500


@pytest.mark.parametrize("identify", [None, "async"])
async def test_a_request_that_the_server_cancels_when_its_client_left_is_a_499(identify: str | None) -> None:
    async def who(request: Any) -> Caller:
        await asyncio.sleep(0)
        return Caller("acme", "key_7")

    usage = Usage(identify=who if identify else None)
    inside = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inside.set()
        await asyncio.Event().wait()

    unread = [{"type": "http.request"}, GONE]

    async def receive() -> Any:
        return unread.pop(0)

    task = asyncio.create_task(_called(UsageMiddleware(app, usage), http_scope(), receive, None))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert usage.only.status == 499
    assert usage.only.caller == (("acme", "key_7") if identify else ("default", "(anonymous)"))


def test_the_body_of_a_client_that_left_in_starlette() -> None:
    async def handler(request: Request) -> Response:
        await request.body()
        raise AssertionError

    usage = Usage()
    with pytest.raises(ClientDisconnect):
        talk(Starlette(routes=[Route("/", handler, methods=["POST"])]), usage, [GONE], http_scope("POST"))
    assert usage.only.status == 499


# --- async identify


def test_an_async_identify_is_awaited_after_the_last_body() -> None:
    order: list[str] = []

    async def identify(request: Any) -> Caller:
        order.append("asked")
        await asyncio.sleep(0)
        usage.timer.advance(60)
        return Caller("acme", request.state.key)

    usage = Usage(identify=identify)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"key": "key_7"}
        await send(START)
        usage.timer.advance(1)
        await send(body(b"ab"))
        order.append("returned")

    talk(app, usage)
    assert (usage.only.caller, usage.only.latency_us) == (("acme", "key_7"), 1_000_000)
    assert order == ["asked", "returned"]


def test_a_plain_function_may_return_an_awaitable() -> None:
    async def found() -> Caller:
        return Caller("acme", "key_7")

    usage = Usage(identify=lambda request: found())
    talk(sending(START, body(b"")), usage)
    assert usage.only.caller == ("acme", "key_7")


def test_an_async_identify_that_raises() -> None:
    async def identify(request: Any) -> None:
        raise Boom

    usage = Usage(identify=identify)
    assert talk(sending(START, body(b"")), usage) == [START, body(b"")]
    assert [seen.caller for seen in usage.recording.seen] == [("default", "(anonymous)")]
    assert usage.recording.reasons == {"identify raised": 1}


async def test_a_request_cancelled_while_identify_is_awaited_counts() -> None:
    asked = asyncio.Event()

    async def identify(request: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    usage = Usage(identify=identify)

    async def send(message: Any) -> None:
        pass

    task = asyncio.create_task(_called(UsageMiddleware(sending(START, body(b"")), usage), http_scope(), None, send))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert usage.only.status == 200


def test_identify_reads_the_state_that_a_handler_left() -> None:
    async def handler(request: Request) -> Response:
        request.state.tenant = "acme"
        return PlainTextResponse("ok")

    usage = Usage(identify=lambda request: Caller(request.state.tenant, getattr(request.state, "key", "none")))
    ask_asgi(UsageMiddleware(Starlette(routes=[Route("/", handler)]), usage))
    assert usage.only.caller == ("acme", "none")


def test_a_dependency_identifies_in_fastapi() -> None:
    usage = Usage()
    app = fastapi.FastAPI()

    def authenticated(request: fastapi.Request) -> str:
        track(request).identify(org="acme", key="key_7")
        return "acme"

    authenticated.__annotations__ = {"request": fastapi.Request, "return": str}

    def handler(org: str = fastapi.Depends(authenticated)) -> str:
        return org

    app.get("/me")(handler)
    app.add_middleware(UsageMiddleware, usage=usage)
    assert ask_asgi(app, "GET", "/me").body == b'"acme"'
    assert usage.only.caller == ("acme", "key_7")


# --- with other middlewares


def test_background_tasks_are_no_latency() -> None:
    usage = Usage()

    async def handler(request: Request) -> Response:
        tasks = BackgroundTasks()
        tasks.add_task(usage.timer.advance, 60)
        tasks.add_task(lambda: track(request).tag(project="late"))
        return PlainTextResponse("ok", background=tasks)

    ask_asgi(UsageMiddleware(Starlette(routes=[Route("/", handler)]), usage))
    assert [(seen.latency_us, seen.tags) for seen in usage.recording.seen] == [(0, ("(none)", "home"))]
    assert usage.recording.reasons == {"tag after the last byte of the response": 1}


@pytest.mark.parametrize("outside", [True, False])
def test_gzip_outside_and_inside(outside: bool) -> None:
    """Bytes are those that leave this middleware, also where the next one changes messages in place."""
    usage = Usage()

    async def handler(request: Request) -> Response:
        return PlainTextResponse("a" * 10_000)

    app: Any = Starlette(routes=[Route("/", handler)])
    app = GZipMiddleware(UsageMiddleware(app, usage)) if outside else UsageMiddleware(GZipMiddleware(app), usage)
    answer = ask_asgi(app, "GET", "/", {"accept-encoding": "gzip"})
    assert usage.only.sent == (10_000 if outside else len(answer.body))


def test_under_a_base_http_middleware() -> None:
    usage = Usage()

    async def dispatch(request: Request, call_next: Any) -> Any:
        track(request).tag(project="p")
        return await call_next(request)

    app = Starlette(routes=[Route("/items/{id}", lambda request: PlainTextResponse("ok"))])
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    app.add_middleware(UsageMiddleware, usage=usage)
    assert ask_asgi(app, "GET", "/items/5").body == b"ok"
    assert (usage.only.endpoint, usage.only.tags[0]) == ("GET /items/{id}", "p")


def test_installed_twice_counts_once() -> None:
    usage = Usage()
    inner = Starlette(routes=[Route("/items/{id}", lambda request: PlainTextResponse("ok"))])
    inner.add_middleware(UsageMiddleware, usage=usage)
    outer = Starlette(routes=[Mount("/v1", app=inner)])
    outer.add_middleware(UsageMiddleware, usage=usage)
    outer.add_middleware(UsageMiddleware, usage=usage)
    for _ in range(2):
        ask_asgi(UsageMiddleware(outer, usage), "GET", "/v1/items/5")
    assert usage.labels == ["GET /v1/items/{id}"] * 2


def test_a_scope_used_again_is_another_request() -> None:
    usage = Usage()
    scope = http_scope()
    talk(sending(START, body(b"")), usage, scope=scope)
    talk(sending(START, body(b"")), usage, scope=scope)
    assert len(usage.recording.seen) == 2
    assert "usage.call" not in scope


def test_an_error_handler_outside_is_seen_once() -> None:
    usage = Usage()

    async def handler(request: Request) -> Response:
        raise Boom

    def oh(request: Request, error: Exception) -> Response:
        return JSONResponse({}, status_code=500)

    app = Starlette(routes=[Route("/", handler)], exception_handlers={500: oh})
    app.add_middleware(UsageMiddleware, usage=usage)
    response = TestClient(UsageMiddleware(app, usage), raise_server_exceptions=False).get("/")
    assert (response.status_code, response.json()) == (500, {})
    assert (usage.only.status, usage.only.sent) == (500, 2)


def test_debug_makes_mistakes_errors() -> None:
    async def handler(request: Request) -> Response:
        track(request).tag(colour="red")
        return PlainTextResponse("ok")

    usage = Usage()
    app = Starlette(debug=True, routes=[Route("/", handler)])
    app.add_middleware(UsageMiddleware, usage=usage)
    response = TestClient(app, raise_server_exceptions=False).get("/")
    assert (response.status_code, "UndeclaredName" in response.text) == (500, True)
    assert usage.only.status == 500


def test_a_request_that_can_not_be_read_passes() -> None:
    usage = Usage()
    scope = {"type": "http", "headers": []}
    assert talk(sending(START, body(b"a")), usage, scope=scope) == [START, body(b"a")]
    assert usage.recording.reasons == {"request unreadable": 1}


def test_headers_that_can_not_be_read_still_count_for_the_host() -> None:
    usage = Usage()
    sent = talk(sending(START, body(b"a")), usage, scope=http_scope() | {"headers": None})
    assert sent == [START, body(b"a")]
    assert sum(usage.recording.reasons.values()) == 1


# --- websockets and lifespan


def test_websockets_pass_untouched() -> None:
    usage = Usage()

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        track(websocket).tag(project="p")
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/ws", echo)])
    app.add_middleware(UsageMiddleware, usage=usage)
    with TestClient(app).websocket_connect("/ws") as session:
        session.send_text("hello")
        assert session.receive_text() == "hello"
    assert usage.recording.seen == []
    assert not usage.recording.reasons


def test_shutdown_flushes_off_the_loop() -> None:
    threads: list[int] = []

    class Watching(Recording):
        def flush(self) -> bool:
            threads.append(threading.get_ident())
            return super().flush()

    usage = Usage(Watching())
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("ok"))])
    app.add_middleware(UsageMiddleware, usage=usage)
    loops: list[int] = []

    async def life() -> None:
        loops.append(threading.get_ident())
        incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[str] = []

        async def receive() -> Any:
            return incoming.pop(0)

        async def send(message: Any) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                assert usage.recording.flushes == 1
            sent.append(message["type"])

        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    asyncio.run(life())
    assert len(threads) == 1
    assert threads[0] not in loops


def test_a_failed_shutdown_flushes_too_and_a_failed_flush_does_not_matter() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.shutdown.failed"})

    usage = Usage()
    assert talk(app, usage, scope={"type": "lifespan"}) == [{"type": "lifespan.shutdown.failed"}]
    assert usage.recording.flushes == 1
    assert talk(app, Usage(Broken()), scope={"type": "lifespan"}) == [{"type": "lifespan.shutdown.failed"}]


@pytest.mark.parametrize("middleware", [UsageMiddleware, WSGIUsageMiddleware])
def test_what_is_no_usage_is_refused_at_once(middleware: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"usage must be a Usage, as in .* not str"):
        middleware(lambda *_: None, usage="redis://localhost:6379/0")


@pytest.mark.parametrize("inner", [lambda app: app, lambda app: app.wsgi_app])
def test_around_a_wsgi_application(inner: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigurationError, match="use WSGIUsageMiddleware"):
        UsageMiddleware(inner(flask.Flask("test")), Usage())


def test_around_an_application_that_is_both() -> None:
    class Both(flask.Flask):
        async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
            """As Quart's."""

    both: Any = Both("test")
    assert UsageMiddleware(both, Usage()).app is both
