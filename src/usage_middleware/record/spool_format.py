"""The format of a spool file: its records as they are written, and the state that they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import astuple, replace

from usage_middleware.events import CallerId, CallKey, CallTotals, Cells, add_totals, calls_in
from usage_middleware.options import NONE, Settings
from usage_middleware.record.outbox import RETAINED_SECONDS, SENT_SECONDS, Outbox
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.members import OPERATOR

#: A key and its totals as they are written; in a chunk the caller takes two places.
_Row: TypeAlias = tuple[int, CallerId, str, tuple[str, ...], int, int, int, int, int, tuple[int, ...], dict[int, int]]
_ChunkRow: TypeAlias = tuple[int, str, str, str, tuple[str, ...], int, int, int, int, int, tuple[int, ...], dict[int, int]]
_Numbers: TypeAlias = dict[str, int]
_Record: TypeAlias = tuple[
    int, bool, list[tuple[str, int, list[_ChunkRow], int, int]], list[_Row], _Numbers, _Numbers, _Numbers
]  # fmt: skip


class SpoolHeader(msgspec.Struct, array_like=True):
    """The first record: whose numbers these are, and what the places in `tags` and `counts` mean."""

    namespace: str
    worker: str
    dimensions: tuple[str, ...]
    counters: tuple[str, ...]


class SpoolRecord(NamedTuple):
    """Every other record: one thing that happened.

    Attributes:
        at: when, seconds since the epoch.
        replaces: `chunks`, `cells` and `dropped` replace all calls that had no number so far.
        chunks: calls that have a number now.
        cells: calls without a number.
        dropped: calls without a number that will never be counted, by organisation; the latest record counts.
        acked: the number of the last chunk that Redis has, by organisation; the latest record counts.
        sealed: the number of the last chunk that was cut, by organisation.
    """

    at: int
    replaces: bool = False
    chunks: Sequence[Chunk] = ()
    cells: Mapping[CallKey, CallTotals] = {}
    dropped: Mapping[str, int] = {}
    acked: Mapping[str, int] = {}
    sealed: Mapping[str, int] = {}


#: What reading something damaged raises.
UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, MemoryError)
#: The year 10,000, seconds since the epoch.
_LATEST = 253_402_300_800
_MOST = 2**63

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Record).decode
encode_header = msgspec.msgpack.Encoder().encode
decode_header = msgspec.msgpack.Decoder(SpoolHeader).decode


def encode(record: SpoolRecord) -> bytes:
    """A record as it is written."""
    chunks = [
        (org, number, [_row(key, totals, *key.owner) for key, totals in cells.items()], dropped, sealed_at)
        for org, number, cells, dropped, sealed_at, _ in record.chunks
    ]
    rows = [_row(key, totals, key.caller) for key, totals in record.cells.items()]
    return _pack((record.at, record.replaces, chunks, rows, *record[4:]))


def _row(key: CallKey, totals: CallTotals, *caller: CallerId | str) -> tuple[Any, ...]:
    return key.minute, *caller, key.endpoint, key.tags, key.status, *astuple(totals)


def decode(raw: bytes) -> SpoolRecord:
    """What `encode` wrote.

    Raises:
        UNREADABLE: it was not written by `encode`.
    """
    at, replaces, chunks, rows, *numbers = _unpack(raw)
    found = [
        Chunk(org, number, _together((CallKey(row[0], row[1:3], *row[3:6]), CallTotals(*row[6:])) for row in many), *rest)
        for org, number, many, *rest in chunks
    ]
    return SpoolRecord(at, replaces, found, _together((CallKey(*row[:5]), CallTotals(*row[5:])) for row in rows), *numbers)


def _together(many: Iterable[tuple[CallKey, CallTotals]]) -> Cells:
    cells: Cells = {}
    for key, totals in many:
        add_totals(cells, key, totals)
    return cells


class SpoolState:
    """What the records of a file add up to.

    Attributes:
        worker: the worker whose file it is.
        cells: calls without a number.
        dropped: calls without a number that will never be counted, by organisation.
        damaged: how many records could not be read.
        at: when something was last written, seconds since the epoch.
    """

    def __init__(self, header: SpoolHeader, settings: Settings) -> None:
        self.worker = header.worker
        self.cells: Cells = {}
        self.dropped: dict[str, int] = {}
        self._fit = _Fit(header, settings)
        self._chunks: dict[str, dict[int, Chunk]] = {}
        self._acks: dict[str, list[tuple[int, int]]] = {}
        self._sealed: dict[str, int] = {}
        self.at = 0
        self.damaged = 0
        #: Calls without a number, before a damaged record that may have given them one.
        self._doubtful: list[Cells] = []

    def take(self, entry: SpoolRecord) -> None:
        """Add what happened next.

        Raises:
            ValueError: it can't have happened.
        """
        cells = self._fit.cells(entry.cells)
        chunks = [chunk._replace(cells=self._fit.cells(chunk.cells)) for chunk in entry.chunks]
        self.at = max(self.at, entry.at)
        if entry.replaces:
            self.cells, self.dropped, self._doubtful = {}, {}, []
        for key, totals in cells.items():
            add_totals(self.cells, key, totals)
        self.dropped.update(entry.dropped)
        for chunk in chunks:
            self._chunks.setdefault(chunk.org, {})[chunk.number] = chunk
            self._seal(chunk.org, chunk.number)
        for org, number in entry.acked.items():
            self._acks.setdefault(org, []).append((entry.at, number))
            self._seal(org, number)
        for org, number in entry.sealed.items():
            self._seal(org, number)

    def skip(self) -> None:
        """A record can't be read. If it gave numbers to calls, they may be counted already, and are not sent again."""
        self.damaged += 1
        self._doubtful.append(self.cells)
        self.cells = {}

    def _seal(self, org: str, number: int) -> None:
        self._sealed[org] = max(self._sealed.get(org, 0), number)

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
        outbox.is_from_file = True
        for org, sealed in self._sealed.items():
            outbox.know(org, sealed)
        for org in self._chunks:
            pending = [chunk.emptied() if _is_old(chunk, now) else chunk for chunk in self.pending(org)]
            lost[org] = sum(chunk.calls for chunk in self.pending(org) if _is_old(chunk, now))
            retained = [chunk for chunk in self._retained(org) if not _is_old(chunk, now)]
            if pending or retained:
                queue = outbox.queue(org)
                queue.acked = self._acked(org)
                queue.confirmed = None if queue.confirmed is None else 0
                queue.restore(pending, retained)
        for org, calls in self.dropped.items():
            outbox.queue(org).dropped += calls
        for key, totals in (pair for cells in self._doubtful for pair in cells.items()):
            org = OPERATOR if isinstance(key.caller, bytes) else key.owner[0]
            outbox.drop(org, totals.calls)
            lost[org] = lost.get(org, 0) + totals.calls
        return lost

    @property
    def holds_calls(self) -> bool:
        """False when all of it is known to be in Redis."""
        return bool(self.cells or self.dropped or any(self.pending(org) for org in self._chunks))

    @property
    def calls(self) -> int:
        """How many calls of organisations are not known to be in Redis."""
        chunks = sum(chunk.calls for org in self._chunks if org != OPERATOR for chunk in self.pending(org))
        return chunks + calls_in(self.cells)


def _is_old(chunk: Chunk, now: int) -> bool:
    return chunk.sealed_at <= now - SENT_SECONDS


class _Fit:
    """Puts tags and counts in the places of these settings: the next version of an application may declare others."""

    def __init__(self, header: SpoolHeader, settings: Settings) -> None:
        self._header = header
        self._is_same = (header.dimensions, header.counters) == (settings.dimensions, settings.counters)
        self._tags = [(_place(name, header.dimensions), settings.untagged.get(name, NONE)) for name in settings.dimensions]
        self._counts = [_place(name, header.counters) for name in settings.counters]

    def cells(self, cells: Mapping[CallKey, CallTotals]) -> Cells:
        if not all(self._is_possible(key, totals) for key, totals in cells.items()):
            raise ValueError("no worker writes such calls")
        if self._is_same:
            return dict(cells)
        return _together((self._key(key), self._totals(totals)) for key, totals in cells.items())

    def _is_possible(self, key: CallKey, totals: CallTotals) -> bool:
        numbers = totals.calls, totals.latency_us, totals.sent, *totals.counts, *totals.bins, *totals.bins.values()
        return (
            0 <= key.minute < _LATEST
            and 0 <= key.status < 100_000
            and (len(key.tags), len(totals.counts)) == (len(self._header.dimensions), len(self._header.counters))
            and 0 <= totals.last_ms < _LATEST * 1000
            and min(numbers) >= 0
            and max(numbers) < _MOST
        )

    def _key(self, key: CallKey) -> CallKey:
        return replace(key, tags=tuple(untagged if place is None else key.tags[place] for place, untagged in self._tags))

    def _totals(self, totals: CallTotals) -> CallTotals:
        return replace(totals, counts=tuple(0 if place is None else totals.counts[place] for place in self._counts))


def _place(name: str, names: tuple[str, ...]) -> int | None:
    return names.index(name) if name in names else None
