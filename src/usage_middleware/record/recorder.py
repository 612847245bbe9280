"""`Recorder`: what the request path calls, and the thread that delivers."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from multiprocessing.util import Finalize

import msgspec

from usage_middleware.record.aggregate import Aggregate, Caller
from usage_middleware.record.flusher import Flusher, KnownKeys, Resolve, nobody
from usage_middleware.settings import Settings
from usage_middleware.store.writer import SCRIPT_SHA, Writer

logger = logging.getLogger("usage_middleware")

#: How long after a failure it is tried again: doubling from the first to the last, in seconds.
FIRST_RETRY, LAST_RETRY = 0.1, 2.0
MOST_REASONS = 64
LOG_EVERY = 60.0


class RecorderStats(msgspec.Struct, frozen=True):
    """How this process's recorder is doing.

    Attributes:
        worker: the name of this process in Redis.
        state: `ok`, `away` (Redis can't be written now) or `refused` (Redis holds another shape of counters).
        reason: why, unless it is ok.
        flushed_through_ms: all calls that finished here before then are counted.
        backlog_calls: recorded and not acknowledged.
        backlog_bytes: about what they take in memory.
        dropped: calls that will never be counted, by organisation.
        retries: how often a chunk had to be sent again.
        refused: members that a cap turned into `(other)`.
        in_the_way: keys of another type that were skipped.
        lost: errors of ours, by reason.
        script: the version of the script.
    """

    worker: str
    state: str
    reason: str
    flushed_through_ms: int
    backlog_calls: int
    backlog_bytes: int
    dropped: Mapping[str, int]
    retries: int
    refused: int
    in_the_way: int
    lost: Mapping[str, int]
    script: str = SCRIPT_SHA


class Recorder:
    """Counts finished requests in memory and delivers them in the background.

    The thread begins with the first request, in whichever process that is: nothing has to be started or configured for
    servers that fork. `add` never does I/O and never raises for what Redis does.

    Args:
        writer: where it goes.
        settings: what is counted.
        resolve: finds the organisation and key of a credential's digest; called by the flusher only.
        known_keys: which of these ids are keys of the directory, for which the cap on members does not hold.
        clock: seconds since the epoch.
        flush_interval: how old an unsent call may get, seconds.
        backlog_bytes: how much memory unsent calls may take.
        shutdown_timeout: how long `close` may take, seconds.
        monotonic: seconds that never jump.
    """

    def __init__(
        self,
        writer: Writer,
        settings: Settings,
        *,
        resolve: Resolve,
        known_keys: KnownKeys = nobody,
        clock: Callable[[], float] = time.time,
        flush_interval: float = 5.0,
        backlog_bytes: int = 64_000_000,
        shutdown_timeout: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flush_interval = flush_interval
        self._shutdown_timeout = shutdown_timeout
        self._monotonic = monotonic
        self._aggregate = Aggregate(len(settings.counters), backlog_bytes, clock, self._crowded)
        self._flusher = Flusher(
            writer, self._aggregate, resolve=resolve, known_keys=known_keys, lost=self.lost, clock=clock, monotonic=monotonic
        )
        self._reset()
        _live.add(self)

    def _reset(self) -> None:
        self._starting = threading.Lock()
        self._delivery: _Delivery | None = None
        self._started_in: int | None = None
        self._lost: dict[str, int] = {}
        self._logged: dict[str, float] = {}

    def _after_fork(self) -> None:
        self._aggregate.reset()
        self._flusher.reset()
        self._reset()

    def add(
        self,
        caller: Caller,
        endpoint: str,
        tags: tuple[str, ...],
        status: int,
        latency_us: int,
        sent: int,
        counts: tuple[int, ...],
    ) -> None:
        """Count one finished request.

        Args:
            caller: (organisation, key) as members, or the digest of a credential.
            endpoint: `METHOD /template`, as a member.
            tags: a member for each declared dimension.
            status: the HTTP status.
            latency_us: microseconds to the last body byte.
            sent: response body bytes.
            counts: an amount for each declared counter.
        """
        if self._started_in != os.getpid():
            self._start()
        self._aggregate.add(caller, endpoint, tags, status, latency_us, sent, counts)

    def lost(self, reason: str) -> None:
        """Count an error of ours, and log it at most once a minute."""
        name = reason if reason in self._lost or len(self._lost) < MOST_REASONS else "other"
        self._lost[name] = self._lost.get(name, 0) + 1
        now = self._monotonic()
        if now - self._logged.get(name, -LOG_EVERY) >= LOG_EVERY:
            self._logged[name] = now
            logger.warning(
                "usage: %s (%d so far); the request was not affected", name, self._lost[name], exc_info=sys.exc_info()[1]
            )

    def flush(self) -> bool:
        """Deliver now, in this thread; True when everything recorded before the call is acknowledged."""
        return self._flusher.flush()

    def close(self) -> bool:
        """Deliver what is left, within `shutdown_timeout`; True when nothing is. The next request starts it again."""
        delivery, self._delivery, self._started_in = self._delivery, None, None
        deadline = self._monotonic() + self._shutdown_timeout
        if delivery is not None and delivery.is_alive() and delivery is not threading.current_thread():
            delivery.end(deadline)
            delivery.join(self._shutdown_timeout)
            settled = delivery.settled
        else:
            settled = self.finish(deadline)
        if not settled:
            logger.warning("usage: %d calls could not be delivered", self._flusher.backlog_calls)
        return settled

    def stats(self) -> RecorderStats:
        """How it is doing now."""
        flusher = self._flusher
        return RecorderStats(
            worker=flusher.worker,
            state=flusher.state,
            reason=flusher.reason,
            flushed_through_ms=flusher.flushed_through_ms,
            backlog_calls=flusher.backlog_calls,
            backlog_bytes=flusher.backlog_bytes,
            dropped=dict(flusher.dropped),
            retries=flusher.retries,
            refused=flusher.refused,
            in_the_way=flusher.in_the_way,
            lost=dict(self._lost),
        )

    def finish(self, deadline: float) -> bool:
        """Deliver all there is before the deadline, if it can be."""
        failures = 0
        while self._flusher.has_news and not self.flush_safely():
            failures += 1
            left = deadline - self._monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, _backoff(failures)))
        self._flusher.finish()
        return True

    def flush_safely(self) -> bool:
        """As `flush`, whatever happens."""
        return self._safely(self._flusher.flush) is True

    def announce(self) -> None:
        """Let readers know of this worker."""
        self._safely(self._flusher.announce)

    def _safely(self, step: Callable[[], bool | None]) -> bool | None:
        try:
            return step()
        except Exception:  # The thread has to outlive whatever this was.
            self.lost("flush")
            return None

    def _crowded(self) -> None:
        if self._delivery is not None:
            self._delivery.wake.set()
        else:
            self._started_in = None

    def _start(self) -> None:
        with self._starting:
            if self._started_in == os.getpid():
                return
            self._flusher.begin()
            self._started_in = os.getpid()
            _deliver_at_the_end_of_a_child()
            delivery = _Delivery(self, self._flush_interval)
            try:
                delivery.start()
            except RuntimeError:  # No thread at interpreter shutdown: `close` delivers in its own.
                self.lost("thread")
                return
            self._delivery = delivery


class _Delivery(threading.Thread):
    """Flushes every so often, sooner and sooner again after a failure, until it is told to end."""

    def __init__(self, recorder: Recorder, interval: float) -> None:
        super().__init__(name="usage-flusher", daemon=True)
        self._recorder = recorder
        self._interval = interval
        self._deadline: float | None = None
        self.wake = threading.Event()
        self.settled = False

    def end(self, deadline: float) -> None:
        """Deliver what is left before the deadline, then end."""
        self._deadline = deadline
        self.wake.set()

    def run(self) -> None:
        """Until `end`."""
        failures = 0
        self._recorder.announce()
        while self._deadline is None:
            self.wake.wait(_backoff(failures) if failures else self._interval)
            self.wake.clear()
            if self._deadline is None:
                failures = 0 if self._recorder.flush_safely() else failures + 1
        self.settled = self._recorder.finish(self._deadline)


def _backoff(failures: int) -> float:
    longest: float = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)


_live: weakref.WeakSet[Recorder] = weakref.WeakSet()


_held: list[Recorder] = []


def _forking() -> None:
    # A thread that is connecting may hold a lock of the import system, which the child would wait for forever.
    _held.extend(recorder for recorder in list(_live) if recorder._flusher.hold())


def _forked_parent() -> None:
    while _held:
        _held.pop()._flusher.let_go()


def _forked_child() -> None:
    _held.clear()
    for recorder in list(_live):
        recorder._after_fork()


def _exiting() -> None:
    for recorder in list(_live):
        recorder.close()


def _deliver_at_the_end_of_a_child() -> None:
    """A child of `multiprocessing` ends without the handlers of `atexit`, but not without its own."""
    if multiprocessing.parent_process() is not None:
        Finalize(None, _exiting, exitpriority=0)


atexit.register(_exiting)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forking, after_in_parent=_forked_parent, after_in_child=_forked_child)
