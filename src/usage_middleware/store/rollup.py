"""Turns counted calls into the increments of every series and board that they add to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec

from usage_middleware.events import CallKey, CallTotals
from usage_middleware.gil import yielding
from usage_middleware.options import CounterKind
from usage_middleware.periods import Resolution, Slot, SlotNames, day_name, slot_names
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.members import OPERATOR, key_board_member
from usage_middleware.store.retention import AHEAD, end_of
from usage_middleware.store.schema import (
    BYTES,
    CALLS,
    CLASSES,
    CORRECTED,
    DROPPED,
    LAST,
    LATENCY,
    Schema,
    counter_field,
    status_class,
    status_field,
    todo_member,
)

#: In place of a tag: these calls are on no board of that dimension, because they finished before it was declared.
NO_BOARD = ""

_T = TypeVar("_T")
_Pairs: TypeAlias = list[tuple[str, _T]]
#: What becomes one Redis key in each slot: its kind, and what else its name says, such as the endpoint.
_Place: TypeAlias = tuple[str, ...]
_SERIES: tuple[CounterKind, ...] = ("series", "endpoint", "key")
_BOARDS: tuple[CounterKind, ...] = ("board", "key_board")


class Increments(msgspec.Struct, gc=False):
    """What is added to one Redis key.

    Attributes:
        expire_at: when the key ends, seconds since the epoch.
        sums: field or member -> what is added.
        greatest: field -> what replaces a smaller value; series only.
    """

    expire_at: int
    sums: dict[str, int]
    greatest: dict[str, int] = {}


class Expansion(NamedTuple):
    """Everything that one chunk adds, by the names of Redis keys; `seen` by dimension: member -> last_ms."""

    series: dict[str, Increments]
    boards: dict[str, Increments]
    seen: dict[str, dict[str, int]]

    @property
    def increments(self) -> int:
        """How many fields and members are touched."""
        return sum(len(one.sums) + len(one.greatest) for one in (*self.series.values(), *self.boards.values()))


def expand(schema: Schema, chunk: Chunk, now: int, since: int = 0) -> Expansion:
    """Every increment of a chunk at all three resolutions. Redis keys that are past their retention are left out.

    In the operator's tree (`chunk.org` is `*`) calls count by their own organisation, and keys are not told apart.
    `now` is in seconds; dropped calls are counted in its slots. However wrong the clock was that a minute came from, no
    Redis key outlives its retention by more than 32 days. What is older than `since`, where history begins, was never packed:
    only what is kept without history is there to be changed.
    """
    found = _Expander(schema, chunk.org, now, since, corrects=chunk.corrects)
    for key, totals in yielding(chunk.cells.items()):
        found.add(key, totals)
    if chunk.dropped:
        found.drop(chunk.dropped)
    return _without_zeros(found.expansion()) if chunk.corrects else found.expansion()


def _without_zeros(found: Expansion) -> Expansion:
    """What a correction does not change is not written: a field of 0 would look like a status that was seen."""
    for entries in (found.series, found.boards):
        for key, one in list(entries.items()):
            one.sums = {name: amount for name, amount in one.sums.items() if amount}
            if not one.sums and not one.greatest:
                del entries[key]
    return found


def dimensions_of(schema: Schema, org: str) -> tuple[str, ...]:
    """The dimensions that have boards in an organisation's tree."""
    return ("endpoint", "org" if org == OPERATOR else "key", *schema.settings.dimensions)


def members_of(key: CallKey, org: str) -> tuple[str, ...]:
    """The member of each of these dimensions, for calls in an organisation's tree."""
    own_org, own_key = key.owner
    return (key.endpoint, own_org if org == OPERATOR else own_key, *key.tags)


class _Sums:
    """What calls add up to in one slot of time: for each place name -> sum, and the latest call."""

    __slots__ = ("amounts", "last_ms")

    def __init__(self) -> None:
        self.amounts: defaultdict[_Place, dict[str, int]] = defaultdict(dict)
        self.last_ms: dict[_Place, int] = {}

    def add(self, place: _Place, amounts: Iterable[tuple[str, int]]) -> None:
        mine = self.amounts[place]
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
    """Adds calls up by minute, and builds the names of Redis keys once for each resolution.

    A chunk holds many calls of few minutes. Call by call, the same names would be built a dozen times.
    """

    def __init__(self, schema: Schema, org: str, now: int, since: int, *, corrects: bool) -> None:
        self.schema = schema
        self.org = org
        self.now = now
        self.corrects = corrects
        self.dimensions = dimensions_of(schema, org)
        self.counters = tuple(map(counter_field, schema.settings.counters))
        self.end_of = partial(end_of, schema, now, since)
        self.minutes: dict[int, _Sums] = {}
        self.boards: dict[int, _Sums] = {}
        self.seen: dict[str, dict[str, int]] = {dimension: {} for dimension in self.dimensions}

    def add(self, key: CallKey, totals: CallTotals) -> None:
        sums, boards = self._minute(key.minute), self._boards(key.minute)
        members = list(zip(self.dimensions, members_of(key, self.org), strict=True))
        if NO_BOARD in key.tags:
            members = [(dimension, member) for dimension, member in members if member != NO_BOARD]
        measures = _board_measures(key.status, totals)
        own_key = key.owner[1]
        self._add_series(sums, key, own_key, totals)
        for dimension, member in members:
            where = self.schema.sharded(dimension, member)
            for measure, amount in measures:
                scores = boards.amounts["board", where, measure]
                scores[member] = scores.get(member, 0) + amount
        bins = [(str(number), calls) for number, calls in totals.bins.items()]
        boards.add(("latency",), bins)
        boards.add(("latency", key.endpoint), bins)
        if self.org != OPERATOR:
            boards.add(("key_board", own_key), _key_board_scores(members, measures, bins))
        last_ms = min(totals.last_ms, (self.now + AHEAD) * 1000)
        for dimension, member in members:
            seen = self.seen[dimension]
            seen[member] = max(seen.get(member, 0), last_ms)

    def drop(self, calls: int) -> None:
        self._minute(self.schema.layers.minute.floor(self.now)).add(("series",), [(DROPPED, calls)])

    def expansion(self) -> Expansion:
        """Everything that was added, under the names of Redis keys."""
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

    def _boards(self, minute: int) -> _Sums:
        """The sums of the finest slot around a minute that has boards: those of old times are added up there at once."""
        found = self.boards.get(minute)
        if found is None:
            layers = self.schema.layers
            fine = (layer.floor(minute) for layer in layers[:2] if self._has_boards(layer, layer.ceil(minute + 1)))
            found = self.boards[minute] = self._minute(next(fine, layers.day.floor(minute)))
        return found

    def _has_boards(self, layer: Resolution, slot_end: int) -> bool:
        return any(self.end_of(kind, Slot(layer, slot_end - layer.seconds), slot_end) > self.now for kind in _BOARDS)

    def _add_series(self, sums: _Sums, key: CallKey, own_key: str, totals: CallTotals) -> None:
        measures = self._series_measures(key.status, totals)
        places: list[_Place] = [("series",), ("endpoint", key.endpoint)]
        if self.org != OPERATOR:
            places.append(("key", own_key))
        for place in places:
            sums.add(place, measures)
            sums.saw(place, totals.last_ms)

    def _series_measures(self, status: int, totals: CallTotals) -> _Pairs[int]:
        counts = zip(self.counters, totals.counts, strict=True)
        optional = [(LATENCY, totals.latency_us), (BYTES, totals.sent), *counts]
        if self.corrects:
            optional.append((CORRECTED, totals.calls))
        return [
            (CALLS, totals.calls),
            (status_field(status), totals.calls),
            *((measure, amount) for measure, amount in optional if amount),
        ]

    def _name(self, found: Expansion, layer: Resolution, start: int, sums: _Sums) -> None:
        """Write the sums of one slot under their Redis keys, without those that are past their retention."""
        slot = Slot(layer, start)
        at = slot_names(slot, self.schema.layers.middle.seconds)
        ends: dict[str, int] = {kind: self.end_of(kind, slot, at.block_end) for kind in _SERIES}
        ends |= {kind: self.end_of(kind, slot, at.slot_end) for kind in _BOARDS}
        ends["latency"] = ends["board"]
        if max(ends.values()) <= self.now:
            return
        if layer.rank and self.schema.settings.history:
            self._mark(found, layer, start)
        for place, amounts in yielding(sums.amounts.items()):
            end = ends[place[0]]
            if end <= self.now:
                continue
            key = self._key(layer, at, place)
            if place[0] not in _SERIES:
                found.boards[key] = Increments(end, amounts)
                continue
            series = found.series.get(key)
            if series is None:
                series = found.series[key] = Increments(end, {})
            series.sums.update({f"{at.field} {measure}": amount for measure, amount in amounts.items()})
            if place in sums.last_ms:
                series.greatest[f"{at.field} {LAST}"] = sums.last_ms[place]

    def _mark(self, found: Expansion, layer: Resolution, start: int) -> None:
        """Note with the calls that this day is to be packed."""
        new = Increments(self.now + self.schema.settings.history_kept, {})
        todo = found.boards.setdefault(self.schema.history_todo(self.org), new)
        todo.sums[todo_member(layer.name, day_name(start))] = 1

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


def _key_board_scores(members: _Pairs[str], measures: _Pairs[int], bins: _Pairs[int]) -> _Pairs[int]:
    scores = [
        (key_board_member(measure, dimension, member), amount)
        for dimension, member in members
        if dimension != "key"
        for measure, amount in measures
    ]
    return scores + [(key_board_member(CALLS, "latency", number), calls) for number, calls in bins]


def _board_measures(status: int, totals: CallTotals) -> _Pairs[int]:
    found = [(CALLS, totals.calls)]
    if totals.latency_us:
        found.append((LATENCY, totals.latency_us))
    if status_class(status) in CLASSES:
        found.append((status_class(status), totals.calls))
    return found
