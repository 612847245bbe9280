"""What days have in live counters: which Redis keys, in the order in which they may be taken away.

What tells where others are goes last: the series of a key after the boards under it, that of the organisation after all. So a
packer that was stopped in between finds the rest again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from usage_middleware.options import Settings
from usage_middleware.periods import Resolution, Slot, slot_names
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.live_counts import LiveCounts, LiveKey, LiveReader
from usage_middleware.store.history.names import (
    BOARD,
    ENDPOINT,
    ENDPOINT_LATENCY,
    KEY,
    KEY_BOARD,
    LATENCY,
    SERIES,
    WHOLE,
    bucketed,
)
from usage_middleware.store.members import OPERATOR
from usage_middleware.store.replies import text
from usage_middleware.store.schema import BOARD_MEASURES, Schema

T = TypeVar("T")

#: How many Redis keys are read at once: a pause follows.
AT_ONCE = 50
#: Of boards under a name, which are small and many: at most so many, and about so many numbers.
MOST_AT_ONCE, NUMBERS_AT_ONCE = 150, 2_000


#: The boards of a name in some slots.
_Boards = Callable[[str, Sequence[Slot]], Iterable[LiveKey]]


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))


class LiveDays:
    """The live counters, at one resolution, of a day, or of several that are in the same Redis keys.

    Args:
        client: reads them.
        org: whose they are.
        layer: half-hours or days.
        starts: where the days begin.
        buckets: into how many buckets keys are spread.
        again: one of them was packed before. Then corrections may have left boards without series.

    Attributes:
        slots: their slots, by what the fields of series call them.
    """

    def __init__(
        self,
        client: Any,
        schema: Schema,
        org: str,
        layer: Resolution,
        starts: Sequence[int],
        buckets: int,
        damage: DamageLog,
        *,
        again: bool,
    ) -> None:
        self._client = client
        self._schema = schema
        self._org = org
        self._layer = layer
        self._start = min(starts)
        self._buckets = buckets
        self._again = again
        self._at_once = AT_ONCE
        self._settings: Settings = schema.settings
        day = self._settings.layers.day
        slots = [Slot(layer, at) for start in starts for at in range(start, start + day.seconds, layer.seconds)]
        names = [(slot, slot_names(slot, self._settings.layers.middle.seconds)) for slot in slots]
        self._block = names[0][1].block
        self.slots = {at.field: slot for slot, at in names}
        self._names = {slot: at.slot for slot, at in names}
        self._reader = LiveReader(client, self.slots, damage, of_a_month=layer == day)

    def groups(self) -> Iterator[list[LiveCounts]]:
        """What is to be taken away together, in order. An empty one is a good moment for a pause."""
        own, keys, endpoints = self._look()
        yield []
        slots = self._active(own)
        if self._again:
            slots |= yield from self._slots_of_boards()
        if self._org != OPERATOR:
            yield from self._of_keys(keys, slots)
        yield from self._with_boards(ENDPOINT, endpoints, slots, self._latency)
        yield from self._boards(sorted(slots))
        yield own

    def _look(self) -> tuple[list[LiveCounts], list[str], list[str]]:
        """The organisation's series, and the keys and endpoints that may have been counted on the first day or later."""
        series = LiveKey(self._schema.series(self._org, self._layer.name, self._block), SERIES, WHOLE)
        with self._client.pipeline(transaction=False) as pipe:
            pipe.execute_command(*series.command)
            for dimension in ("key", "endpoint"):
                pipe.execute_command("ZRANGEBYSCORE", self._schema.seen(self._org, dimension), self._start * 1000, "+inf")
            own, *seen = pipe.execute(raise_on_error=False)
        for reply in seen:
            if isinstance(reply, Exception):
                raise reply
        keys, endpoints = (sorted(map(text, names)) for names in seen)
        return self._reader.counts([series], [own]), keys, endpoints

    def _active(self, found: Iterable[LiveCounts]) -> set[Slot]:
        if self._layer == self._settings.layers.day:
            return set(self.slots.values())
        return {slot for one in found for name in one.names if (slot := self._reader.slots_of[name]) is not None}

    def _slots_of_boards(self) -> Generator[list[LiveCounts], None, set[Slot]]:
        """The slots in which a declared dimension was counted."""
        found: set[Slot] = set()
        for dimension in self._settings.dimensions:
            for shard in self._schema.all_shards(dimension):
                for slot in self.slots.values():
                    boards = [self._board(slot, shard, measure) for measure in BOARD_MEASURES]
                    if self._client.exists(*boards):
                        found.add(slot)
                yield []
        return found

    def _of_keys(self, keys: Iterable[str], slots: set[Slot]) -> Iterator[list[LiveCounts]]:
        by_section: dict[str, list[str]] = {}
        for name in keys:
            by_section.setdefault(bucketed(KEY, name, self._buckets), []).append(name)
        for names in by_section.values():
            yield from self._with_boards(KEY, names, slots, self._key_boards)

    def _with_boards(self, what: str, names: Sequence[str], slots: set[Slot], boards: _Boards) -> Iterator[list[LiveCounts]]:
        """The boards of some names, and their series, from which it is told which boards there are."""
        for some in _parts(names, AT_ONCE):
            series = {one.key.entity: one for one in self._reader.read([self._series_of(what, name) for name in some])}
            yield []
            found, waiting = list[LiveCounts](), list[LiveKey]()
            for name in some:
                own = [series[name]] if name in series else []
                waiting += boards(name, sorted(slots if self._again else self._active(own)))
                found += own
                if len(waiting) >= self._at_once:
                    yield [*(yield from self._read_in_parts(waiting)), *found]
                    found, waiting = [], []
            yield [*(yield from self._read_in_parts(waiting)), *found]

    def _read_in_parts(self, keys: Sequence[LiveKey]) -> Generator[list[LiveCounts], None, list[LiveCounts]]:
        found: list[LiveCounts] = []
        while keys:
            part, keys = keys[: self._at_once], keys[self._at_once :]
            counts = self._reader.read(part)
            found += counts
            many = sum(len(one.numbers) for one in counts)
            self._at_once = min(MOST_AT_ONCE, NUMBERS_AT_ONCE * len(part) // max(1, many) + 1)
            yield []
        return found

    def _boards(self, slots: Sequence[Slot]) -> Iterator[list[LiveCounts]]:
        for part in _parts([key for slot in slots for key in self._boards_of(slot)], AT_ONCE):
            yield self._reader.read(part)

    def _boards_of(self, slot: Slot) -> Iterator[LiveKey]:
        whole = "org" if self._org == OPERATOR else "key"
        for dimension in ("endpoint", whole, *self._settings.dimensions):
            for shard in self._schema.all_shards(dimension):
                for measure in BOARD_MEASURES:
                    yield LiveKey(self._board(slot, shard, measure), f"{BOARD} {shard}", None, measure, slot)
        latency = self._schema.latency_board(self._org, self._layer.name, self._names[slot])
        yield LiveKey(latency, LATENCY, WHOLE, slot=slot)

    def _series_of(self, what: str, name: str) -> LiveKey:
        key = self._schema.series_of(self._org, self._layer.name, self._block, what, name)
        return LiveKey(key, bucketed(KEY, name, self._buckets) if what == KEY else what, name)

    def _key_boards(self, name: str, slots: Iterable[Slot]) -> Iterator[LiveKey]:
        what = bucketed(KEY_BOARD, name, self._buckets)
        for slot in slots:
            yield LiveKey(self._schema.key_board(self._org, self._layer.name, self._names[slot], name), what, name, slot=slot)

    def _latency(self, name: str, slots: Iterable[Slot]) -> Iterator[LiveKey]:
        for slot in slots:
            key = self._schema.latency_board(self._org, self._layer.name, self._names[slot], name)
            yield LiveKey(key, ENDPOINT_LATENCY, name, slot=slot)

    def _board(self, slot: Slot, shard: str, measure: str) -> str:
        return self._schema.board(self._org, self._layer.name, self._names[slot], shard, measure)
