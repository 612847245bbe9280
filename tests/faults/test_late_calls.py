"""Calls that end on threads of the server after the end of the process has begun: counted, or counted as lost by name."""

from __future__ import annotations

import gc
import http.client
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from wsgiref.util import setup_testing_defaults

import pytest
import waitress.server
import werkzeug.serving

from tests.faults.harness import usage_of
from tests.faults.ledger import Call
from tests.faults.proxy import Loss
from tests.faults.workplace import Workplace
from tests.support import eventually
from usage_middleware import WSGIUsageMiddleware

WHO = {"x-org": "acme", "x-key": "key_1"}
CALL = Call("acme", "key_1", "GET (unknown)", 200)


class Held:
    """An application each of whose responses ends when the test says so."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.gates: list[threading.Event] = []

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        gate = threading.Event()
        self.gates.append(gate)
        yield b"begun"
        self.begun.release()
        assert gate.wait(60)
        yield b"ended"


class Served:
    """A server in this process whose requests run on threads of their own.

    `ask` makes one request, in a thread that this begins, and returns when all of the answer has come.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._threads: list[threading.Thread] = []

    def begin(self, held: Held) -> None:
        """Have a request begun that another thread answers."""
        thread = threading.Thread(target=self._ask)
        self._threads.append(thread)
        thread.start()
        assert held.begun.acquire(timeout=60)

    def let_end(self, held: Held) -> None:
        """Let the oldest request end, and wait until its client has everything."""
        held.gates.pop(0).set()
        self._threads.pop(0).join(60)


def ask(port: int) -> None:
    """One request, to the last byte of its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/held", headers={**WHO, "Connection": "close"})
    assert b"ended" in connection.getresponse().read()
    connection.close()


@contextmanager
def by_a_bare_thread(app: Any) -> Iterator[Served]:
    """As uWSGI: a thread calls the application, iterates, closes."""

    def answer() -> None:
        environ: dict[str, Any] = {"HTTP_X_ORG": "acme", "HTTP_X_KEY": "key_1"}
        setup_testing_defaults(environ)
        body = cast(Any, app(environ, lambda *_: lambda data: None))
        assert b"".join(body) == b"begunended"
        body.close()

    yield Served(answer)


@contextmanager
def by_werkzeug(app: Any) -> Iterator[Served]:
    server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True)
    with running(server.serve_forever, server.shutdown):
        yield Served(lambda: ask(server.port))
    server.server_close()


@contextmanager
def by_waitress(app: Any) -> Iterator[Served]:
    server = cast(Any, waitress.server.create_server(app, host="127.0.0.1", port=0, threads=4, map={}))

    def end() -> None:
        server.task_dispatcher.shutdown()
        # Its loop waits for the sockets that this closes, so the loop itself closes them.
        server.trigger.pull_trigger(server.close)

    with running(server.run, end):
        yield Served(lambda: ask(server.effective_port))


@contextmanager
def running(serve: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    end()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("serve", [by_a_bare_thread, by_werkzeug, by_waitress])
def test_a_call_ends_on_another_thread_after_the_end_has_begun(
    place: Workplace, serve: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Three calls: one ends before, one while the last delivery waits for Redis, one after it."""
    usage, held = usage_of(place.proxy.url, place.namespace, flush_interval=60), Held()
    with serve(WSGIUsageMiddleware(cast(Any, held), usage)) as server:
        for _ in range(3):
            server.begin(held)
        server.let_end(held)
        eventually(lambda: usage.recorder.stats().backlog_calls == 1)
        place.proxy.lose(Loss.SILENCE)
        ending = threading.Thread(target=usage.recorder.end)
        ending.start()
        eventually(lambda: place.proxy.is_done)
        server.let_end(held)
        ending.join(60)
        assert usage.recorder.stats().lost == {}
        with caplog.at_level(logging.WARNING):
            server.let_end(held)
            eventually(lambda: usage.recorder.stats().lost == {"ended late": 1})
        assert "a call ended after the last delivery of this process" in caplog.text
    place.ledger.add(CALL, 2)
    place.check()
    usage.engine.close()


def test_a_call_that_nobody_closes_is_counted_at_the_end(place: Workplace) -> None:
    """Its response was dropped by a middleware that forgets `close()`, and no request came after it."""
    usage = usage_of(place.proxy.url, place.namespace, flush_interval=60)

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"found"]

    environ: dict[str, Any] = {"HTTP_X_ORG": "acme", "HTTP_X_KEY": "key_1"}
    setup_testing_defaults(environ)
    assert list(WSGIUsageMiddleware(cast(Any, app), usage)(environ, lambda *_: lambda data: None)) == [b"found"]
    gc.collect()
    usage.recorder.end()
    place.ledger.add(CALL)
    place.check()
    usage.engine.close()


def test_a_call_that_is_being_answered_when_the_process_ends_is_awaited_for_a_moment_and_told(
    place: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    """Two calls: one ends when everything else is delivered, one does not end."""
    usage, held = usage_of(place.proxy.url, place.namespace, flush_interval=60), Held()
    with by_a_bare_thread(WSGIUsageMiddleware(cast(Any, held), usage)) as server:
        for _ in range(2):
            server.begin(held)
        ending = threading.Thread(target=usage.recorder.end)
        ending.start()
        eventually(lambda: usage.recorder.stats().state == "ok")
        server.let_end(held)
        ending.join(60)
        assert "1 calls are being answered as this process ends" in caplog.text
        assert usage.recorder.stats().lost == {}
        server.let_end(held)
    place.ledger.add(CALL)
    place.check()
    usage.engine.close()
