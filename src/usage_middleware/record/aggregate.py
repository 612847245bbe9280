"""What a process has counted and not yet sent: the only thing that the request path touches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from operator import add
from typing import Any, NamedTuple

from msgspec.structs import replace

from usage_middleware.events import CallerId, CallEvent, CallKey, CallTotals, Cells, RawCall, add_totals
from usage_middleware.latency import bin_of_whole
from usage_middleware.record.known_credentials import KnownCredentials
from usage_middleware.record.normalizer import Normalizer
from usage_middleware.store.members import OPERATOR

#: What the calls of one key take in memory without names and bins, measured with tracemalloc: key, totals and their places
#: in the dictionaries. Most keys share their names.
KEY_BYTES = 800
BIN_BYTES = 60
#: Drops are counted for so many credentials whose organisation is not known yet, and for ten times as many organisations.
#: The rest is counted for the operator's tree alone.
MOST_DROPPERS = 10_000
#: After this many calls the flush thread is woken, to read them and add them up together. Within a request the same work
#: takes two to three times as long: the application has just had the processor's caches to itself.
TOGETHER = 64
#: When this many calls wait, the flush thread is busy, and requests do the work.
MOST_WAITING = 1024


def size_of(key: CallKey, bins: int = 0) -> int:
    """About how many bytes calls of one key take in memory, given the number of their latency bins."""
    return KEY_BYTES + len(key.endpoint) + sum(map(len, key.tags)) + BIN_BYTES * bins


class Batch(NamedTuple):
    """Everything that was counted up to `until_ms`: calls, and how many had no room, see `add_drops`."""

    cells: Cells
    dropped: dict[CallerId, int]
    until_ms: int


class Aggregate:
    """Calls added up by their keys, within a bound of bytes.

    A finished request only leaves its `RawCall` here (`take`). Calls are normalized and added up when some are together: by
    `sum`, by `drain`, or by a request when too many wait.

    Args:
        normalizer: makes what is counted of each call.
        count_error: called with the reason if a call can't be normalized.
        limit: how much it may take in memory, bytes.
        clock: seconds since the epoch.
        crowded: called when half of the bound is used, once after each drain.
        wake: called within a request while `awake` is false, before the call gets its end.
        full: called within a request when `TOGETHER` calls wait.
        known: what is known of credentials.

    Attributes:
        awake: set by the flush thread, and cleared before its last drain.
        bytes: about what the calls take in memory.
        elsewhere: what the flusher holds of the same bound, bytes.
        pending_elsewhere: what of that is of credentials that nobody could be asked about yet, bytes.
    """

    def __init__(
        self,
        normalizer: Normalizer,
        count_error: Callable[[str], None],
        limit: int,
        clock: Callable[[], float],
        crowded: Callable[[], None],
        wake: Callable[[], None] = lambda: None,
        full: Callable[[], None] = lambda: None,
        known: KnownCredentials | None = None,
    ) -> None:
        self._normalizer = normalizer
        self._known = known or KnownCredentials(clock)
        self._count_error = count_error
        self._zeros = normalizer.zeros
        self._clock = clock
        self._crowded = crowded
        self._wake = wake
        self._full = full
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        """Begin empty, with a lock of its own: the child of a fork drops what its parent holds."""
        self.awake = False
        self._waiting: deque[RawCall] = deque()
        #: Held while calls are added up. Reentrant: a signal handler may flush in the middle of anything.
        self._lock = threading.RLock()
        self._busy = False
        self._cells: Cells = {}
        #: Callers and tags by themselves. Calls that have the same share one tuple: there is less for the garbage collector.
        self._shared: dict[Any, Any] = {}
        self._dropped: dict[CallerId, int] = {}
        self._was_crowded = False
        self.bytes = 0
        self._calls = 0
        self.elsewhere = self.pending_elsewhere = 0
        self._forget_pending()

    def _forget_pending(self) -> None:
        #: The cells of credentials that nobody was asked about yet, and what they take.
        self._pending: list[CallKey] = []
        self._pending_bytes = 0

    def take(self, raw: RawCall) -> None:
        """Keep a finished request, to be counted soon. Takes no lock: to append to a deque is one step."""
        waiting = self._waiting
        waiting.append(raw)
        if not self.awake:
            self._wake()
        # Set only now: a call that ended before the `until_ms` of a drain is then in the queue before that drain.
        raw.ended = self._clock()
        if len(waiting) % TOGETHER == 0:
            if len(waiting) < MOST_WAITING:
                self._full()
            else:
                self._help()

    def _help(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                self._sum(TOGETHER)
            finally:
                self._lock.release()

    def sum(self) -> None:
        """Add up the calls that wait."""
        with self._lock:
            self._sum(len(self._waiting))

    def _sum(self, many: int) -> None:
        if self._busy:  # A finaliser or a signal handler, in the middle of this.
            return
        try:
            self._busy = True
            waiting, event_of = self._waiting, self._normalizer.event
            for _ in range(min(many, len(waiting))):
                raw = waiting.popleft()
                try:
                    event = event_of(raw)
                except Exception:
                    self._count_error("call unreadable")
                else:
                    self._count(raw.ended or self._clock(), event)
        finally:
            self._busy = False

    def _count(self, now: float, event: CallEvent) -> None:
        second = int(now)
        key = CallKey(second - second % 60, event.caller, event.endpoint, event.tags, event.status)
        totals = self._cells.get(key) or self._open(key)
        if totals is None:
            return
        if event.counts != self._zeros:
            totals.counts = tuple(map(add, totals.counts, event.counts))
        self._calls += 1
        totals.calls += 1
        latency_us = event.latency_us
        totals.latency_us += latency_us
        totals.sent += event.sent
        now_ms = int(now * 1000)
        if now_ms > totals.last_ms:
            totals.last_ms = now_ms
        bins = totals.bins
        number = bin_of_whole(latency_us)
        if number in bins:
            bins[number] += 1
        else:
            bins[number] = 1
            self.bytes += BIN_BYTES

    def _open(self, key: CallKey) -> CallTotals | None:
        used = self.bytes + self.elsewhere
        caller = self._known.caller_of(key)
        is_pending = caller is None
        if caller is None and self._pending_bytes + self.pending_elsewhere >= self.limit // 2:
            # The other half is kept for callers that are known.
            caller, is_pending = self._known.without_pending(key), False
            used = used if caller is not None else self.limit
        if caller is not None and caller != key.caller:
            key = replace(key, caller=caller)
            found = self._cells.get(key)
            if found is not None:
                return found
        if used >= self.limit:
            add_drops(self._dropped, key.caller, 1)
            return None
        if used >= self.limit // 2 and not self._was_crowded:
            self._was_crowded = True
            self._crowded()
        shared = self._shared.setdefault
        key = replace(key, caller=shared(key.caller, key.caller), tags=shared(key.tags, key.tags))
        totals = self._cells[key] = CallTotals(0, 0, 0, 0, self._zeros, {})
        self.bytes += size_of(key)
        if is_pending:
            self._wait_for(key)
        return totals

    def _wait_for(self, key: CallKey) -> None:
        self._pending.append(key)
        self._pending_bytes += size_of(key, 1)

    @property
    def pending(self) -> int:
        """How many cells wait for an answer of the key directory."""
        return len(self._pending)

    def pending_cells(self, most: int) -> list[CallKey]:
        """The first of the cells that wait for an answer."""
        with self._lock:
            return self._pending[:most]

    def settle(self) -> None:
        """Add up the cells that waited for an answer, as far as there is one, with those of the same callers."""
        with self._lock:
            pending = self._pending
            self._forget_pending()
            for key in pending:
                caller = self._known.caller_of(key)
                if caller is None and key in self._cells:
                    self._wait_for(key)
                elif caller is not None and caller != key.caller and key in self._cells:
                    self._rename(key, replace(key, caller=caller))

    def _rename(self, key: CallKey, renamed: CallKey) -> None:
        totals = self._cells.pop(key)
        self._shared.pop(key.caller, None)
        self.bytes -= size_of(key, len(totals.bins))
        before = self._cells.get(renamed)
        self.bytes -= size_of(renamed, len(before.bins)) if before is not None else 0
        add_totals(self._cells, renamed, totals)
        self.bytes += size_of(renamed, len(self._cells[renamed].bins))

    @property
    def has_news(self) -> bool:
        """True unless it is empty."""
        with self._lock:  # What is just being added up is in neither.
            return bool(self._waiting) or self.has_sums

    @property
    def has_sums(self) -> bool:
        """True if anything was added up, or dropped, since the last drain."""
        return bool(self._cells or self._dropped)

    @property
    def dropped(self) -> dict[CallerId, int]:
        """How many calls had no room since the last drain."""
        return dict(self._dropped)

    @property
    def calls(self) -> int:
        """How many calls it holds."""
        return self._calls + len(self._waiting)

    def drain(self) -> Batch:
        """Take everything out."""
        with self._lock:
            until_ms = int(self._clock() * 1000)
            self._sum(len(self._waiting))
            batch = Batch(self._cells, self._dropped, until_ms)
            self._cells, self._shared, self._dropped = {}, {}, {}
            self.bytes = self._calls = 0
            self._forget_pending()
            self._was_crowded = False
        return batch


def add_drops(dropped: dict[CallerId, int], caller: CallerId, calls: int) -> None:
    """Add a caller's dropped calls to those of others: by organisation, or by credential until it is known whose it is."""
    who, most = (caller, MOST_DROPPERS) if isinstance(caller, bytes) else ((caller[0], ""), 10 * MOST_DROPPERS)
    if who not in dropped and len(dropped) >= most:
        who = (OPERATOR, "")
    dropped[who] = dropped.get(who, 0) + calls
