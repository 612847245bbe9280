"""The thread that adds up finished calls and delivers them."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf

from usage_middleware import signals
from usage_middleware.gil import Pace, set_pace
from usage_middleware.record.attribution import CountError
from usage_middleware.record.flusher import Flusher
from usage_middleware.record.idle_packing import IdlePacking
from usage_middleware.store.deadline import Operation, within
from usage_middleware.store.driver_errors import says_full

#: How much longer than `shutdown_timeout` the end may take if calls go to disk, seconds: a slow disk.
LAST_SECONDS = 5.0
#: As much without a disk: until the thread notices that its time is over.
GRACE_SECONDS = 0.5
#: At the end, so long Redis has to take the rest before that is put on disk, seconds; at most half of the time there is.
FIRST_TRY = 1.0
#: So often a process may find at its end that Redis has lost what it had.
MOST_ENDS = 3
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

    def __init__(self, flusher: Flusher, count_error: CountError, interval: float, packing: IdlePacking) -> None:
        super().__init__(name="usage-flusher", daemon=True)
        self._flusher = flusher
        self._count_error = count_error
        self._interval = interval
        self._packing = packing
        self._deadline: float | None = None
        self._operation: Operation | None = None
        self._hurry = False
        self.wake = WakeEvent()
        self.settled = False

    def hurry(self) -> None:
        """Flush now."""
        self._hurry = True
        self.wake.set()

    def end(self, deadline: float) -> None:
        """Deliver what is left, until the deadline (of `time.monotonic`), then end. A flush under way gets part of the time."""
        if self._deadline is None:
            self._deadline = deadline
        if self._operation is not None:
            self._operation.end_by(self._first_end(deadline))
        self.wake.set()

    def run(self) -> None:
        """Flush until `end`."""
        signals.leave_to_the_main_thread()
        set_pace(Pace(self._after_rest))
        with within(inf) as self._operation:
            if self._deadline is not None:
                self._operation.end_by(self._first_end(self._deadline))
            self._deliver()
        set_pace(None)
        assert self._deadline is not None
        self.settled = self.finish(self._deadline)

    def _deliver(self) -> None:
        failures = 0
        self._safely(self._flusher.announce)
        self._safely(self._recover)
        while self._deadline is None:
            self._wait(_backoff(failures) if failures else self._interval)
            if self._deadline is None:
                failures = 0 if self._safely(self._flusher.flush) else failures + 1
                self._safely(self._recover)
            signals.insist()

    def _wait(self, seconds: float) -> None:
        """Add up what comes in, until the time is over, or `hurry` or `end`."""
        over = time.monotonic() + seconds
        while self._deadline is None and not self._hurry:
            left = over - time.monotonic()
            # Asked before the event: requests may set it again faster than it is cleared.
            if left <= 0:
                break
            if self.wake.wait(min(left, self._packing.rest if self._may_pack else inf)):
                self._add_up()
                self._safely(self._flusher.ask_who_called)
            elif self._may_pack:
                self._packing.step()
        self._hurry = False

    @property
    def _may_pack(self) -> bool:
        """Also while the memory of Redis is full: to pack makes room."""
        return self._flusher.is_ok or says_full(self._flusher.status.reason)

    def _after_rest(self) -> None:
        """During a flush: add up the calls of the meantime, and stop resting if the process ends."""
        if self._deadline is not None:
            set_pace(None)
        self._add_up()

    def _add_up(self) -> None:
        if self.wake.is_set():
            self.wake.clear()
            self._safely(self._flusher.add_up)

    def _recover(self) -> None:
        self._flusher.recover(lambda: self._deadline is None)

    def finish(self, deadline: float) -> bool:
        """Deliver everything until the deadline, and remove this worker from Redis. What can't be delivered goes to disk.

        Where Redis is away, or does not take it at once, everything is put on disk first: then whatever ends this process may.
        """
        is_tried = self._flusher.is_ok or self._flusher.spool is None
        with within(max(0.0, self._first_end(deadline) - time.monotonic())):
            settled = not self._flusher.has_news or (is_tried and self._safely(self._flusher.flush))
        with within(max(0.0, deadline - time.monotonic())):
            if not settled:
                self._safely(self._flusher.put_aside)
                settled = self._try(deadline, failures=int(is_tried))
            if settled and self._leave(deadline):
                return True
        with within(LAST_SECONDS):
            self._safely(self._flusher.hand_over)
        return False

    def _leave(self, deadline: float) -> bool:
        """Remove this worker from Redis; False if Redis has lost something, and does not take it again by the deadline."""
        for _ in range(MOST_ENDS):
            if self._safely(self._flusher.retire) is not False:
                break
            if not self._try(deadline, failures=0):
                return False
        return True

    def _try(self, deadline: float, failures: int) -> bool:
        """Flush until everything is acknowledged; False if it is not by the deadline."""
        while self._flusher.has_news:
            if failures:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                time.sleep(min(left, _backoff(failures)))
            if self._safely(self._flusher.flush):
                break
            failures += 1
        return True

    def _first_end(self, deadline: float) -> float:
        """When the last flush, or the one under way at the end, has to be over, with a disk to put the rest on."""
        if self._flusher.spool is None:
            return deadline
        now = time.monotonic()
        return now + min(FIRST_TRY, max(0.0, deadline - now) / 2)

    def _safely(self, step: Callable[[], bool | None]) -> bool | None:
        try:
            return step()
        except Exception:  # Whatever it was, the thread must go on.
            self._count_error("flush")
            return None


def _backoff(failures: int) -> float:
    longest = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)
