"""What is WSGI's own: iterables and their close, start_response, write, the server's file wrapper."""

from __future__ import annotations

import functools
import gc
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import fastapi
import flask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.capture.recording import Usage
from tests.capture.shells import Answer, Boom, ask_wsgi, environ, exchange
from usage_middleware.capture.call import track
from usage_middleware.capture.identity import Caller
from usage_middleware.capture.wsgi import WSGIUsageMiddleware
from usage_middleware.errors import ConfigurationError, UndeclaredName

HEADERS = (("Content-Type", "text/plain"),)


class Body:
    """An iterable that notes how often it is closed."""

    def __init__(self, *pieces: bytes, error: BaseException | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed += 1


def answering(body: Any, status: str = "200 OK") -> Callable[..., Any]:
    """An application that answers with this iterable."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, list(HEADERS))
        return body

    return app


def begun(app: Any, asked: dict[str, Any] | None = None) -> Any:
    """What the server gets to iterate over and to close."""
    return app(asked or environ(), lambda *_: None)


def served(app: Any, asked: dict[str, Any] | None = None) -> bytes:
    """What the standard library's own server writes for one request."""
    out, errors = io.BytesIO(), io.StringIO()
    handler = SimpleHandler(io.BytesIO(), out, errors, asked or environ(), multithread=False, multiprocess=False)
    handler.http_version = "1.1"
    handler.run(app)
    assert "Iterator" not in errors.getvalue()
    return out.getvalue()


# --- the iterable


def test_the_inner_close_is_called_once() -> None:
    usage, body = Usage(), Body(b"ab", b"c")
    passed = begun(WSGIUsageMiddleware(answering(body), usage), environ())
    assert b"".join(passed) == b"abc"
    assert usage.recording.seen == []
    usage.timer.advance(1)
    passed.close()
    passed.close()
    assert body.closed == 1
    assert (usage.only.sent, usage.only.latency_us) == (3, 1_000_000)


def test_a_close_that_raises_passes_and_counts() -> None:
    class Bad(Body):
        def close(self) -> None:
            raise Boom

    usage = Usage()
    with pytest.raises(Boom):
        ask_wsgi(WSGIUsageMiddleware(answering(Bad(b"ab")), usage))
    assert (usage.only.status, usage.only.sent) == (200, 2)


def test_closed_before_its_end() -> None:
    usage, body = Usage(), Body(b"ab", b"c")
    passed = begun(WSGIUsageMiddleware(answering(body), usage), environ())
    next(iter(passed))
    passed.close()
    assert (usage.only.sent, usage.only.status, body.closed) == (2, 200, 1)


@pytest.mark.parametrize("body", [[b"ab"], (b"ab", b"c"), [], Body(b"ab")])
def test_its_length_is_kept(body: Any) -> None:
    passed = begun(WSGIUsageMiddleware(answering(body), Usage()), environ())
    assert hasattr(passed, "__len__") == hasattr(body, "__len__")
    if hasattr(body, "__len__"):
        assert len(passed) == len(body)
    assert list(passed) == list(body)
    passed.close()


def test_a_single_piece_still_has_a_content_length() -> None:
    usage = Usage()
    assert b"Content-Length: 5" in served(WSGIUsageMiddleware(answering([b"hello"]), usage))
    assert usage.only.sent == 5


def test_an_iterable_dropped_by_a_middleware_that_forgets_close() -> None:
    usage = Usage()
    inner = WSGIUsageMiddleware(answering([b"ab"]), usage)

    def forgetting(environ: Any, start_response: Any) -> list[bytes]:
        return [b"".join(inner(environ, start_response))]

    assert ask_wsgi(forgetting).body == b"ab"
    gc.collect()
    usage.timer.advance(60)
    assert usage.recording.seen == []
    assert ask_wsgi(forgetting).body == b"ab"
    gc.collect()
    usage.capture.finish_abandoned()
    assert [(seen.sent, seen.latency_us) for seen in usage.recording.seen] == [(2, 0)] * 2


@given(st.lists(st.binary(max_size=20), max_size=6), st.booleans(), st.booleans())
def test_any_pieces_pass_and_count_once(pieces: list[bytes], lazy: bool, sized: bool) -> None:
    usage = Usage()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(HEADERS))
        return pieces if sized else iter(pieces)

    def generator(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", list(HEADERS))
        yield from pieces

    wrapped = validator(WSGIUsageMiddleware(validator(generator if lazy else app), usage))
    # What the validator asks of an application that starts late: one piece at least.
    if lazy and not pieces:
        return
    assert ask_wsgi(wrapped).body == b"".join(pieces)
    assert usage.only.sent == sum(map(len, pieces))


# --- starting


def test_a_generator_that_starts_late() -> None:
    usage = Usage()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        environ["usage.route"] = "/late/{x}"
        start_response("201 Created", list(HEADERS))
        yield b"ab"
        yield b"c"

    assert ask_wsgi(validator(WSGIUsageMiddleware(validator(app), usage))) == Answer(201, b"abc")
    assert (usage.only.endpoint, usage.only.status, usage.only.sent) == ("GET /late/{x}", 201, 3)


def test_start_response_again_with_an_exception() -> None:
    usage = Usage()
    given: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", list(HEADERS))
        try:
            raise Boom
        except Boom:
            start_response("503 Sorry", list(HEADERS), sys.exc_info())
        return [b"sorry"]

    def start(*arguments: Any) -> Callable[[bytes], object]:
        given.append(arguments)
        return lambda data: None

    passed: Any = WSGIUsageMiddleware(app, usage)(environ(), start)
    assert list(passed) == [b"sorry"]
    passed.close()
    assert [len(arguments) for arguments in given] == [2, 3]
    assert given[1][2][0] is Boom
    assert usage.only.status == 503


def test_start_response_that_raises_passes_unchanged() -> None:
    usage = Usage()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", list(HEADERS))
        write(b"ab")
        try:
            raise Boom
        except Boom:
            start_response("500 Oh", list(HEADERS), sys.exc_info())
        return []

    def start(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
        if exc_info is not None:
            raise exc_info[1]
        return lambda data: None

    with pytest.raises(Boom):
        WSGIUsageMiddleware(app, usage)(environ(), start)
    assert (usage.only.status, usage.only.sent) == (200, 2)


def test_write_is_counted() -> None:
    usage = Usage()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", list(HEADERS))
        write(b"ab")
        write(b"")
        return [b"c"]

    assert ask_wsgi(validator(WSGIUsageMiddleware(validator(app), usage))) == Answer(200, b"abc")
    assert usage.only.sent == 3


# --- exceptions


@pytest.mark.parametrize("error", [Boom(), SystemExit(3), KeyboardInterrupt()])
def test_an_exception_passes_unchanged(error: BaseException) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        raise error

    usage = Usage()
    with pytest.raises(type(error)) as caught:
        ask_wsgi(WSGIUsageMiddleware(app, usage))
    assert caught.value is error
    assert usage.only.status == 500


def test_an_exception_after_start_response_but_before_any_byte() -> None:
    """No header is out yet: the server answers 500."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", list(HEADERS))
        raise Boom

    usage = Usage()
    assert b"500 Internal Server Error" in served(WSGIUsageMiddleware(app, usage))
    assert usage.only.status == 500


@pytest.mark.parametrize(("pieces", "status"), [((), 500), ((b"",), 200), ((b"ab",), 200)])
def test_an_exception_while_iterating(pieces: tuple[bytes, ...], status: int) -> None:
    usage, body = Usage(), Body(*pieces, error=Boom())
    assert f" {status} ".encode() in served(WSGIUsageMiddleware(answering(body), usage))[:20]
    assert usage.only.status == status
    assert body.closed == 1


def test_an_application_that_answers_nothing() -> None:
    usage = Usage()
    with pytest.raises(TypeError, match="can only join an iterable"):  # what the caller would say without us
        exchange(WSGIUsageMiddleware(lambda environ, start_response: None, usage), environ())  # type: ignore[arg-type, return-value]


# --- files


def wrapped_by(kind: Any) -> Any:
    return {"wsgi.file_wrapper": kind}


def test_a_file_stays_the_servers_own_kind() -> None:
    usage = Usage()
    kind: Any = type("ServersWrapper", (FileWrapper,), {})
    file = io.BytesIO(b"hello")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [*HEADERS, ("content-length", "5")])
        made.append(environ["wsgi.file_wrapper"](file))
        return made[0]

    made: list[Any] = []
    asked = environ() | {"wsgi.file_wrapper": kind}
    passed = begun(WSGIUsageMiddleware(app, usage), asked)
    assert passed is made[0]
    assert type(passed) is kind
    assert usage.recording.seen == []
    passed.close()
    passed.close()
    assert file.closed
    assert usage.only.sent == 5


def test_a_file_without_a_content_length(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(HEADERS))
        file = path.open("rb")
        file.seek(4)
        return environ["wsgi.file_wrapper"](file)

    usage = Usage()
    assert served(WSGIUsageMiddleware(app, usage)).endswith(b"\r\n\r\n456789")
    assert usage.only.sent == 6


def test_a_wrapper_that_takes_no_attributes() -> None:
    class Frozen:
        __slots__ = ("file",)

        def __init__(self, file: Any) -> None:
            self.file = file

        def __iter__(self) -> Iterator[bytes]:
            yield self.file.read()

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(HEADERS))
        return environ["wsgi.file_wrapper"](io.BytesIO(b"abc"))

    usage = Usage()
    assert ask_wsgi(WSGIUsageMiddleware(app, usage), **wrapped_by(Frozen)).body == b"abc"
    assert usage.only.status == 200


def test_flask_sends_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    app = flask.Flask(__name__)
    app.add_url_rule("/file", "file", lambda: flask.send_file(tmp_path / "a.txt"))
    for method, sent in (("GET", 5), ("HEAD", 0)):
        usage = Usage()
        wrapped = WSGIUsageMiddleware(app, usage)
        assert ask_wsgi(wrapped, method, "/file", **wrapped_by(FileWrapper)).status == 200
        assert (usage.only.endpoint, usage.only.sent) == (f"{method} /file", sent)
    usage = Usage()
    asked = environ("GET", "/file", {"range": "bytes=1-3"})
    assert exchange(validator(WSGIUsageMiddleware(validator(app), usage)), asked) == Answer(206, b"ell")
    assert usage.only.sent == 3


# --- identity, and installed twice


async def _who(request: Any) -> Caller:
    return Caller("acme")


class _Who:
    async def __call__(self, request: Any) -> Caller:
        return Caller("acme")


@pytest.mark.parametrize("identify", [_who, functools.partial(_who), _Who()])
def test_an_async_identify_is_refused_at_once(identify: Any) -> None:
    with pytest.raises(ConfigurationError, match="identify"):
        WSGIUsageMiddleware(answering([]), Usage(identify=identify))


def test_an_awaitable_is_nobody() -> None:
    usage = Usage(identify=lambda request: _who(request))
    ask_wsgi(WSGIUsageMiddleware(answering([b""]), usage))
    assert [seen.caller for seen in usage.recording.seen] == [("default", "(anonymous)")]
    assert usage.recording.reasons == {"identify raised": 1}


def test_identify_gets_paths_as_text() -> None:
    got: list[Any] = []
    usage = Usage(identify=got.append)
    ask_wsgi(WSGIUsageMiddleware(answering([b""]), usage), "GET", "/ä".encode().decode("latin-1"))
    assert got[0].path == "/ä"
    assert got[0].environ["REQUEST_METHOD"] == "GET"
    assert not hasattr(got[0].state, "anything")


def test_installed_twice_counts_once() -> None:
    usage = Usage()
    app = WSGIUsageMiddleware(WSGIUsageMiddleware(answering([b"ab"]), usage), usage)
    asked = environ()
    for _ in range(2):
        exchange(app, asked)
    assert [seen.sent for seen in usage.recording.seen] == [2, 2]
    assert "usage.call" not in asked


def test_an_environ_that_can_not_be_read_passes() -> None:
    usage = Usage()
    assert exchange(WSGIUsageMiddleware(answering([b"ab"]), usage), {}) == Answer(200, b"ab")
    assert usage.recording.reasons == {"request unreadable": 1}


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that is a function."""


@pytest.mark.parametrize("app", [bare, Starlette(), fastapi.FastAPI()])
def test_around_an_asgi_application(app: Any) -> None:
    with pytest.raises(ConfigurationError, match="use UsageMiddleware"):
        WSGIUsageMiddleware(app, Usage())


Further = Callable[[Iterable[bytes]], Iterable[bytes]]


def _yielding(body: Iterable[bytes]) -> Iterator[bytes]:
    for piece in body:  # noqa: UP028 - this is one of the ways
        yield piece


def _yielding_from(body: Iterable[bytes]) -> Iterator[bytes]:
    yield from body


@pytest.mark.parametrize(
    "further_out",
    [_yielding, _yielding_from, iter, lambda body: map(bytes, body), lambda body: (piece for piece in body)],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_a_middleware_that_keeps_the_iterator_alone(further_out: Further, lazy: bool) -> None:
    """It forgets `close()`; what is still being sent is not finished for that, whoever comes meanwhile."""
    usage = Usage()

    def at_once(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(HEADERS))
        return iter([b"a" * 100, b"b" * 100])

    def when_asked(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(HEADERS))
        yield b"a" * 100
        usage.timer.advance(0.5)
        yield b"b" * 100

    counted = WSGIUsageMiddleware(when_asked if lazy else at_once, usage)
    body = iter(further_out(counted(environ(), lambda *_: lambda _: None)))
    gc.collect()
    usage.capture.finish_abandoned()
    assert next(body) == b"a" * 100
    gc.collect()
    usage.capture.finish_abandoned()
    assert usage.recording.seen == []
    assert next(body) == b"b" * 100
    assert next(body, None) is None
    del body
    gc.collect()
    usage.capture.finish_abandoned()
    assert (usage.only.status, usage.only.sent, usage.only.latency_us) == (200, 200, 500_000 if lazy else 0)


@pytest.mark.parametrize("mounted", [False, True])
def test_debug_of_flask_makes_mistakes_errors(mounted: bool) -> None:
    app = flask.Flask(__name__)

    def handler() -> str:
        track(flask.request).tag(colour="red").count(sheep=1)
        return "ok"

    app.add_url_rule("/", "handler", handler)
    usage = Usage()
    inner: Any = DispatcherMiddleware(flask.Flask("other").wsgi_app, {"/m": app.wsgi_app}) if mounted else app.wsgi_app
    asked = functools.partial(ask_wsgi, WSGIUsageMiddleware(inner, usage), "GET", "/m/" if mounted else "/")
    assert asked().status == 200
    assert usage.recording.reasons == {"tag refused": 1, "count refused": 1}
    app.debug = True
    with pytest.raises(UndeclaredName, match="colour"):
        asked()
    assert [seen.status for seen in usage.recording.seen] == [200, 500]
