"""Lets requests go first: a thread with long work in the background rests every fraction of a millisecond.

Threads share one interpreter lock. A request lets go of it whenever it reads or writes a socket, and would then wait up to
five milliseconds for a thread that computes, many times during a flush of thousands of series.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from time import perf_counter
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds of work between two rests, and of a rest: long enough for a waiting thread to wake up and take over.
WORK, REST = 0.0002, 0.0001
#: Seconds of a turn inside of `short_turns`. Python's own is ten times as long.
TURN = 0.0005

#: Made when the first thread gives way: a server that forks may put greenlets in place of threads after this was imported.
_this_thread: Any = None


def sleep(seconds: float) -> None:
    """`time.sleep` as it is now, for the same reason."""
    time.sleep(seconds)


def _nothing() -> None:
    pass


def set_yielding(yes: bool, then: Callable[[], object] = _nothing, work: float | None = None) -> None:
    """From now on, this thread rests in `yielding` loops, or no longer does.

    `then` is called after each rest; `work` is how many seconds it works in between, None: `WORK`.
    """
    global _this_thread
    if _this_thread is None:
        _this_thread = threading.local()
    _this_thread.since = perf_counter() if yes else None
    _this_thread.then = then
    _this_thread.work = work


def yielding(items: Collection[T]) -> Iterable[T]:
    """The same items; in a thread that gives way, with rests in between."""
    return items if getattr(_this_thread, "since", None) is None else _with_rests(items)


def rest() -> None:
    """Rest, if this thread gives way and it is time."""
    since = getattr(_this_thread, "since", None)
    if since is not None and perf_counter() - since >= (_this_thread.work or WORK):
        sleep(REST)
        _this_thread.since = perf_counter()
        _this_thread.then()


def _with_rests(items: Iterable[T]) -> Iterator[T]:
    for item in items:
        rest()
        yield item


class ShortTurns:
    """While any thread is inside, threads take turns at the lock ten times as often.

    For work in whose midst nothing can rest, such as making the answer to a question: a request that becomes ready waits half
    a millisecond for the lock, not five. What Python was told before holds again afterwards.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(TURN, self._before))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._restore()

    def _restore(self) -> None:
        # Unless somebody else has said something in the meantime.
        if abs(sys.getswitchinterval() - TURN) < TURN / 100:
            sys.setswitchinterval(self._before)

    def after_fork_in_child(self) -> None:
        """The threads that were inside are not here."""
        if self._inside:
            self._restore()
        self._begin()


#: Of this process.
short_turns = ShortTurns()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=short_turns.after_fork_in_child)
