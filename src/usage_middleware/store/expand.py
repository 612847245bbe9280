"""From rows of calls to the increments of every series and board that they touch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

from msgspec.structs import replace

from usage_middleware.periods import DAY, Resolution, Slot, SlotNames, names
from usage_middleware.settings import Kind
from usage_middleware.store import schema as words
from usage_middleware.store.chunk import Chunk, Row
from usage_middleware.store.schema import OPERATOR, Schema, key_board_member

#: A slot that begins later than this from now was named by a clock that was wrong: its keys live no longer for it.
_AHEAD = 32 * DAY

_T = TypeVar("_T")
_Pairs: TypeAlias = list[tuple[str, _T]]


class Series(NamedTuple):
    """What is added to one hash: sums by field, and the fields of which the greatest value stays."""

    expire_at: int
    sums: dict[str, int]
    greatest: dict[str, int]


class Board(NamedTuple):
    """What is added to one sorted set."""

    expire_at: int
    scores: dict[str, int]


class Expansion(NamedTuple):
    """All that one chunk adds, by the names of Redis keys; `seen` by dimension: member -> last_ms."""

    series: dict[str, Series]
    boards: dict[str, Board]
    seen: dict[str, dict[str, int]]

    @property
    def increments(self) -> int:
        """How many fields and members are touched."""
        return sum(len(one.sums) + len(one.greatest) for one in self.series.values()) + sum(
            len(board.scores) for board in self.boards.values()
        )


def expand(schema: Schema, chunk: Chunk, now: int) -> Expansion:
    """Every increment of a chunk at all three resolutions; counters that are past their retention are left out.

    In the operator's tree (`chunk.org` is `*`) rows count by their own organisation, and no key is told apart.
    `now` is in seconds; calls that were dropped are counted in its slots. However wrong the clock was that named a row's
    minute, no key outlives its retention by more than 32 days.
    """
    found = _Expander(schema, chunk.org, now)
    for row in chunk.rows:
        found.add(row)
    if chunk.dropped:
        found.drop(chunk.dropped)
    return found.expansion


def dimensions_of(schema: Schema, org: str) -> tuple[str, ...]:
    """The dimensions that have boards in the tree of this organisation."""
    return ("endpoint", "org" if org == OPERATOR else "key", *schema.settings.dimensions)


def is_late(schema: Schema, row: Row, now: int) -> bool:
    """True when not even the days of the organisation are kept any more for this row."""
    layers = schema.layers
    day_names = names(Slot(layers.day, layers.day.floor(row.minute)), layers.middle.seconds)
    return day_names.block_end + schema.settings.kept("series", layers.day.rank) <= now


class _Expander:
    def __init__(self, schema: Schema, org: str, now: int) -> None:
        self.schema = schema
        self.org = org
        self.now = now
        self.dimensions = dimensions_of(schema, org)
        self.counters = tuple(words.counter_field(name) for name in schema.settings.counters)
        self.expansion = Expansion({}, {}, {dimension: {} for dimension in self.dimensions})

    def add(self, row: Row) -> None:
        members, measures = self._members(row), _board_measures(row)
        bins = [(str(number), calls) for number, calls in row.bins.items()]
        for layer in self.schema.layers:
            at = self._names(layer, row.minute)
            self._add_series(row, layer, at)
            self._add_boards(layer, at, members, measures)
            self._add_latency(row.endpoint, layer, at, bins)
        if self.org != OPERATOR:
            self._add_key_boards(row, members, measures)
        for dimension, member in members:
            seen = self.expansion.seen[dimension]
            seen[member] = max(seen.get(member, 0), min(row.last_ms, (self.now + _AHEAD) * 1000))

    def drop(self, calls: int) -> None:
        for layer in self.schema.layers:
            at = self._names(layer, self.now)
            key = self.schema.series(self.org, layer.name, at.block)
            self._to_series(key, self._end("series", layer, at.block_end), [(f"{at.field} {words.DROPPED}", calls)])

    def _names(self, layer: Resolution, at: int) -> SlotNames:
        return names(Slot(layer, layer.floor(at)), self.schema.layers.middle.seconds)

    def _end(self, kind: Kind, layer: Resolution, end: int) -> int:
        return min(end, self.now + _AHEAD) + self.schema.settings.kept(kind, layer.rank)

    def _members(self, row: Row) -> _Pairs[str]:
        who = row.org if self.org == OPERATOR else row.key
        return list(zip(self.dimensions, (row.endpoint, who, *row.tags), strict=True))

    def _add_series(self, row: Row, layer: Resolution, at: SlotNames) -> None:
        schema, org = self.schema, self.org
        sums = [(f"{at.field} {measure}", amount) for measure, amount in self._series_measures(row)]
        last = (f"{at.field} {words.LAST}", row.last_ms)
        places: list[tuple[Kind, str]] = [
            ("series", schema.series(org, layer.name, at.block)),
            ("endpoint", schema.series_of(org, layer.name, at.block, "endpoint", row.endpoint)),
        ]
        if org != OPERATOR:
            places.append(("key", schema.series_of(org, layer.name, at.block, "key", row.key)))
        for kind, key in places:
            self._to_series(key, self._end(kind, layer, at.block_end), sums, last)

    def _series_measures(self, row: Row) -> _Pairs[int]:
        counts = zip(self.counters, row.counts, strict=True)
        optional = [(words.LATENCY, row.latency_us), (words.BYTES, row.sent), *counts]
        return [
            (words.CALLS, row.calls),
            (words.status_field(row.status), row.calls),
            *((measure, amount) for measure, amount in optional if amount),
        ]

    def _add_boards(self, layer: Resolution, at: SlotNames, members: _Pairs[str], measures: _Pairs[int]) -> None:
        end = self._end("board", layer, at.slot_end)
        for dimension, member in members:
            where = self.schema.sharded(dimension, member)
            for measure, amount in measures:
                self._to_board(self.schema.board(self.org, layer.name, at.slot, where, measure), end, ((member, amount),))

    def _add_latency(self, endpoint: str, layer: Resolution, at: SlotNames, bins: _Pairs[int]) -> None:
        end = self._end("board", layer, at.slot_end)
        self._to_board(self.schema.latency_board(self.org, layer.name, at.slot), end, bins)
        self._to_board(self.schema.latency_board(self.org, layer.name, at.slot, endpoint), end, bins)

    def _add_key_boards(self, row: Row, members: _Pairs[str], measures: _Pairs[int]) -> None:
        scores = [
            (key_board_member(measure, dimension, member), amount)
            for dimension, member in members
            if dimension != "key"
            for measure, amount in measures
        ]
        scores += [(key_board_member(words.CALLS, "latency", str(number)), calls) for number, calls in row.bins.items()]
        for layer in self.schema.layers:
            at = self._names(layer, row.minute)
            key = self.schema.key_board(self.org, layer.name, at.slot, row.key)
            self._to_board(key, self._end("key_board", layer, at.slot_end), scores)

    def _to_series(self, key: str, end: int, sums: Iterable[tuple[str, int]], last: tuple[str, int] | None = None) -> None:
        if end <= self.now:
            return
        series = self.expansion.series.get(key)
        if series is None:
            series = self.expansion.series[key] = Series(end, {}, {})
        for field, amount in sums:
            series.sums[field] = series.sums.get(field, 0) + amount
        if last:
            series.greatest[last[0]] = max(series.greatest.get(last[0], 0), last[1])

    def _to_board(self, key: str, end: int, scores: Iterable[tuple[str, int]]) -> None:
        if end <= self.now:
            return
        board = self.expansion.boards.get(key)
        if board is None:
            board = self.expansion.boards[key] = Board(end, {})
        for member, amount in scores:
            board.scores[member] = board.scores.get(member, 0) + amount


def _board_measures(row: Row) -> _Pairs[int]:
    found = [(words.CALLS, row.calls)]
    if row.latency_us:
        found.append((words.LATENCY, row.latency_us))
    status_class = words.status_class(row.status)
    if status_class in words.CLASSES:
        found.append((status_class, row.calls))
    return found


def substitute(schema: Schema, chunk: Chunk, refused: Mapping[str, Collection[str]]) -> Chunk:
    """The same chunk, its refused members counted as `(other)`. Rows that change are copies."""
    if not any(refused.values()):
        return chunk
    dimensions = dimensions_of(schema, chunk.org)
    return chunk._replace(rows=[_substituted(row, dimensions, refused) for row in chunk.rows])


def _substituted(row: Row, dimensions: tuple[str, ...], refused: Mapping[str, Collection[str]]) -> Row:
    def kept(dimension: str, member: str) -> str:
        return words.other_member(dimension, member) if member in refused.get(dimension, ()) else member

    endpoint, who, *declared = dimensions
    changed = replace(
        row,
        endpoint=kept(endpoint, row.endpoint),
        tags=tuple(kept(name, tag) for name, tag in zip(declared, row.tags, strict=True)),
    )
    if who == "org":
        changed.org = kept("org", row.org)
    else:
        changed.key = kept("key", row.key)
    return changed


class Load:
    """Adds up about how many increments rows make together, never less than they do."""

    def __init__(self, counters: int) -> None:
        self._counters = counters
        self._known: set[tuple[object, ...]] = set()
        self.increments = 0

    def add(self, row: Row) -> int:
        """Count one more row; the load so far."""
        minute, key, endpoint, status = row.minute, row.key or row.org, row.endpoint, row.status
        series = 4 + self._counters
        parts: list[tuple[int, tuple[object, ...]]] = [
            (series, (minute,)),
            (series + 2, (minute, "e", endpoint)),
            (series + 2, (minute, "k", key)),
            (1, (minute, "s", status)),
            (2, (minute, "es", endpoint, status)),
            (2, (minute, "ks", key, status)),
            (2, (minute, "ke", key, endpoint)),
            (1, (minute, "kes", key, endpoint, status)),
        ]
        for place, tag in enumerate(row.tags):
            parts += [(2, (minute, "t", place, tag)), (1, (minute, "ts", place, tag, status))]
            parts += [(2, (minute, "kt", key, place, tag)), (1, (minute, "kts", key, place, tag, status))]
        for bin_number in row.bins:
            parts += [(1, (minute, "b", bin_number)), (1, (minute, "eb", endpoint, bin_number))]
            parts += [(1, (minute, "kb", key, bin_number))]
        fresh = sum(weight for weight, part in parts if part not in self._known)
        self._known.update(part for _, part in parts)
        self.increments += 3 * fresh
        return self.increments
