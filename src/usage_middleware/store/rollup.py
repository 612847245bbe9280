"""From rows of calls to the increments of every series and board that they touch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from usage_middleware.gil import yielding
from usage_middleware.options import CounterKind
from usage_middleware.periods import DAY, Resolution, Slot, SlotNames, names
from usage_middleware.store import schema as words
from usage_middleware.store.chunk import Chunk, Row
from usage_middleware.store.schema import OPERATOR, Schema, key_board_member

#: A slot that begins later than this from now was named by a clock that was wrong: its keys live no longer for it.
_AHEAD = 32 * DAY

_T = TypeVar("_T")
_Pairs: TypeAlias = list[tuple[str, _T]]
#: What will be one Redis key in each slot: its kind, and what else its name says, such as the endpoint.
_Place: TypeAlias = tuple[str, ...]
_SERIES: tuple[CounterKind, ...] = ("series", "endpoint", "key")
_BOARDS: tuple[CounterKind, ...] = ("board", "key_board")


class Series(msgspec.Struct, gc=False):
    """What is added to one hash: sums by field, and the fields of which the greatest value stays."""

    expire_at: int
    sums: dict[str, int]
    greatest: dict[str, int]


class Board(msgspec.Struct, gc=False):
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
    for row in yielding(chunk.rows):
        found.add(row)
    if chunk.dropped:
        found.drop(chunk.dropped)
    return found.expansion()


def dimensions_of(schema: Schema, org: str) -> tuple[str, ...]:
    """The dimensions that have boards in the tree of this organisation."""
    return ("endpoint", "org" if org == OPERATOR else "key", *schema.settings.dimensions)


def is_late(schema: Schema, minute: int, now: int) -> bool:
    """True when not even the days of the organisation are kept any more for calls of this minute."""
    layers = schema.layers
    day_names = names(Slot(layers.day, layers.day.floor(minute)), layers.middle.seconds)
    return day_names.block_end + schema.settings.kept("series", layers.day.rank) <= now


class _Sums:
    """What calls add up to in one slot of time: for each place (what will be a Redis key) name -> sum, and the latest call."""

    __slots__ = ("amounts", "last_ms")

    def __init__(self) -> None:
        self.amounts: dict[_Place, dict[str, int]] = {}
        self.last_ms: dict[_Place, int] = {}

    def add(self, place: _Place, amounts: Iterable[tuple[str, int]]) -> None:
        mine = self.amounts.get(place)
        if mine is None:
            mine = self.amounts[place] = {}
        for name, amount in amounts:
            mine[name] = mine.get(name, 0) + amount

    def saw(self, place: _Place, last_ms: int) -> None:
        if last_ms > self.last_ms.get(place, 0):
            self.last_ms[place] = last_ms


def _together(many: list[_Sums]) -> _Sums:
    if len(many) == 1:
        return many[0]
    total = _Sums()
    for sums in many:
        for place, amounts in yielding(sums.amounts.items()):
            total.add(place, amounts.items())
        for place, last_ms in sums.last_ms.items():
            total.saw(place, last_ms)
    return total


class _Expander:
    """First adds rows up, minute by minute; only then names what comes of it, once for each resolution.

    A chunk holds many rows of few minutes: named row by row, the same keys would be built a dozen times over.
    """

    def __init__(self, schema: Schema, org: str, now: int) -> None:
        self.schema = schema
        self.org = org
        self.now = now
        self.dimensions = dimensions_of(schema, org)
        self.counters = tuple(words.counter_field(name) for name in schema.settings.counters)
        self.minutes: dict[int, _Sums] = {}
        self.seen: dict[str, dict[str, int]] = {dimension: {} for dimension in self.dimensions}

    def add(self, row: Row) -> None:
        sums = self._minute(row.minute)
        members, measures = self._members(row), _board_measures(row)
        self._add_series(sums, row)
        for dimension, member in members:
            where = self.schema.sharded(dimension, member)
            for measure, amount in measures:
                sums.add(("board", where, measure), ((member, amount),))
        bins = [(str(number), calls) for number, calls in row.bins.items()]
        sums.add(("latency",), bins)
        sums.add(("latency", row.endpoint), bins)
        if self.org != OPERATOR:
            sums.add(("key_board", row.key), _key_board_scores(members, measures, bins))
        last_ms = min(row.last_ms, (self.now + _AHEAD) * 1000)
        for dimension, member in members:
            seen = self.seen[dimension]
            seen[member] = max(seen.get(member, 0), last_ms)

    def drop(self, calls: int) -> None:
        self._minute(self.schema.layers.minute.floor(self.now)).add(("series",), [(words.DROPPED, calls)])

    def expansion(self) -> Expansion:
        """All that was added, under the names of Redis keys."""
        found = Expansion({}, {}, self.seen)
        slots = self.minutes
        for layer in self.schema.layers:
            together: dict[int, list[_Sums]] = {}
            for at, sums in slots.items():
                together.setdefault(layer.floor(at), []).append(sums)
            slots = {start: _together(many) for start, many in together.items()}
            for start, sums in slots.items():
                self._name(found, layer, start, sums)
        return found

    def _minute(self, at: int) -> _Sums:
        sums = self.minutes.get(at)
        if sums is None:
            sums = self.minutes[at] = _Sums()
        return sums

    def _members(self, row: Row) -> _Pairs[str]:
        who = row.org if self.org == OPERATOR else row.key
        return list(zip(self.dimensions, (row.endpoint, who, *row.tags), strict=True))

    def _add_series(self, sums: _Sums, row: Row) -> None:
        measures = self._series_measures(row)
        places: list[_Place] = [("series",), ("endpoint", row.endpoint)]
        if self.org != OPERATOR:
            places.append(("key", row.key))
        for place in places:
            sums.add(place, measures)
            sums.saw(place, row.last_ms)

    def _series_measures(self, row: Row) -> _Pairs[int]:
        counts = zip(self.counters, row.counts, strict=True)
        optional = [(words.LATENCY, row.latency_us), (words.BYTES, row.sent), *counts]
        return [
            (words.CALLS, row.calls),
            (words.status_field(row.status), row.calls),
            *((measure, amount) for measure, amount in optional if amount),
        ]

    def _name(self, found: Expansion, layer: Resolution, start: int, sums: _Sums) -> None:
        """Write the sums of one slot under their keys, but for what is past its retention."""
        at = names(Slot(layer, start), self.schema.layers.middle.seconds)
        ends: dict[str, int] = {kind: self._end(kind, layer, at.block_end) for kind in _SERIES}
        ends |= {kind: self._end(kind, layer, at.slot_end) for kind in _BOARDS}
        ends["latency"] = ends["board"]
        for place, amounts in yielding(sums.amounts.items()):
            end = ends[place[0]]
            if end <= self.now:
                continue
            key = self._key(layer, at, place)
            if place[0] in _SERIES:
                series = found.series.setdefault(key, Series(end, {}, {}))
                series.sums.update((f"{at.field} {measure}", amount) for measure, amount in amounts.items())
                if place in sums.last_ms:
                    series.greatest[f"{at.field} {words.LAST}"] = sums.last_ms[place]
            else:
                found.boards[key] = Board(end, amounts)

    def _key(self, layer: Resolution, at: SlotNames, place: _Place) -> str:
        kind, *rest = place
        if kind == "series":
            return self.schema.series(self.org, layer.name, at.block)
        if kind in _SERIES:
            return self.schema.series_of(self.org, layer.name, at.block, kind, *rest)
        if kind == "board":
            return self.schema.board(self.org, layer.name, at.slot, *rest)
        if kind == "latency":
            return self.schema.latency_board(self.org, layer.name, at.slot, *rest)
        return self.schema.key_board(self.org, layer.name, at.slot, *rest)

    def _end(self, kind: CounterKind, layer: Resolution, end: int) -> int:
        return min(end, self.now + _AHEAD) + self.schema.settings.kept(kind, layer.rank)


def _key_board_scores(members: _Pairs[str], measures: _Pairs[int], bins: _Pairs[int]) -> _Pairs[int]:
    scores = [
        (key_board_member(measure, dimension, member), amount)
        for dimension, member in members
        if dimension != "key"
        for measure, amount in measures
    ]
    return scores + [(key_board_member(words.CALLS, "latency", number), calls) for number, calls in bins]


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


class RollupCost:
    """Adds up what rows ask of Redis together.

    Attributes:
        increments: of fields and members, never less than they are.
        redis_keys: what these are in, as long as dimensions are not sharded.
    """

    def __init__(self, counters: int) -> None:
        self._counters = counters
        self._known: set[tuple[object, ...]] = set()
        self.increments = self.redis_keys = 0

    def add(self, row: Row) -> None:
        """Count one more row."""
        for increments, redis_keys, part in self._parts(row):
            if part not in self._known:
                self._known.add(part)
                self.increments += 3 * increments
                self.redis_keys += 3 * redis_keys

    def _parts(self, row: Row) -> list[tuple[int, int, tuple[object, ...]]]:
        """What a row may be the first to touch at each resolution: increments, Redis keys, and a name for it."""
        minute, key, endpoint, status = row.minute, row.key or row.org, row.endpoint, row.status
        series, dimensions = 4 + self._counters, 2 + len(row.tags)
        parts: list[tuple[int, int, tuple[object, ...]]] = [
            (series, 2 + 2 * dimensions, (minute,)),
            (series + 2, 2, (minute, "e", endpoint)),
            (series + 2, 2, (minute, "k", key)),
            (1, dimensions, (minute, "s", status)),
            (2, 0, (minute, "es", endpoint, status)),
            (2, 0, (minute, "ks", key, status)),
            (2, 0, (minute, "ke", key, endpoint)),
            (1, 0, (minute, "kes", key, endpoint, status)),
        ]
        for place, tag in enumerate(row.tags):
            parts += [(2, 0, (minute, "t", place, tag)), (1, 0, (minute, "ts", place, tag, status))]
            parts += [(2, 0, (minute, "kt", key, place, tag)), (1, 0, (minute, "kts", key, place, tag, status))]
        for bin_number in row.bins:
            parts += [(1, 0, (minute, "b", bin_number)), (1, 0, (minute, "eb", endpoint, bin_number))]
            parts.append((1, 0, (minute, "kb", key, bin_number)))
        return parts
