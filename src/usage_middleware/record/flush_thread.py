"""The thread that adds up what requests have left, and delivers it."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from usage_middleware.gil import set_yielding
from usage_middleware.record.flusher import Flusher
from usage_middleware.record.sender import CountError

#: So much longer than `shutdown_timeout` the end may take where calls go to disk: a command under way, and a file; seconds.
LAST_SECONDS = 5.0
#: How long after a failure it is tried again: doubling from the first to the last, in seconds.
FIRST_RETRY, LAST_RETRY = 0.1, 2.0


class WakeEvent:
    """As `threading.Event`, but for one waiter, and to set it takes no lock.

    Every so many requests one sets it; a signal handler or a finaliser that ends in the midst of that sets it too.
    """

    def __init__(self) -> None:
        # Not imported by name: a server may put greenlets in place of threads after this module was imported.
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_set = False

    def is_set(self) -> bool:
        """True from `set` to `clear`."""
        return self._is_set

    def set(self) -> None:
        """Wake the waiter."""
        if not self._is_set:
            self._is_set = True
            self._rings.put(None)

    def clear(self) -> None:
        """Begin anew. Whoever sets it at this moment may not be heard: look at what it was set for afterwards."""
        self._is_set = False
        with suppress(queue.Empty):
            while True:
                self._rings.get_nowait()

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, but no longer than that; whether it is."""
        if not self._is_set:
            with suppress(queue.Empty):
                self._rings.get(timeout=seconds)
        return self._is_set


class FlushThread(threading.Thread):
    """Flushes every so often, sooner and then later again after a failure, until it is told to end.

    Attributes:
        wake: set it to have added up what waits.
        settled: when it has ended, whether everything was acknowledged.
    """

    def __init__(self, flusher: Flusher, count_error: CountError, interval: float) -> None:
        super().__init__(name="usage-flusher", daemon=True)
        self._flusher = flusher
        self._count_error = count_error
        self._interval = interval
        self._deadline: float | None = None
        self._hurry = False
        self.wake = WakeEvent()
        self.settled = False

    def hurry(self) -> None:
        """Have it flush now."""
        self._hurry = True
        self.wake.set()

    def end(self, deadline: float) -> None:
        """Deliver what is left before the deadline (of `time.monotonic`), then end."""
        self._deadline = deadline
        self.wake.set()

    def run(self) -> None:
        """Until `end`."""
        failures = 0
        set_yielding(True, self._after_rest)
        self._safely(self._flusher.announce)
        self._safely(self._recover)
        while self._deadline is None:
            self._wait(_backoff(failures) if failures else self._interval)
            if self._deadline is None:
                failures = 0 if self._safely(self._flusher.flush) else failures + 1
                self._safely(self._recover)
        set_yielding(False)
        self.settled = self.finish(self._deadline)

    def _wait(self, seconds: float) -> None:
        """Add up what comes in, until the time is over or somebody is in a hurry."""
        over = time.monotonic() + seconds
        while self._deadline is None and not self._hurry:
            left = over - time.monotonic()
            # Asked before the event: requests may set it again faster than it is cleared.
            if left <= 0 or not self.wake.wait(left):
                break
            self._add_up()
        self._hurry = False

    def _after_rest(self) -> None:
        """In the course of a flush: there are requests meanwhile, or it is the last one and in a hurry."""
        if self._deadline is not None:
            set_yielding(False)
        self._add_up()

    def _add_up(self) -> None:
        """Read what requests have left, if there is much."""
        if self.wake.is_set():
            self.wake.clear()
            self._safely(self._flusher.add_up)

    def _recover(self) -> None:
        self._flusher.recover(lambda: self._deadline is None)

    def finish(self, deadline: float) -> bool:
        """Deliver all there is before the deadline, if it can be, and leave nothing else in Redis; else put it on disk."""
        failures = 0
        while self._flusher.has_news and not self._safely(self._flusher.flush):
            failures += 1
            left = deadline - time.monotonic()
            if left <= 0:
                self._safely(partial(self._flusher.put_aside, LAST_SECONDS))
                return False
            time.sleep(min(left, _backoff(failures)))
        self._safely(self._flusher.finish)
        return True

    def _safely(self, step: Callable[[], bool | None]) -> bool | None:
        try:
            return step()
        except Exception:  # The thread has to outlive whatever this was.
            self._count_error("flush")
            return None


def _backoff(failures: int) -> float:
    longest: float = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)
