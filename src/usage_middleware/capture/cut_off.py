"""Calls of ASGI that were answered, and that nobody finishes: the process ends in the midst of its event loop."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from types import CoroutineType
from typing import Any, Protocol


class Asking(Protocol):
    """A call, as far as its end goes."""

    capture: object
    done: bool

    def _ask(self) -> Coroutine[Any, Any, None]: ...


def finish_answered(capture: object, sending: Callable[..., Any], asking: Callable[..., Any]) -> None:
    """Record the calls whose server has the last message, and those for which `identify` runs. They must not go on afterwards.

    It takes some milliseconds, so that requests need not keep a list. An `identify` that would have to wait is given up: its
    caller is nobody.

    Args:
        capture: whose calls.
        sending: the method of a call that waits until the server has sent the last message.
        asking: that which waits for `identify`.
    """
    for waiting, _ in _waiting(capture, asking):
        # It may be running, in another thread.
        with suppress(ValueError):
            waiting.close()
    for _, call in _waiting(capture, sending):
        if not call.done:
            asked = call._ask()
            with suppress(StopIteration):
                asked.send(None)
                asked.close()


def _waiting(capture: object, method: Callable[..., Any]) -> Iterator[tuple[Coroutine[Any, Any, Any], Asking]]:
    """The coroutines of a method that wait for something, and the calls that they belong to."""
    code = method.__code__
    for one in gc.get_objects():
        if type(one) is CoroutineType and one.cr_code is code and one.cr_await is not None:
            frame = one.cr_frame
            call = frame.f_locals["self"] if frame is not None else None
            if call is not None and call.capture is capture:
                yield one, call
