"""`Recorder`: what the request path calls, and what `Usage` holds of a process."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import msgspec

from usage_middleware.events import CallerId
from usage_middleware.options import Settings
from usage_middleware.record import fork
from usage_middleware.record.aggregate import Aggregate
from usage_middleware.record.attribution import Resolve
from usage_middleware.record.flush_thread import LAST_SECONDS, FlushThread
from usage_middleware.record.flusher import Flusher
from usage_middleware.record.overflow import FindKnownKeys, find_none
from usage_middleware.record.spool import Spool
from usage_middleware.store.writer import SCRIPT_SHA, Writer

logger = logging.getLogger("usage_middleware")

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
        unreplicated: how often fewer replicas than asked for had a flush in time.
        spool_files: files of processes that are gone, which are yet to be sent.
        spool_calls: how many calls those are.
        skew_ms: how far this process's clock is ahead of Redis', milliseconds; None while that is not known.
        held: organisations that can't be written now while others can, and why.
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
    unreplicated: int = 0
    spool_files: int = 0
    spool_calls: int = 0
    skew_ms: int | None = None
    held: Mapping[str, str] = {}
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
        spool: the directory for what can't be delivered at the end; None: it is lost.
        journal: everything is on disk before it is sent, too.
        wait_replicas: so many replicas are waited for after each flush.
        routes: the endpoints of the application; asked by the flusher, about hourly.
    """

    def __init__(
        self,
        writer: Writer,
        settings: Settings,
        *,
        resolve: Resolve,
        known_keys: FindKnownKeys = find_none,
        clock: Callable[[], float] = time.time,
        flush_interval: float = 5.0,
        backlog_bytes: int = 64_000_000,
        shutdown_timeout: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
        spool: Path | None = None,
        journal: bool = False,
        wait_replicas: int = 0,
        routes: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._flush_interval = flush_interval
        self._shutdown_timeout = shutdown_timeout
        self._monotonic = monotonic
        self._aggregate = Aggregate(len(settings.counters), backlog_bytes, clock, self._crowded, self._start, self._full)
        #: `take(noted)`: keep what was noted of a finished request, to be counted soon.
        self.take = self._aggregate.take
        self._flusher = Flusher(
            writer,
            self._aggregate,
            resolve=resolve,
            known_keys=known_keys,
            count_error=self.count_error,
            clock=clock,
            monotonic=monotonic,
            spool=Spool(spool, settings, limit=backlog_bytes, clock=clock) if spool is not None else None,
            journal=journal,
            wait_replicas=wait_replicas,
            routes=routes,
        )
        self._reset()
        fork.register(self)

    def _reset(self) -> None:
        self._starting = threading.RLock()
        self._delivery: FlushThread | None = None
        self._started_in: int | None = None
        self._gave_up = False
        self._lost: dict[str, int] = {}
        self._logged: dict[str, float] = {}

    def before_fork(self) -> bool:
        """Wait for a flush under way: it may hold a lock of the import system, for which the child would wait for ever."""
        return self._flusher.hold()

    def after_fork_in_parent(self) -> None:
        """Go on flushing."""
        self._flusher.let_go()

    def after_fork_in_child(self) -> None:
        """Begin as a new worker, empty: what the parent holds, the parent delivers."""
        self._aggregate.reset()
        self._flusher.reset()
        self._reset()

    def add(
        self,
        caller: CallerId,
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

    def count_error(self, reason: str, *, logged: bool = False) -> None:
        """Count an error of ours, and log it at most once a minute, unless that is done already."""
        name = reason if reason in self._lost or len(self._lost) < MOST_REASONS else "other"
        self._lost[name] = self._lost.get(name, 0) + 1
        if logged:
            return
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
        """Deliver what is left, within `shutdown_timeout`; True when nothing is. The next request starts it again.

        What it could not deliver it tries once more when it is closed again, as at the end of the process after that of the
        application: not for as long a time, and without a second line in the log.
        """
        with self._starting:
            delivery = self._delivery if self._started_in == os.getpid() else None
            self._delivery = self._started_in = None
            self._aggregate.awake = False
        is_first = delivery is not None or not self._gave_up
        deadline = time.monotonic() + (self._shutdown_timeout if is_first else 0)
        if delivery is not None and delivery.is_alive() and delivery is not threading.current_thread():
            delivery.end(deadline)
            delivery.join(self._shutdown_timeout + (LAST_SECONDS if self._flusher.spool is not None else 0))
            settled = delivery.settled
        else:
            settled = self._new_delivery().finish(deadline)
        if not settled and self._flusher.has_news and is_first:
            lost = "; they are lost if the process ends now (Usage(spool=...) would keep them)"
            logger.warning(
                "usage: %d calls could not be delivered%s",
                self._flusher.backlog_calls,
                "" if self._flusher.spool is not None else lost,
            )
        self._gave_up = not settled
        return settled

    def stats(self) -> RecorderStats:
        """How it is doing now."""
        flusher, sender = self._flusher, self._flusher.sender
        return RecorderStats(
            worker=sender.worker,
            state=flusher.state,
            reason=flusher.reason,
            flushed_through_ms=flusher.flushed_through_ms,
            backlog_calls=flusher.backlog_calls,
            backlog_bytes=flusher.backlog_bytes,
            dropped=dict(sender.dropped),
            retries=sender.retries,
            refused=sender.refused,
            in_the_way=sender.in_the_way,
            lost=dict(self._lost),
            unreplicated=sender.unreplicated,
            spool_files=flusher.spool_files,
            spool_calls=flusher.spool_calls,
            skew_ms=flusher.skew_ms,
            held=dict(sender.held),
        )

    def _new_delivery(self) -> FlushThread:
        return FlushThread(self._flusher, self.count_error, self._flush_interval)

    def _crowded(self) -> None:
        if self._delivery is not None:
            # While Redis is away, the next try comes soon anyway.
            if self._flusher.state == "ok":
                self._delivery.hurry()
        else:
            self._started_in, self._aggregate.awake = None, False

    def _full(self) -> None:
        # Asked once for many calls: the id of the process is a system call. Some servers fork without telling Python.
        if self._started_in != os.getpid():
            self._start()
        if self._delivery is None:
            self._aggregate.sum()
        else:
            self._delivery.wake.set()

    def _start(self) -> None:
        with self._starting:
            if self._started_in == os.getpid():
                return
            self._flusher.begin()
            self._gave_up = False
            self._started_in, self._aggregate.awake = os.getpid(), True
            fork.close_with_this_child()
            delivery = self._new_delivery()
            try:
                delivery.start()
            except RuntimeError:  # No thread at interpreter shutdown: `close` delivers in its own.
                self.count_error("thread")
                return
            self._delivery = delivery
