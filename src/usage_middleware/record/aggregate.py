"""What a process has counted and not yet sent: the only thing that the request path touches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from operator import add
from typing import NamedTuple, TypeAlias

import msgspec

from usage_middleware.latency import bin_of
from usage_middleware.settings import DEFAULT_ORG
from usage_middleware.store.schema import OPERATOR

#: (organisation, key) as members, or the digest of a credential that the flusher resolves.
Caller: TypeAlias = tuple[str, str] | bytes
#: (minute, caller, endpoint, tags, status): calls that are alike in all of it are added up.
CellKey: TypeAlias = tuple[int, Caller, str, tuple[str, ...], int]

#: What a cell holds in memory, measured with tracemalloc: key, list, histogram and their places in the dictionaries.
#: Its names come on top, though most cells share theirs.
CELL_BYTES = 800
BIN_BYTES = 60
#: For so many callers drops are told apart; the rest shows in the operator's tree alone.
MOST_DROPPERS = 10_000


class Cell(msgspec.Struct, gc=False):
    """The sums of calls that are alike. The garbage collector does not see it: thousands would set off full collections."""

    counts: tuple[int, ...]
    calls: int = 0
    latency_us: int = 0
    sent: int = 0
    last_ms: int = 0
    bins: dict[int, int] = msgspec.field(default_factory=dict)

    def merge(self, other: Cell) -> None:
        """Add another cell's sums to this one."""
        self.calls += other.calls
        self.latency_us += other.latency_us
        self.sent += other.sent
        self.last_ms = max(self.last_ms, other.last_ms)
        self.counts = tuple(map(add, self.counts, other.counts))
        for number, calls in other.bins.items():
            self.bins[number] = self.bins.get(number, 0) + calls

    def size(self, key: CellKey) -> int:
        """About how many bytes it takes, with its key."""
        return size_of(key[2], key[3]) + BIN_BYTES * len(self.bins)


def size_of(endpoint: str, tags: Iterable[str]) -> int:
    """About how many bytes a cell of these names takes before its first bin."""
    return CELL_BYTES + len(endpoint) + sum(map(len, tags))


class Batch(NamedTuple):
    """What was counted up to `until_ms`: cells, and how many calls had no room, by caller."""

    cells: dict[CellKey, Cell]
    dropped: dict[Caller, int]
    until_ms: int


class Aggregate:
    """Calls added up by minute, caller, endpoint, tags and status, within a bound of bytes.

    `crowded` is called, on the request path, once after each drain, when half of the bound is used.
    """

    def __init__(self, counters: int, limit: int, clock: Callable[[], float], crowded: Callable[[], None]) -> None:
        self._zeros = (0,) * counters
        self._clock = clock
        self._crowded = crowded
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        """Forget everything, the lock too: the child of a fork drops what its parent holds."""
        # Reentrant: a signal handler or a finaliser may end a request in the middle of `add`.
        self._lock = threading.RLock()
        self._cells: dict[CellKey, Cell] = {}
        self._dropped: dict[Caller, int] = {}
        self._alarmed = False
        self.bytes = 0
        self.calls = 0
        #: What the flusher holds of the same bound.
        self.elsewhere = 0

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
        """Count one finished request."""
        number = bin_of(latency_us)
        with self._lock:
            # Inside the lock, so that a drain's `until_ms` is later than every call in it and earlier than all others.
            now = self._clock()
            second = int(now)
            key = (second - second % 60, caller, endpoint, tags, status)
            cell = self._cells.get(key) or self._open(key)
            if cell is None:
                return
            if counts:
                cell.counts = tuple(map(add, cell.counts, counts))
            self.calls += 1
            cell.calls += 1
            cell.latency_us += latency_us
            cell.sent += sent
            cell.last_ms = int(now * 1000)
            bins = cell.bins
            if number in bins:
                bins[number] += 1
            else:
                bins[number] = 1
                self.bytes += BIN_BYTES

    def _open(self, key: CellKey) -> Cell | None:
        used = self.bytes + self.elsewhere
        if used >= self.limit:
            self._drop(key[1], 1)
            return None
        if used >= self.limit // 2 and not self._alarmed:
            self._alarmed = True
            self._crowded()
        cell = self._cells[key] = Cell(self._zeros)
        self.bytes += size_of(key[2], key[3])
        return cell

    def _drop(self, caller: Caller, calls: int) -> None:
        known = caller in self._dropped or len(self._dropped) < MOST_DROPPERS
        who = caller if known else (OPERATOR, "")
        self._dropped[who] = self._dropped.get(who, 0) + calls

    @property
    def has_news(self) -> bool:
        """True unless it is empty."""
        return bool(self._cells or self._dropped)

    def drain(self) -> Batch:
        """Take everything out."""
        with self._lock:
            batch = Batch(self._cells, self._dropped, int(self._clock() * 1000))
            self._cells, self._dropped = {}, {}
            self.bytes = self.calls = 0
            self._alarmed = False
        return batch

    def put_back(self, cells: dict[CellKey, Cell], dropped: dict[Caller, int]) -> None:
        """Add again what was taken out and could not be sent. It has its room already: nothing is dropped."""
        size = sum(cell.size(key) for key, cell in cells.items())
        calls = sum(cell.calls for cell in cells.values())
        with self._lock:
            # Requests wait for this lock: what came in meanwhile is the smaller part, so that is what is moved.
            newer, self._cells = self._cells, cells
            self.bytes += size
            self.calls += calls
            for key, cell in newer.items():
                self._move(key, cell)
            for caller, lost in dropped.items():
                self._drop(caller, lost)

    def _move(self, key: CellKey, cell: Cell) -> None:
        mine = self._cells.get(key)
        if mine is None:
            self._cells[key] = cell
        else:
            self.bytes -= cell.size(key)
            mine.merge(cell)


def folded(cells: dict[CellKey, Cell], slot_seconds: int, now: int) -> dict[CellKey, Cell]:
    """The same calls, with the minutes of a slot as its first one, but for the current minute: for a long outage.

    Slots and days stay exact; those minutes don't.
    """
    current = now - now % 60
    found: dict[CellKey, Cell] = {}
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
