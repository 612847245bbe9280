"""`Recorder`: counts finished requests in memory, and has them delivered in the background."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from usage_middleware import fork, signals
from usage_middleware.credentials import Credentials
from usage_middleware.errors import UsageUnavailable
from usage_middleware.options import DeliveryOptions
from usage_middleware.record.admission import Admission, FindKnownOrgs, find_no_orgs
from usage_middleware.record.aggregate import Aggregate
from usage_middleware.record.attribution import Admit, Callers, Resolve, admit_all
from usage_middleware.record.flush_thread import GRACE_SECONDS, LAST_SECONDS, FlushThread
from usage_middleware.record.flusher import Flusher
from usage_middleware.record.idle_packing import IdlePacking
from usage_middleware.record.known_credentials import KnownCredentials
from usage_middleware.record.normalizer import Normalizer
from usage_middleware.record.overflow import FindKnownKeys, find_none
from usage_middleware.store.history.rounds import Rounds
from usage_middleware.store.worker_status import OwnStatus
from usage_middleware.store.writer import Writer

logger = logging.getLogger("usage_middleware")

MOST_REASONS = 64
LOG_EVERY = 60.0
MOST_LATE_LINES = 100
#: How long a second `close` may take, seconds.
AGAIN_SECONDS = 1.0
#: So long the end of a process waits for calls that threads are answering: most have only to be closed.
AWAITED_SECONDS = 0.5
#: What the log says of errors that `stats().lost` counts under one word.
_MEANINGS = {
    "ended late": "a call ended after the last delivery of this process, and is not counted",
    "history": "the history can't be packed, and is tried again",
    "flush": "a flush failed, and is tried again",
    "journal": "the journal can't be written; check the disk",
    "credentials raised": "a function in credentials raised; its key is not seen",
    "key store": "the application's own key store failed; calls with API keys wait until it answers",
    "known_keys": "the key directory can't tell which keys are its own",
    "known_orgs": "the key directory can't tell which organisations are its own",
    "resolve": "the key directory can't tell whose credentials these are; their calls wait",
    "routes": "the application's routes can't be listed",
    "spool": "a file in the spool can't be read or written; check the disk",
    "spool damaged": "a file in the spool is damaged; what can be read of it is sent, and the file is kept as *.damaged",
    "thread": "no thread can be started; calls are delivered when the recorder is closed",
}


class OpenCalls(Protocol):
    """The calls that have not ended, as the end of a process meets them."""

    def finish_abandoned(self) -> object:
        """Take those that nobody finishes any more."""

    def finish_answered(self) -> object:
        """Take those that were answered, and that an event loop in which the process ends will not finish."""

    def await_calls(self, seconds: float) -> int:
        """Wait at most so many seconds for those that threads are answering; how many have not ended."""


class _NoCalls:
    """Of a recorder without a middleware."""

    finish_abandoned = finish_answered = await_calls = staticmethod(lambda *_: 0)


class Recorder:
    """What the request path calls, and what `Usage` holds of a process.

    The thread starts with the first request, in whichever process that is. Servers that fork need no set-up. Recording does no
    I/O and never raises for what Redis does.

    Args:
        writer: writes to Redis.
        options: how calls are delivered.
        resolve: finds the organisation and key of a credential's digest. Called by the flusher only.
        known_keys: tells which of these ids are keys of the directory, for which the cap on members does not hold.
        known_orgs: tells which of these organisations the directory knows. The others are capped.
        admit: tells which of these names of unknown credentials get a row of their own.
        credentials: where calls show their API keys.
        routes: the endpoints of the application, and whether its schema lists them. The flusher asks about once an hour.
        rounds: packs history in idle moments; None: nothing is packed.

    Attributes:
        take: `take(raw_call)` keeps what was noted of a finished request, to be counted soon.
        open_calls: the calls that have not ended; asked at the end of the process.
    """

    def __init__(
        self,
        writer: Writer,
        options: DeliveryOptions,
        *,
        resolve: Resolve,
        known_keys: FindKnownKeys = find_none,
        known_orgs: FindKnownOrgs = find_no_orgs,
        admit: Admit = admit_all,
        credentials: Credentials | None = None,
        routes: Callable[[], Mapping[str, bool]] = dict,
        rounds: Rounds | None = None,
    ) -> None:
        self._options = options
        self._rounds = rounds
        known = KnownCredentials(options.clock)
        self._aggregate = Aggregate(
            Normalizer(writer.schema.settings, credentials),
            self.count_error,
            options.backlog_bytes,
            options.clock,
            self._crowded,
            self._start,
            self._full,
            known,
        )
        self.take = self._aggregate.take
        self.open_calls: OpenCalls = _NoCalls()
        admission = Admission(writer, known_orgs, options.clock, options.monotonic, self.count_error)
        callers = Callers(resolve, known_keys, self.count_error, known, admission, admit)
        self._flusher = Flusher(writer, self._aggregate, options, callers, routes, self.count_error)
        self._reset()
        fork.recorders.add(self)

    def _reset(self) -> None:
        self._starting = threading.RLock()
        self._thread: FlushThread | None = None
        #: The last one that was told to end.
        self._ending: FlushThread | None = None
        self._started_in: int | None = None
        self._gave_up = False
        self._is_over = False
        self._logged: dict[str, float] = {}

    def before_fork(self) -> bool:
        """Wait for a flush under way. True if it has ended, and no other begins before `after_fork_in_parent`."""
        return self._flusher.pause()

    def after_fork_in_parent(self) -> None:
        """Flush again."""
        self._flusher.resume()

    def after_fork_in_child(self) -> None:
        """Start again as a new worker with nothing recorded: the parent delivers its calls itself."""
        self._aggregate.reset()
        self._flusher.reset()
        self._reset()

    def count_error(self, reason: str, *, logged: bool = False) -> None:
        """Count an error of this package, and log it at most once a minute; `logged` says that it is logged already.

        Calls that end late are logged one by one: their process does not live for another minute.
        """
        lost = self._flusher.status.lost
        name = reason if reason in lost or len(lost) < MOST_REASONS else "other"
        lost[name] = lost.get(name, 0) + 1
        now, times = self._options.monotonic(), lost[name]
        is_due = now - self._logged.get(name, -LOG_EVERY) >= LOG_EVERY or (name == "ended late" and times <= MOST_LATE_LINES)
        if is_due and not logged:
            self._logged[name], error = now, sys.exc_info()[1]
            # That Redis is away says all there is to say. Where it was found out is nobody's question.
            away = isinstance(error, UsageUnavailable)
            line, why = "usage: %s (%d times so far); requests are not affected%s", f". {error}" if away else ""
            logger.warning(line, _MEANINGS.get(name, name), times, why, exc_info=None if away else error)

    def flush(self) -> bool:
        """Deliver now, in this thread; True when everything recorded before the call is acknowledged."""
        return self._flusher.flush()

    def close(self) -> bool:
        """Deliver what is left, within `shutdown_timeout`; True when nothing is left. The next request starts it again.

        Closing again, as happens at the end of the process, tries once more to deliver, for a second at most and without a
        second line in the log. While another `close` is under way, or was interrupted, it waits for that one's end.
        """
        with self._starting:
            thread = self._thread if self._started_in == os.getpid() else None
            self._thread = self._started_in = None
            self._aggregate.awake = False
            is_first = thread is not None or not self._gave_up
            if thread is not None or self._ending is None or not self._ending.is_alive():
                self._ending = thread
            ending = self._ending
        with signals.held():
            settled = self._end(ending, self._options.shutdown_timeout if is_first else self._again_seconds)
        if not settled and self._flusher.has_news and is_first:
            self._warn_of_loss()
        self._gave_up = not settled
        return settled

    def _end(self, thread: FlushThread | None, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        if thread is None or not thread.is_alive() or thread is threading.current_thread():
            return self._new_thread().finish(deadline)
        thread.end(deadline)
        thread.join(seconds + (LAST_SECONDS if self._options.spool is not None else GRACE_SECONDS))
        return thread.settled

    @property
    def _again_seconds(self) -> float:
        return min(AGAIN_SECONDS, self._options.shutdown_timeout)

    def cut_off(self) -> None:
        """Take the calls that were answered: the process ends in the midst of its event loop."""
        self.open_calls.finish_answered()

    def end(self) -> None:
        """Close at the end of the process, when other threads may still finish calls.

        What they finish meanwhile is delivered too, within `shutdown_timeout`. What they finish later is counted as lost, under
        `ended late`, and logged.
        """
        deadline = time.monotonic() + self._options.shutdown_timeout
        settled, left = False, 0
        while not self._is_over:
            self.open_calls.finish_abandoned()
            settled = self.close()
            left = self.open_calls.await_calls(max(0.0, min(AWAITED_SECONDS, deadline - time.monotonic())))
            self.open_calls.finish_abandoned()
            with self._starting:
                has_more = self._started_in is not None or self._flusher.has_news
                self._is_over = not (settled and has_more) or time.monotonic() >= deadline
                self._aggregate.awake &= not self._is_over
        if left:
            logger.warning("usage: %d calls are being answered as this process ends; those that end now are not counted", left)
        if settled and self._flusher.has_news:
            self._warn_of_loss()

    def _warn_of_loss(self) -> None:
        advice = (
            "" if self._options.spool is not None else "; they are lost if the process ends now (Usage(spool=...) keeps them)"
        )
        logger.warning("usage: %d calls could not be delivered%s", self.stats().backlog_calls, advice)

    def stats(self) -> OwnStatus:
        """How this process's recorder is doing now."""
        return self._flusher.snapshot()

    def _new_thread(self) -> FlushThread:
        packing = IdlePacking(self._rounds, self.count_error)
        return FlushThread(self._flusher, self.count_error, self._options.flush_interval, packing)

    def _crowded(self) -> None:
        """The aggregate fills up."""
        if self._thread is None:
            self._started_in, self._aggregate.awake = None, False
        elif self._flusher.status.state == "ok":  # Else the next try comes soon anyway.
            self._thread.hurry()

    def _full(self) -> None:
        """Some calls wait to be added up."""
        # Checked once for many calls, because the id of the process is a system call. Some servers fork without telling Python.
        if self._started_in != os.getpid() and not self._is_over:
            self._start()
        if self._thread is None:
            self._aggregate.sum()
        else:
            self._thread.wake.set()

    def _start(self) -> None:
        with self._starting:
            if self._is_over:
                self.count_error("ended late")
                return
            if self._started_in == os.getpid():
                return
            self._flusher.begin()
            self._gave_up = False
            self._started_in, self._aggregate.awake = os.getpid(), True
            fork.close_at_exit_of_this_child()
            signals.exit_on_sigterm_again()
            thread = self._new_thread()
            try:
                thread.start()
            except RuntimeError:  # No new thread while the interpreter shuts down: `close` delivers in its own.
                self.count_error("thread")
                return
            self._thread = thread
