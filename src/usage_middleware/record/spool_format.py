"""What stands in a file of the spool, and what a process that is gone has left with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from usage_middleware.options import NONE, Settings
from usage_middleware.periods import DAY
from usage_middleware.record.aggregate import CallKey, CallTotals
from usage_middleware.record.outbox import RETAINED_SECONDS, Outbox
from usage_middleware.store.chunk import Chunk, Row
from usage_middleware.store.schema import OPERATOR

#: A day less than Redis remembers a worker's last number.
SENT_SECONDS = 7 * DAY


class SpooledCell(msgspec.Struct, array_like=True, gc=False):
    """Calls that are alike and have no number yet: a cell of the aggregate with its key."""

    minute: int
    caller: tuple[str, str] | bytes
    endpoint: str
    tags: tuple[str, ...]
    status: int
    calls: int
    latency_us: int
    sent: int
    last_ms: int
    counts: tuple[int, ...]
    bins: dict[int, int]


class SpoolHeader(msgspec.Struct, array_like=True):
    """The first record: whose numbers these are, and what the places in `tags` and `counts` mean."""

    namespace: str
    worker: str
    dimensions: tuple[str, ...]
    counters: tuple[str, ...]


class SpoolRecord(msgspec.Struct, array_like=True):
    """Every other record: one thing that happened.

    Attributes:
        at: when, seconds since the epoch.
        replaces: `chunks`, `cells` and `dropped` stand for all the calls without a number so far.
        chunks: calls that have a number now.
        cells: calls without a number.
        dropped: calls without a number that will never be counted, by organisation; the latest record counts.
        acked: the number of the last chunk that Redis has, by organisation; the latest record counts.
        sealed: the last number that was given away, by organisation.
    """

    at: int
    replaces: bool = False
    chunks: list[Chunk] = []
    cells: list[SpooledCell] = []
    dropped: dict[str, int] = {}
    acked: dict[str, int] = {}
    sealed: dict[str, int] = {}


encode = msgspec.msgpack.Encoder().encode
decode_head = msgspec.msgpack.Decoder(SpoolHeader).decode
decode = msgspec.msgpack.Decoder(SpoolRecord).decode


def loose(cells: Mapping[CallKey, CallTotals]) -> list[SpooledCell]:
    """Cells as they are written."""
    return [
        SpooledCell(*key, cell.calls, cell.latency_us, cell.sent, cell.last_ms, cell.counts, cell.bins)
        for key, cell in cells.items()
    ]


class SpoolState:
    """What a file says, record by record.

    Attributes:
        worker: whose numbers these are.
        cells: calls without a number.
        dropped: calls without a number that will never be counted, by organisation.
        at: when something was last written, seconds since the epoch.
    """

    def __init__(self, head: SpoolHeader, settings: Settings) -> None:
        self.worker = head.worker
        self.cells: dict[CallKey, CallTotals] = {}
        self.dropped: dict[str, int] = {}
        self._fit = _Fit(head, settings)
        self._chunks: dict[str, dict[int, Chunk]] = {}
        self._acks: dict[str, list[tuple[int, int]]] = {}
        self._sealed: dict[str, int] = {}
        self.at = 0

    def take(self, entry: SpoolRecord) -> None:
        """Add what happened next."""
        self.at = max(self.at, entry.at)
        if entry.replaces:
            self.cells, self.dropped = {}, {}
        for one in entry.cells:
            self._take_loose(one)
        self.dropped.update(entry.dropped)
        for chunk in entry.chunks:
            fitting = chunk._replace(rows=[self._fit.row(row) for row in chunk.rows])
            self._chunks.setdefault(chunk.org, {})[chunk.number] = fitting
            self._seal(chunk.org, chunk.number)
        for org, number in entry.acked.items():
            self._acks.setdefault(org, []).append((entry.at, number))
            self._seal(org, number)
        for org, number in entry.sealed.items():
            self._seal(org, number)

    def _seal(self, org: str, number: int) -> None:
        self._sealed[org] = max(self._sealed.get(org, 0), number)

    def _take_loose(self, one: SpooledCell) -> None:
        cell = CallTotals(self._fit.counts(one.counts), one.calls, one.latency_us, one.sent, one.last_ms, one.bins)
        add(self.cells, (one.minute, one.caller, one.endpoint, self._fit.tags(one.tags), one.status), cell)

    def pending(self, org: str) -> list[Chunk]:
        """The chunks that are not known to be in Redis, in order."""
        acked = self._acked(org)
        return [chunk for number, chunk in sorted(self._chunks.get(org, {}).items()) if number > acked]

    def _acked(self, org: str) -> int:
        return self._acks[org][-1][1] if org in self._acks else 0

    def _retained(self, org: str) -> list[Chunk]:
        """What was acknowledged in the last 10 seconds that the file knows of."""
        acks, end = self._acks.get(org, []), self.at - RETAINED_SECONDS
        before = [number for at, number in acks if at < end][-1:] or [0]
        old = min(*before, *(number for at, number in acks if at >= end), self._acked(org))
        return [chunk for number, chunk in sorted(self._chunks.get(org, {}).items()) if old < number <= self._acked(org)]

    def outbox(self, outbox: Outbox, now: int) -> dict[str, int]:
        """Fill an outbox with it; how many calls were too old and are dropped, by organisation."""
        lost: dict[str, int] = {}
        for org, sealed in self._sealed.items():
            outbox.know(org, sealed)
        for org in self._chunks:
            pending = [_aged(chunk, now) for chunk in self.pending(org)]
            lost[org] = sum(row.calls for chunk in self.pending(org) if _is_old(chunk, now) for row in chunk.rows)
            retained = [chunk for chunk in self._retained(org) if not _is_old(chunk, now)]
            if pending or retained:
                box = outbox.box(org)
                box.acked = self._acked(org)
                box.confirmed = None if box.confirmed is None else 0
                box.restore(pending, retained)
        for org, calls in self.dropped.items():
            outbox.box(org).dropped += calls
        return lost

    @property
    def holds_calls(self) -> bool:
        """False when all of it is known to be in Redis."""
        return bool(self.cells or self.dropped or any(self.pending(org) for org in self._chunks))

    @property
    def calls(self) -> int:
        """How many calls of organisations are not known to be in Redis."""
        chunks = sum(row.calls for org in self._chunks if org != OPERATOR for chunk in self.pending(org) for row in chunk.rows)
        return chunks + sum(cell.calls for cell in self.cells.values())


def _is_old(chunk: Chunk, now: int) -> bool:
    return chunk.sealed_at <= now - SENT_SECONDS


def _aged(chunk: Chunk, now: int) -> Chunk:
    if not _is_old(chunk, now):
        return chunk
    return chunk._replace(rows=[], dropped=chunk.dropped + sum(row.calls for row in chunk.rows))


def add(cells: dict[CallKey, CallTotals], key: CallKey, cell: CallTotals) -> None:
    """Add a cell to others."""
    mine = cells.setdefault(key, cell)
    if mine is not cell:
        mine.merge(cell)


class _Fit:
    """Puts tags and counters where these settings expect them: the next version of an application may have others."""

    def __init__(self, head: SpoolHeader, settings: Settings) -> None:
        self._same_tags = head.dimensions == settings.dimensions
        self._same_counts = head.counters == settings.counters
        self._tags = [(_place(name, head.dimensions), settings.untagged.get(name, NONE)) for name in settings.dimensions]
        self._counts = [_place(name, head.counters) for name in settings.counters]

    def tags(self, tags: tuple[str, ...]) -> tuple[str, ...]:
        if self._same_tags:
            return tags
        return tuple(tags[place] if place is not None else untagged for place, untagged in self._tags)

    def counts(self, counts: Sequence[int]) -> tuple[int, ...]:
        if self._same_counts:
            return tuple(counts)
        return tuple(counts[place] if place is not None else 0 for place in self._counts)

    def row(self, row: Row) -> Row:
        row.tags, row.counts = self.tags(row.tags), self.counts(row.counts)
        return row


def _place(name: str, names: tuple[str, ...]) -> int | None:
    return names.index(name) if name in names else None
