"""What is on its way to Redis: for every organisation the rows that wait, and the numbered chunks that were cut of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from operator import add

from msgspec.structs import replace

from usage_middleware.gil import rest, yielding
from usage_middleware.record.aggregate import BIN_BYTES, CallTotals, size_of
from usage_middleware.store.chunk import Chunk, Row
from usage_middleware.store.rollup import RollupCost, is_late
from usage_middleware.store.schema import OPERATOR, Schema

#: How much a chunk asks of Redis, as so many increments: some 5 ms.
CHUNK_WORK = 6_500
#: A Redis key that is new takes as long as so many increments of one that is there.
KEY_WORK = 10
#: So many rows are sorted at once, about.
ROWS_SORTED = 250
#: For so long an acknowledged chunk is kept, to send it again to a Redis that forgot it.
RETAINED_SECONDS = 10.0

RowKey = tuple[int, str, str, str, tuple[str, ...], int]


def row_of(minute: int, org: str, key: str, endpoint: str, tags: tuple[str, ...], status: int, cell: CallTotals) -> Row:
    """A cell, now that it is known whose it is."""
    return Row(
        minute, org, key, endpoint, tags, status,
        cell.calls, cell.latency_us, cell.sent, cell.last_ms, cell.counts, cell.bins,
    )  # fmt: skip


def _merge(mine: Row, other: Row) -> None:
    mine.calls += other.calls
    mine.latency_us += other.latency_us
    mine.sent += other.sent
    mine.last_ms = max(mine.last_ms, other.last_ms)
    mine.counts = tuple(map(add, mine.counts, other.counts))
    for number, calls in other.bins.items():
        mine.bins[number] = mine.bins.get(number, 0) + calls


def _size(rows: Collection[Row]) -> int:
    return sum(size_of(row.endpoint, row.tags) + BIN_BYTES * len(row.bins) for row in yielding(rows))


class OrgQueue:
    """All that one worker has for one organisation. Only the flusher touches it.

    Attributes:
        sealed: the number of the last chunk that was cut.
        acked: the number of the last chunk that Redis is known to have.
        pending: chunks to be sent, in the order of their numbers.
        retained: (when acknowledged, chunk), oldest first.
        dropped: calls to be counted as dropped with the next chunk.
        failures: how often the first pending chunk was refused for its own sake.
        confirmed: the number of the last chunk that enough replicas are known to have; None where nobody asks them.
    """

    def __init__(self, schema: Schema, org: str, sealed: int = 0, *, replicated: bool = False) -> None:
        self.schema = schema
        self.org = org
        self.sealed = self.acked = sealed
        self.confirmed = sealed if replicated else None
        self.waiting: dict[RowKey, Row] = {}
        self.pending: deque[Chunk] = deque()
        self.retained: deque[tuple[float, Chunk]] = deque()
        self.dropped = 0
        self.failures = 0
        self.bytes = 0

    @property
    def has_news(self) -> bool:
        """True while something is not acknowledged."""
        return bool(self.waiting or self.pending or self.dropped)

    def put(self, row: Row) -> None:
        """Add a row to those that wait for the next chunk. In the operator's tree it loses its key."""
        shared = self.org == OPERATOR
        key = (row.minute, row.org, "" if shared else row.key, row.endpoint, row.tags, row.status)
        mine = self.waiting.get(key)
        if mine is None:
            self.waiting[key] = replace(row, key="", bins=dict(row.bins)) if shared else row
            self.bytes += _size((row,))
        else:
            bins = len(mine.bins)
            _merge(mine, row)
            self.bytes += BIN_BYTES * (len(mine.bins) - bins)

    def seal(self, now: int) -> int:
        """Cut what waits into numbered chunks, by calls: no chunk has half of a row's counters.

        Returns how many calls are so late that nothing is kept for them; they are counted as dropped.
        """
        waiting, self.waiting = self.waiting.values(), {}
        minutes = {minute for minute in {row.minute for row in yielding(waiting)} if is_late(self.schema, minute, now)}
        late = [row for row in waiting if row.minute in minutes] if minutes else []
        self.bytes -= _size(late)
        lost = sum(row.calls for row in late)
        self.dropped += lost
        rows = [row for row in waiting if row.minute not in minutes] if minutes else waiting
        for part in _parts(_in_order(rows), len(self.schema.settings.counters)):
            self._append(part, now)
        if self.dropped:
            self._append([], now)
        return lost

    def _append(self, rows: list[Row], now: int) -> None:
        self.sealed += 1
        self.pending.append(Chunk(self.org, self.sealed, rows, self.dropped, now))
        self.dropped = 0

    def restore(self, pending: Iterable[Chunk], retained: Iterable[Chunk]) -> None:
        """Take over what another process had on its way; what it had acknowledged is asked for again."""
        self.pending.extend(pending)
        self.retained.extend((-RETAINED_SECONDS, chunk) for chunk in retained)
        self.bytes += sum(_size(chunk.rows) for chunk in (*self.pending, *(chunk for _, chunk in self.retained)))

    def acknowledge(self, now: float) -> None:
        """The first pending chunk is in Redis, and so is every one before it."""
        chunk = self.pending.popleft()
        self.acked = chunk.number
        self.failures = 0
        self.retained.append((now, chunk))
        self.release(now)

    def release(self, now: float) -> None:
        """Let go of chunks that Redis has had for long enough; call it only when Redis is known to have `acked`."""
        while self.retained and self.retained[0][0] <= now - RETAINED_SECONDS and self._is_safe(self.retained[0][1]):
            self.bytes -= _size(self.retained.popleft()[1].rows)

    def _is_safe(self, chunk: Chunk) -> bool:
        return self.confirmed is None or chunk.number <= self.confirmed

    def forget(self) -> None:
        """Keep nothing for a Redis that forgets."""
        while self.retained:
            self.bytes -= _size(self.retained.popleft()[1].rows)

    def rewind(self, last: int) -> None:
        """Redis has everything up to `last` and nothing after it: what is retained of the rest is sent again."""
        again = [chunk for _, chunk in self.retained if chunk.number > last]
        self.retained = deque(held for held in self.retained if held[1].number <= last)
        while self.pending and self.pending[0].number <= last:
            self.bytes -= _size(self.pending.popleft().rows)
        self.pending.extendleft(reversed(again))
        self.acked = last
        if self.confirmed is not None:
            self.confirmed = min(self.confirmed, last)

    def change(self, chunk: Chunk) -> None:
        """The first pending chunk, with other rows under the same number."""
        if chunk is not self.pending[0]:
            self.bytes += _size(chunk.rows) - _size(self.pending[0].rows)
            self.pending[0] = chunk

    def give_up(self) -> int:
        """Send no more of the first pending chunk than that its calls were dropped; how many were.

        The number stays, so that a chunk which did arrive after all is not counted as dropped too.
        """
        chunk = self.pending[0]
        self.failures = 0
        if not chunk.rows:
            self.pending.popleft()
            return 0
        calls = sum(row.calls for row in chunk.rows)
        self.change(chunk._replace(rows=[], dropped=chunk.dropped + calls))
        return calls

    def shed(self) -> int:
        """Drop what was never sent, all but the first pending chunk; how many calls that were."""
        unsent = [row for chunk in list(self.pending)[1:] for row in chunk.rows] + list(self.waiting.values())
        dropped = sum(chunk.dropped for chunk in list(self.pending)[1:])
        calls = sum(row.calls for row in unsent)
        self.bytes -= _size(unsent)
        self.waiting = {}
        self.pending = deque(list(self.pending)[:1])
        self.dropped += calls + dropped
        return calls

    def calls(self) -> int:
        """How many calls are not acknowledged."""
        pending = sum(row.calls for chunk in self.pending for row in yielding(chunk.rows))
        return pending + sum(row.calls for row in yielding(self.waiting.values()))


def _in_order(rows: Collection[Row]) -> Iterator[Row]:
    """What goes into the same Redis keys stands together."""
    # Sorted in parts: all at once, it would hold every request up for as long as it takes.
    parts: list[list[Row]] = [[] for _ in range(len(rows) // ROWS_SORTED + 1)]
    for row in yielding(rows):
        parts[hash((row.minute, row.key)) % len(parts)].append(row)
    for part in parts:
        rest()
        yield from sorted(part, key=_by_place)


def _by_place(row: Row) -> tuple[int, str, str]:
    return row.minute, row.key, row.endpoint


def _parts(rows: Iterable[Row], counters: int) -> Iterator[list[Row]]:
    part: list[Row] = []
    load = RollupCost(counters)
    for row in rows:
        rest()
        part.append(row)
        load.add(row)
        if load.increments + KEY_WORK * load.redis_keys >= CHUNK_WORK:
            yield part
            part, load = [], RollupCost(counters)
    if part:
        yield part


class Outbox:
    """The boxes of one worker. Of an organisation with nothing on its way only the number is kept."""

    def __init__(self, schema: Schema, *, replicated: bool = False) -> None:
        self._schema = schema
        self._replicated = replicated
        self._boxes: dict[str, OrgQueue] = {}
        self._numbers: dict[str, int] = {}

    def put(self, row: Row) -> None:
        """Add a row for its organisation and, where there is one, for the operator's tree."""
        if self._schema.settings.operator_tree:
            self.box(OPERATOR).put(row)
        self.box(row.org).put(row)

    def drop(self, org: str, calls: int) -> None:
        """Calls of an organisation that will never be counted. `*`: nobody knows whose."""
        if org != OPERATOR:
            self.box(org).dropped += calls
        if self._schema.settings.operator_tree:
            self.box(OPERATOR).dropped += calls

    def box(self, org: str) -> OrgQueue:
        """The box of an organisation."""
        found = self._boxes.get(org)
        if found is None:
            found = self._boxes[org] = OrgQueue(self._schema, org, self._numbers.get(org, 0), replicated=self._replicated)
        return found

    def know(self, org: str, number: int) -> None:
        """This worker has given numbers up to here to an organisation's chunks."""
        self._numbers[org] = number

    def numbers(self) -> dict[str, int]:
        """The number of the last chunk that was cut, for each organisation."""
        return {**self._numbers, **{org: box.sealed for org, box in self._boxes.items()}}

    def boxes(self) -> list[OrgQueue]:
        """All boxes in use."""
        return list(self._boxes.values())

    def tidy(self) -> None:
        """Keep no more than the number of organisations that have nothing on its way."""
        for org, box in list(self._boxes.items()):
            if not box.has_news and not box.retained:
                self._numbers[org] = box.sealed
                del self._boxes[org]

    def organisations(self) -> list[str]:
        """Every organisation that this worker ever sent a chunk for."""
        return list({**self._numbers, **self._boxes})

    @property
    def settled(self) -> bool:
        """True when everything is acknowledged."""
        return not any(box.has_news for box in self._boxes.values())

    @property
    def confirmed(self) -> bool:
        """True when enough replicas have all that was acknowledged."""
        return all(box.confirmed is None or box.confirmed >= box.acked for box in self._boxes.values())

    @property
    def bytes(self) -> int:
        """About how many bytes all of it takes."""
        return sum(box.bytes for box in self._boxes.values())

    @property
    def calls(self) -> int:
        """How many calls of organisations are not acknowledged."""
        return sum(box.calls() for box in self._boxes.values() if box.org != OPERATOR)
