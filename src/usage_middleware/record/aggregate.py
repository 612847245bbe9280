"""What a process has counted and not yet sent: the only thing that the request path touches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from operator import add
from typing import Any, NamedTuple

from msgspec.structs import replace

from usage_middleware.events import CallerId, CallEvent, CallKey, CallTotals, Cells, RawCall, add_totals, calls_in
from usage_middleware.latency import bin_of_whole
from usage_middleware.store.schema import OPERATOR

#: What a cell takes in memory without its names and bins, measured with tracemalloc: key, totals and their places in the
#: dictionaries. Most cells share their names.
CELL_BYTES = 800
BIN_BYTES = 60
#: Drops are counted for this many callers. The rest is counted for the operator's tree alone.
MOST_DROPPERS = 10_000
#: After this many calls the flush thread is woken, to read them and add them up together. Within a request the same work
#: takes two to three times as long: the application has just had the processor's caches to itself.
TOGETHER = 64
#: When this many calls wait, the flush thread is busy, and requests do the work.
MOST_WAITING = 1024


def size_of(key: CallKey, bins: int = 0) -> int:
    """About how many bytes calls of one key take in memory, given the number of their latency bins."""
    return CELL_BYTES + len(key.endpoint) + sum(map(len, key.tags)) + BIN_BYTES * bins


class Batch(NamedTuple):
    """Everything that was counted up to `until_ms`: calls, and how many had no room, by caller."""

    cells: Cells
    dropped: dict[CallerId, int]
    until_ms: int


class Aggregate:
    """Calls added up by their keys, within a bound of bytes.

    A finished request only leaves what was noted of it (`take`). Calls are read and added up many at a time: by `sum`, by
    `drain`, or by a request when too many wait.

    Args:
        counters: how many counters are declared.
        limit: the bound, bytes.
        clock: seconds since the epoch.
        crowded: called when half of the bound is used, once after each drain.
        wake: called within a request while `awake` is false, before the call gets its end.
        full: called within a request when `TOGETHER` calls wait.

    Attributes:
        awake: set by the flush thread, and cleared before its last drain.
        bytes: about what the calls take in memory.
        elsewhere: what the flusher holds of the same bound, bytes.
    """

    def __init__(
        self,
        counters: int,
        limit: int,
        clock: Callable[[], float],
        crowded: Callable[[], None],
        wake: Callable[[], None] = lambda: None,
        full: Callable[[], None] = lambda: None,
    ) -> None:
        self._zeros = (0,) * counters
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
        self.elsewhere = 0

    def take(self, noted: RawCall) -> None:
        """Keep what was noted of a finished request. Takes no lock: to append to a deque is one step."""
        waiting = self._waiting
        waiting.append(noted)
        if not self.awake:
            self._wake()
        # Only now, so that a drain has every call that ended before its `until_ms`: such a call was here before.
        noted[0] = self._clock()
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

    def add(self, *finished: Any) -> None:
        """Count one finished request: the parts of a `Finished`."""
        self.take([0.0, _second, finished])
        self.sum()

    def sum(self) -> None:
        """Read what waits, and add it up."""
        with self._lock:
            self._sum(len(self._waiting))

    def _sum(self, many: int) -> None:
        if self._busy:  # A finaliser or a signal handler in the midst of it.
            return
        try:
            self._busy = True
            waiting = self._waiting
            for _ in range(min(many, len(waiting))):
                noted = waiting.popleft()
                finished: CallEvent | None = noted[1](noted)
                if finished is not None:
                    self._count(noted[0] or self._clock(), *finished)
        finally:
            self._busy = False

    def _count(
        self,
        now: float,
        caller: CallerId,
        endpoint: str,
        tags: tuple[str, ...],
        status: int,
        latency_us: int,
        sent: int,
        counts: tuple[int, ...],
    ) -> None:
        second = int(now)
        key = CallKey(second - second % 60, caller, endpoint, tags, status)
        cell = self._cells.get(key) or self._open(key)
        if cell is None:
            return
        if counts != self._zeros:
            cell.counts = tuple(map(add, cell.counts, counts))
        self._calls += 1
        cell.calls += 1
        cell.latency_us += latency_us
        cell.sent += sent
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
            self._drop(key.caller, 1)
            return None
        if used >= self.limit // 2 and not self._was_crowded:
            self._was_crowded = True
            self._crowded()
        shared = self._shared.setdefault
        key = replace(key, caller=shared(key.caller, key.caller), tags=shared(key.tags, key.tags))
        cell = self._cells[key] = CallTotals(0, 0, 0, 0, self._zeros, {})
        self.bytes += size_of(key)
        return cell

    def _drop(self, caller: CallerId, calls: int) -> None:
        known = caller in self._dropped or len(self._dropped) < MOST_DROPPERS
        who = caller if known else (OPERATOR, "")
        self._dropped[who] = self._dropped.get(who, 0) + calls

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
            self._cells, self._shared, self._dropped = {}, {}, {}
            self.bytes = self._calls = 0
            self._was_crowded = False
        return batch

    def put_back(self, cells: Cells, dropped: dict[CallerId, int]) -> None:
        """Add again what was taken out and could not be sent. Its room was never given away: nothing is dropped."""
        size = sum(size_of(key, len(cell.bins)) for key, cell in cells.items())
        calls = calls_in(cells)
        with self._lock:
            # What came in meanwhile is the smaller part, so that is what is moved.
            newer, self._cells = self._cells, cells
            self.bytes += size
            self._calls += calls
            for key, cell in newer.items():
                if key in cells:
                    self.bytes -= size_of(key, len(cell.bins))
                add_totals(cells, key, cell)
            for caller, lost in dropped.items():
                self._drop(caller, lost)


def _second(noted: RawCall) -> CallEvent:
    finished: CallEvent = noted[2]
    return finished


def folded(cells: Cells, slot_seconds: int, now: int) -> Cells:
    """The same calls; those of past minutes are counted in the first minute of their slot.

    It takes less memory in a long outage. Slots and days stay exact; those minutes don't.
    """
    current = now - now % 60
    found: Cells = {}
    for key, cell in cells.items():
        minute = key.minute if key.minute >= current else key.minute - key.minute % slot_seconds
        add_totals(found, replace(key, minute=minute), cell)
    return found
