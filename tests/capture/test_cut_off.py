"""A process that ends in the midst of its event loop: what was answered is counted, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.capture.recording import Usage
from tests.capture.shells import http_scope
from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.capture.identity import Caller
from usage_middleware.events import CallEvent

START: dict[str, Any] = {"type": "http.response.start", "status": 201, "headers": []}
PIECE: dict[str, Any] = {"type": "http.response.body", "body": b"12", "more_body": True}
LAST: dict[str, Any] = {"type": "http.response.body", "body": b"345"}


async def for_ever() -> None:
    """A wait that has no end."""
    await asyncio.Event().wait()


async def receive() -> dict[str, Any]:
    """Nothing comes."""
    await for_ever()
    return {}


def cut_off(send: Callable[[Any], Awaitable[None]], **options: Any) -> list[CallEvent]:
    """Begin a request, and end in the midst of it: what was counted by then."""
    usage, found = Usage(**options), []

    async def serve() -> None:
        task = asyncio.create_task(UsageMiddleware(answers, usage)(http_scope(), receive, send))
        for _ in range(10):
            await asyncio.sleep(0)
        for _ in range(2):
            usage.capture.finish_answered()
        found.extend(usage.recording.seen)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(serve())
    assert not usage.recording.reasons
    return found


async def answers(scope: Any, receive: Any, send: Any) -> None:
    """An answer of two pieces."""
    for message in (START, PIECE, LAST):
        await send(message)


async def closes_for_ever(message: Any) -> None:
    """A server whose client has everything, and which waits until the connection is closed."""
    if message is LAST:
        await for_ever()


async def sends_for_ever(message: Any) -> None:
    """A server whose client does not read."""
    if message is PIECE:
        await for_ever()


async def sends(message: Any) -> None:
    """A server that is quick."""


def acme(_: Any) -> Caller:
    """Who calls."""
    return Caller("acme")


async def acme_at_once(_: Any) -> Caller:
    """The same, async, without a wait."""
    return Caller("acme")


async def acme_never(_: Any) -> Caller:
    """The same, with a wait that has no end."""
    await for_ever()
    return Caller("acme")


def test_a_call_whose_client_has_everything_is_counted_once() -> None:
    (seen,) = cut_off(closes_for_ever)
    assert (seen.status, seen.sent) == (201, 5)


@pytest.mark.parametrize("identify", [acme, acme_at_once])
def test_its_caller_is_asked_for(identify: Any) -> None:
    (seen,) = cut_off(closes_for_ever, identify=identify)
    assert seen.caller[0] == "acme"


@pytest.mark.parametrize("send", [closes_for_ever, sends])
def test_a_caller_that_can_not_be_waited_for_is_nobody(send: Any) -> None:
    (seen,) = cut_off(send, identify=acme_never)
    assert (seen.status, seen.caller[0]) == (201, "default")


def test_a_call_that_is_being_answered_is_not_counted() -> None:
    assert not cut_off(sends_for_ever)


def test_a_call_that_has_ended_is_counted_once() -> None:
    assert len(cut_off(sends)) == 1


def test_another_usage_has_calls_of_its_own() -> None:
    other = Usage()

    async def send(message: Any) -> None:
        if message is LAST:
            other.capture.finish_answered()
            await for_ever()

    UsageMiddleware(answers, other)
    (_,) = cut_off(send)
    assert not other.recording.seen
