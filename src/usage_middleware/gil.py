"""Lets requests go first: a thread with long work in the background rests every fraction of a millisecond.

Threads share one interpreter lock. A request lets go of it whenever it reads or writes a socket, and would then wait up to
five milliseconds for a thread that computes, many times during a flush of thousands of series.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter, thread_time
from typing import Any, TypeVar

from usage_middleware.interpreter import few_collections, short_turns

T = TypeVar("T")

#: Seconds of work between two rests, and of a rest: long enough for a waiting thread to wake up and take over.
WORK, REST = 0.0002, 0.0001
#: Of items that take less than a microsecond each, before one of how many it is asked whether it is time to rest.
LIGHT = 32
#: A thread that makes an answer looks so often whether others had the interpreter for so long while it worked. Then it rests
#: for as long as a request of the host may take.
ANSWER_WORK, NOTICED, LONG_REST = 0.0001, 0.00005, 0.001

#: Made when the first thread gives way: a server that forks may put greenlets in place of threads after this was imported.
_this_thread: Any = None


def sleep(seconds: float) -> None:
    """`time.sleep` as it is now, for the same reason."""
    time.sleep(seconds)


def _nothing() -> None:
    pass


class Pace:
    """How a thread gives way: it rests after each bit of work, then calls `then`."""

    def __init__(self, then: Callable[[], object] = _nothing) -> None:
        self._then = then
        self.work = WORK
        self.since = perf_counter()

    def pause(self) -> None:
        """Rest: it has worked for long enough since then."""
        sleep(REST)
        self.since = perf_counter()
        self._then()

    def pause_within(self) -> None:
        """As `pause`, in the midst of what must not wait for long: nothing else is done then."""

    def asleep(self) -> None:
        """It begins to wait for something else than the interpreter."""

    def awake(self) -> None:
        """It has waited for something else than the interpreter."""


class AnswersPace(Pace):
    """How a thread gives way that makes an answer: it rests only where somebody else wants the interpreter.

    It calls `then` after every so many seconds, rested or not. `is_late` says that there is no time left for long rests.
    """

    def __init__(self, seconds: float, is_late: Callable[[], bool], then: Callable[[], object] = _nothing) -> None:
        super().__init__(then)
        self.work = ANSWER_WORK
        self._seconds = seconds
        self._is_late = is_late
        self._begun = self.since
        self._cpu = thread_time()

    def pause(self) -> None:
        """Rest if others want the interpreter, and do something else if it is time."""
        self.pause_within()
        few_collections.look()
        if self.since - self._begun >= self._seconds:
            self._then()
            self._begun = perf_counter()
            self.awake()

    def pause_within(self) -> None:
        """Rest if others had the interpreter in the meantime: a host's request has more to do than it could do then."""
        if perf_counter() - self.since - (thread_time() - self._cpu) > NOTICED:
            # A request that has the interpreter meanwhile is not interrupted after a short turn.
            with short_turns.suspended():
                sleep(REST if self._is_late() else LONG_REST)
        self.awake()

    def awake(self) -> None:
        """What it waited for Redis says nothing of who wants the interpreter."""
        self._cpu = thread_time()
        self.since = perf_counter()


def set_pace(pace: Pace | None) -> None:
    """From now on, this thread gives way so in `yielding` loops and in `rest`; None: it no longer does."""
    global _this_thread
    if _this_thread is None:
        _this_thread = threading.local()
    _this_thread.pace = pace


def yielding(items: Iterable[T], every: int = 1) -> Iterable[T]:
    """The same items; in a thread that gives way, with rests in between: before each, or before one of `every` so many."""
    return items if getattr(_this_thread, "pace", None) is None else _with_rests(items, every)


def rest() -> None:
    """Rest, if this thread gives way and it is time."""
    pace = getattr(_this_thread, "pace", None)
    if pace is not None and perf_counter() - pace.since >= pace.work:
        pace.pause()


def rest_within() -> None:
    """As `rest`, in the midst of what must not wait for long, such as reading what Redis has sent."""
    pace = getattr(_this_thread, "pace", None)
    if pace is not None and perf_counter() - pace.since >= pace.work:
        pace.pause_within()


def has_pace() -> bool:
    """Whether this thread gives way."""
    return getattr(_this_thread, "pace", None) is not None


def asleep() -> None:
    """This thread begins to wait for something else than the interpreter, such as Redis."""
    pace = getattr(_this_thread, "pace", None)
    if pace is not None:
        pace.asleep()


def awake() -> None:
    """This thread has waited for something else than the interpreter, such as Redis."""
    pace = getattr(_this_thread, "pace", None)
    if pace is not None:
        pace.awake()


@contextmanager
def elsewhere() -> Iterator[None]:
    """Inside it, this thread may wait: for a lock, a connection, or what is not ours, as the application's database."""
    asleep()
    try:
        yield
    finally:
        awake()


def _with_rests(items: Iterable[T], every: int) -> Iterator[T]:
    for number, item in enumerate(items):
        if not number % every:
            rest()
        yield item
