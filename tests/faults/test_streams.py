"""Responses that last for many minutes are counted once, in the minute in which they end, with all of their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast
from wsgiref.util import setup_testing_defaults

import pytest

from tests.faults.harness import identify, request
from tests.faults.ledger import Call, Ledger, assert_equal
from tests.faults.test_clocks import amounts
from tests.support import Clock, ServerProcess
from usage_middleware import Usage, UsageMiddleware, WSGIUsageMiddleware

MINUTES = 47
WHO = {"x-org": "acme", "x-key": "key_1"}


@pytest.fixture
def usage(make_usage: Callable[..., Usage], clock: Clock) -> Usage:
    made = make_usage(identify=identify)
    made.capture.timer = clock
    return made


def check(usage: Usage, server: ServerProcess, namespace: str) -> None:
    ledger = Ledger()
    ledger.add(Call("acme", "key_1", "GET (unknown)", 200))
    assert usage.flush()
    with server.client() as client:
        assert_equal(client, namespace, ledger)
        # It began at 13:45.
        assert amounts(client, f"{namespace}:{{acme}}:series:1m:*:key:key_1") == {"32": 1}
        series = f"{namespace}:{{acme}}:series:30m:2026-11-20"
        assert client.hget(series, "14:30 latency_us") == b"%d" % (MINUTES * 60_000_000)
        assert client.hget(series, "14:30 bytes") == b"%d" % MINUTES
        assert client.hget(series, "13:30 calls") is None


async def test_a_stream_of_many_minutes(usage: Usage, clock: Clock, server: ServerProcess, namespace: str) -> None:
    async def stream(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(MINUTES):
            clock.advance(60)
            # Whoever asks in the middle sees nothing of it yet.
            assert usage.flush()
            await send({"type": "http.response.body", "body": b".", "more_body": number < MINUTES - 1})

    assert await request(UsageMiddleware(stream, usage), "GET", "/stream", WHO) == 200
    check(usage, server, namespace)


def test_a_wsgi_stream_of_many_minutes(usage: Usage, clock: Clock, server: ServerProcess, namespace: str) -> None:
    def stream(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for _ in range(MINUTES):
            clock.advance(60)
            assert usage.flush()
            yield b"."

    environ: dict[str, Any] = {"HTTP_X_ORG": "acme", "HTTP_X_KEY": "key_1"}
    setup_testing_defaults(environ)
    body = cast(Any, WSGIUsageMiddleware(cast(Any, stream), usage)(environ, lambda *_: lambda data: None))
    assert b"".join(body) == b"." * MINUTES
    body.close()
    check(usage, server, namespace)
