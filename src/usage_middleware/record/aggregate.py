"""What a process has counted and not yet sent: the only thing that the request path touches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from operator import add
from typing import NamedTuple, TypeAlias

import msgspec

from usage_middleware.events import CallerId, CallEvent, RawCall
from usage_middleware.latency import bin_of_whole
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.record.normalizer import Normalizer
from usage_middleware.store.schema import OPERATOR

#: Whom a call is counted for; a digest is resolved by the flusher.
Caller: TypeAlias = CallerId
#: (minute, caller, endpoint, tags, status): calls that are alike in all of it are added up.
CallKey: TypeAlias = tuple[int, Caller, str, tuple[str, ...], int]

#: What a cell holds in memory, measured with tracemalloc: key, list, histogram and their places in the dictionaries.
#: Its names come on top, though most cells share theirs.
CELL_BYTES = 800
BIN_BYTES = 60
#: For so many callers drops are told apart; the rest shows in the operator's tree alone.
MOST_DROPPERS = 10_000
#: So many calls wait before the thread that delivers is woken to read them and to add them up together. Within a request
#: the same work takes two to three times as long: there the application has just had the processor's caches to itself.
TOGETHER = 64
#: If so many wait, that thread is busy: then requests do the work.
MOST_WAITING = 1024


class CallTotals(msgspec.Struct, gc=False):
    """The sums of calls that are alike. The garbage collector does not see it: thousands would set off full collections."""

    counts: tuple[int, ...]
    calls: int = 0
    latency_us: int = 0
    sent: int = 0
    last_ms: int = 0
    bins: dict[int, int] = msgspec.field(default_factory=dict)

    def merge(self, other: CallTotals) -> None:
        """Add another cell's sums to this one."""
        self.calls += other.calls
        self.latency_us += other.latency_us
        self.sent += other.sent
        self.last_ms = max(self.last_ms, other.last_ms)
        self.counts = tuple(map(add, self.counts, other.counts))
        for number, calls in other.bins.items():
            self.bins[number] = self.bins.get(number, 0) + calls

    def size(self, key: CallKey) -> int:
        """About how many bytes it takes, with its key."""
        return size_of(key[2], key[3]) + BIN_BYTES * len(self.bins)


def size_of(endpoint: str, tags: Iterable[str]) -> int:
    """About how many bytes a cell of these names takes before its first bin."""
    return CELL_BYTES + len(endpoint) + sum(map(len, tags))


class Batch(NamedTuple):
    """What was counted up to `until_ms`: cells, and how many calls had no room, by caller."""

    cells: dict[CallKey, CallTotals]
    dropped: dict[Caller, int]
    until_ms: int


class Aggregate:
    """Calls added up by minute, caller, endpoint, tags and status, within a bound of bytes.

    A finished request only leaves its `RawCall` here (`take`). Calls are normalized and added up when some are together: by
    `sum`, by `drain`, or by a request when too many wait.

    Args:
        normalizer: makes what is counted of each call.
        count_error: is told of a call that can't be normalized.
        limit: how much it may take in memory, bytes.
        clock: seconds since the epoch.
        crowded: called once after each drain, when half of the bound is used.
        wake: called within a request that finds it asleep, before it says when it ended.
        full: called within a request when `TOGETHER` wait.

    Attributes:
        awake: whoever delivers sets it, and clears it before the last drain.
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
    ) -> None:
        self._normalizer = normalizer
        self._count_error = count_error
        self._zeros = normalizer.zeros
        self._clock = clock
        self._crowded = crowded
        self._wake = wake
        self._full = full
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        """Forget everything, the lock too: the child of a fork drops what its parent holds."""
        self.awake = False
        self._waiting: deque[RawCall] = deque()
        #: Whoever adds up holds it. Reentrant: a signal handler may flush in the middle of anything.
        self._lock = threading.RLock()
        self._busy = False
        self._cells: dict[CallKey, CallTotals] = {}
        self._dropped: dict[Caller, int] = {}
        self._alarmed = False
        self.bytes = 0
        self._calls = 0
        #: What the flusher holds of the same bound.
        self.elsewhere = 0

    def take(self, raw: RawCall) -> None:
        """Keep a finished request, to be counted soon. Takes no lock: to append to a deque is one step."""
        waiting = self._waiting
        waiting.append(raw)
        if not self.awake:
            self._wake()
        # Only now, so that a drain has every call that ended before its `until_ms`: such a call was here before.
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
        key = (second - second % 60, event.caller, event.endpoint, event.tags, event.status)
        cell = self._cells.get(key) or self._open(key)
        if cell is None:
            return
        if event.counts != self._zeros:
            cell.counts = tuple(map(add, cell.counts, event.counts))
        self._calls += 1
        cell.calls += 1
        latency_us = event.latency_us
        cell.latency_us += latency_us
        cell.sent += event.sent
        now_ms = int(now * 1000)
        if now_ms > cell.last_ms:
            cell.last_ms = now_ms
        bins = cell.bins
        number = bin_of_whole(latency_us)
        if number in bins:
            bins[number] += 1
        else:
            bins[number] = 1
            self.bytes += BIN_BYTES

    def _open(self, key: CallKey) -> CallTotals | None:
        used = self.bytes + self.elsewhere
        if used >= self.limit:
            add_drops(self._dropped, key[1], 1)
            return None
        if used >= self.limit // 2 and not self._alarmed:
            self._alarmed = True
            self._crowded()
        cell = self._cells[key] = CallTotals(self._zeros)
        self.bytes += size_of(key[2], key[3])
        return cell

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
    def calls(self) -> int:
        """How many calls it holds."""
        return self._calls + len(self._waiting)

    def drain(self) -> Batch:
        """Take everything out."""
        with self._lock:
            until_ms = int(self._clock() * 1000)
            self._sum(len(self._waiting))
            batch = Batch(self._cells, self._dropped, until_ms)
            self._cells, self._dropped = {}, {}
            self.bytes = self._calls = 0
            self._alarmed = False
        return batch


def add_drops(dropped: dict[Caller, int], caller: Caller, calls: int) -> None:
    """Add a caller's dropped calls to those of others."""
    known = caller in dropped or len(dropped) < MOST_DROPPERS
    who = caller if known else (OPERATOR, "")
    dropped[who] = dropped.get(who, 0) + calls


def folded(cells: dict[CallKey, CallTotals], slot_seconds: int, now: int) -> dict[CallKey, CallTotals]:
    """The same calls, with the minutes of a slot as its first one, but for the current minute: for a long outage.

    Slots and days stay exact; those minutes don't.
    """
    current = now - now % 60
    found: dict[CallKey, CallTotals] = {}
    for key, cell in cells.items():
        minute = key[0] if key[0] >= current else key[0] - key[0] % slot_seconds
        place = (minute, *key[1:])
        if place in found:
            found[place].merge(cell)
        else:
            found[place] = cell
    return found


def organisation(caller: Caller) -> str:
    """The organisation that a caller's drops are counted for when nobody knows its digest."""
    return DEFAULT_ORG if isinstance(caller, bytes) else caller[0]
