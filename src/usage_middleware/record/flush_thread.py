"""The thread that adds up finished calls and delivers them."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from usage_middleware.gil import set_yielding
from usage_middleware.record.attribution import CountError
from usage_middleware.record.flusher import Flusher

#: How much longer than `shutdown_timeout` the end may take if calls go to disk, seconds: a command under way, then a file.
LAST_SECONDS = 5.0
#: The first and the longest pause after a failure, seconds. Each is twice the one before.
FIRST_RETRY, LAST_RETRY = 0.1, 2.0


class WakeEvent:
    """Like `threading.Event`, but for one waiter, and setting it takes no lock.

    Requests set it. A signal handler or a finaliser may interrupt one that does, and set it too.
    """

    def __init__(self) -> None:
        # Not imported by name: a server may replace threads by greenlets after this module was imported.
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_set = False

    def is_set(self) -> bool:
        """True between `set` and `clear`."""
        return self._is_set

    def set(self) -> None:
        """Wake the waiter."""
        if not self._is_set:
            self._is_set = True
            self._wakes.put(None)

    def clear(self) -> None:
        """Reset it. A `set` at the same moment may be lost, so look for work after this, not before."""
        self._is_set = False
        with suppress(queue.Empty):
            while True:
                self._wakes.get_nowait()

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, at most for `seconds`; whether it is set."""
        if not self._is_set:
            with suppress(queue.Empty):
                self._wakes.get(timeout=seconds)
        return self._is_set


class FlushThread(threading.Thread):
    """Flushes every `interval` seconds, and with growing pauses after a failure, until `end`.

    Attributes:
        wake: set it to have waiting calls added up.
        settled: once it has ended, whether everything was acknowledged.
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
        """Flush now."""
        self._hurry = True
        self.wake.set()

    def end(self, deadline: float) -> None:
        """Deliver what is left, until the deadline (of `time.monotonic`), then end."""
        self._deadline = deadline
        self.wake.set()

    def run(self) -> None:
        """Flush until `end`."""
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
        """Add up what comes in, until the time is over, or `hurry` or `end`."""
        over = time.monotonic() + seconds
        while self._deadline is None and not self._hurry:
            left = over - time.monotonic()
            # Asked before the event: requests may set it again faster than it is cleared.
            if left <= 0 or not self.wake.wait(left):
                break
            self._add_up()
        self._hurry = False

    def _after_rest(self) -> None:
        """During a flush: add up the calls of the meantime, and stop resting if the process ends."""
        if self._deadline is not None:
            set_yielding(False)
        self._add_up()

    def _add_up(self) -> None:
        if self.wake.is_set():
            self.wake.clear()
            self._safely(self._flusher.add_up)

    def _recover(self) -> None:
        self._flusher.recover(lambda: self._deadline is None)

    def finish(self, deadline: float) -> bool:
        """Deliver everything until the deadline, and remove this worker from Redis. What can't be delivered goes to disk."""
        failures = 0
        while self._flusher.has_news and not self._safely(self._flusher.flush):
            failures += 1
            left = deadline - time.monotonic()
            if left <= 0:
                self._safely(partial(self._flusher.hand_over, LAST_SECONDS))
                return False
            time.sleep(min(left, _backoff(failures)))
        self._safely(self._flusher.retire)
        return True

    def _safely(self, step: Callable[[], bool | None]) -> bool | None:
        try:
            return step()
        except Exception:  # Whatever it was, the thread must go on.
            self._count_error("flush")
            return None


def _backoff(failures: int) -> float:
    longest = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)
