"""What a day has in live counters: which Redis keys, in the order in which they may be taken away.

What tells where others are goes last: the series of a key after the boards under it, that of the organisation after all. So a
packer that was stopped in between finds the rest again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from usage_middleware.options import Settings
from usage_middleware.periods import Resolution, Slot, slot_names
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.driver_errors import is_wrong_type
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
from usage_middleware.store.replies import columns, numbers, text
from usage_middleware.store.schema import BOARD_MEASURES, Schema

T = TypeVar("T")

#: How many Redis keys are read at once: a pause follows.
AT_ONCE = 50


class LiveKey(NamedTuple):
    """A Redis key.

    Attributes:
        name: the key.
        what: what the section is about that its numbers go to.
        entity: whose series or board it is; None: its members are entities.
        measure: what a board of many entities counts.
        slot: the slot of a board; None of a series.
    """

    name: str
    what: str
    entity: str | None
    measure: str = ""
    slot: Slot | None = None


class LiveCounts(NamedTuple):
    """The numbers of a Redis key.

    Attributes:
        key: the Redis key.
        slots: slot -> (entity, measure, number) of everything that was counted in it.
        fields: those that belong to the day, where the key has fields of other days too; None: all of it.
    """

    key: LiveKey
    slots: Mapping[Slot, list[tuple[str, str, int]]]
    fields: list[str] | None

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(map(len, self.slots.values()))


def _command(key: LiveKey) -> tuple[object, ...]:
    return ("HGETALL", key.name) if key.slot is None else ("ZRANGE", key.name, 0, -1, "WITHSCORES")


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))


class LiveDay:
    """The live counters of a day at one resolution.

    Args:
        client: reads them.
        org: whose they are.
        layer: half-hours or days.
        start: where the day begins.
        buckets: into how many buckets keys are spread.
        again: the day was packed before. Then corrections may have left boards without series.
    """

    def __init__(
        self,
        client: Any,
        schema: Schema,
        org: str,
        layer: Resolution,
        start: int,
        buckets: int,
        damage: DamageLog,
        *,
        again: bool,
    ) -> None:
        self._client = client
        self._schema = schema
        self._org = org
        self._layer = layer
        self._start = start
        self._buckets = buckets
        self._damage = damage
        self._again = again
        self._settings: Settings = schema.settings
        names = [(Slot(layer, at), slot_names(Slot(layer, at), self._settings.layers.middle.seconds)) for at in self._starts()]
        self._block = names[0][1].block
        self._slots = {at.field: slot for slot, at in names}
        self._names = {slot: at.slot for slot, at in names}

    def _starts(self) -> range:
        return range(self._start, self._start + self._settings.layers.day.seconds, self._layer.seconds)

    def groups(self) -> Iterator[list[LiveCounts]]:
        """What is to be taken away together, in order. An empty one is a good moment for a pause."""
        own = self._read([LiveKey(self._schema.series(self._org, self._layer.name, self._block), SERIES, WHOLE)])
        yield []
        slots = self._active(own)
        if self._again:
            slots |= yield from self._slots_of_boards()
        if self._org != OPERATOR:
            yield from self._of_keys(slots)
        yield from self._of_endpoints(slots)
        yield from self._boards(sorted(slots))
        yield own

    def _active(self, found: Iterable[LiveCounts]) -> set[Slot]:
        days = self._layer == self._settings.layers.day
        return set(self._slots.values()) if days else {slot for one in found for slot in one.slots}

    def _slots_of_boards(self) -> Generator[list[LiveCounts], None, set[Slot]]:
        """The slots in which a declared dimension was counted."""
        found: set[Slot] = set()
        for dimension in self._settings.dimensions:
            for shard in self._schema.all_shards(dimension):
                for slot in self._slots.values():
                    boards = [self._board(slot, shard, measure) for measure in BOARD_MEASURES]
                    if self._client.exists(*boards):
                        found.add(slot)
                yield []
        return found

    def _of_keys(self, slots: set[Slot]) -> Iterator[list[LiveCounts]]:
        names = sorted(self._seen("key"), key=lambda name: (bucketed(KEY, name, self._buckets), name))
        for some in _parts(names, AT_ONCE):
            series = {one.key.entity: one for one in self._read(self._series_of(KEY, name) for name in some)}
            yield []
            for name in some:
                own = [series[name]] if name in series else []
                boards = list(self._key_boards(name, slots if self._again else self._active(own)))
                found: list[LiveCounts] = []
                for part in _parts(boards, AT_ONCE):
                    found += self._read(part)
                    yield []
                yield [*found, *own]

    def _of_endpoints(self, slots: set[Slot]) -> Iterator[list[LiveCounts]]:
        for some in _parts(sorted(self._seen("endpoint")), AT_ONCE):
            series = {one.key.entity: one for one in self._read(self._series_of(ENDPOINT, name) for name in some)}
            yield []
            for name in some:
                own = [series[name]] if name in series else []
                found = self._read(self._latency(name, slots if self._again else self._active(own)))
                yield [*found, *own]

    def _boards(self, slots: Sequence[Slot]) -> Iterator[list[LiveCounts]]:
        whole = "org" if self._org == OPERATOR else "key"
        for slot in slots:
            keys = [
                LiveKey(self._board(slot, shard, measure), f"{BOARD} {shard}", None, measure, slot)
                for dimension in ("endpoint", whole, *self._settings.dimensions)
                for shard in self._schema.all_shards(dimension)
                for measure in BOARD_MEASURES
            ]
            latency = self._schema.latency_board(self._org, self._layer.name, self._names[slot])
            keys.append(LiveKey(latency, LATENCY, WHOLE, slot=slot))
            for some in _parts(keys, AT_ONCE):
                yield self._read(some)

    def _seen(self, dimension: str) -> list[str]:
        """Members that may have been counted on this day or later."""
        found = self._client.zrangebyscore(self._schema.seen(self._org, dimension), self._start * 1000, "+inf")
        return [text(name) for name in found]

    def _series_of(self, what: str, name: str) -> LiveKey:
        key = self._schema.series_of(self._org, self._layer.name, self._block, what, name)
        return LiveKey(key, bucketed(KEY, name, self._buckets) if what == KEY else what, name)

    def _key_boards(self, name: str, slots: Iterable[Slot]) -> Iterator[LiveKey]:
        what = bucketed(KEY_BOARD, name, self._buckets)
        for slot in sorted(slots):
            yield LiveKey(self._schema.key_board(self._org, self._layer.name, self._names[slot], name), what, name, slot=slot)

    def _latency(self, name: str, slots: Iterable[Slot]) -> Iterator[LiveKey]:
        for slot in sorted(slots):
            key = self._schema.latency_board(self._org, self._layer.name, self._names[slot], name)
            yield LiveKey(key, ENDPOINT_LATENCY, name, slot=slot)

    def _board(self, slot: Slot, shard: str, measure: str) -> str:
        return self._schema.board(self._org, self._layer.name, self._names[slot], shard, measure)

    def _read(self, keys: Iterable[LiveKey]) -> list[LiveCounts]:
        """The keys that are there. One of another type counts as missing, and stays."""
        wanted = list(keys)
        if not wanted:
            return []
        with self._client.pipeline(transaction=False) as pipe:
            for key in wanted:
                pipe.execute_command(*_command(key))
            replies = pipe.execute(raise_on_error=False)
        return [self._counts(key, reply) for key, reply in zip(wanted, replies, strict=True) if self._is_there(key, reply)]

    def _is_there(self, key: LiveKey, reply: Any) -> bool:
        if isinstance(reply, Exception):
            if not (is_wrong_type(reply) and self._damage.explains(reply, key.name)):
                raise reply
            return False
        return bool(reply)

    def _counts(self, key: LiveKey, reply: Any) -> LiveCounts:
        names, values = columns(reply)
        if key.slot is None:
            return self._of_series(key, names, values)
        found: list[tuple[str, str, int]] = []
        for name, counted in self._numbers(key, names, values):
            found.append((name, key.measure, counted) if key.entity is None else (key.entity, name, counted))
        return LiveCounts(key, {key.slot: found}, None)

    def _of_series(self, key: LiveKey, names: Sequence[Any], values: Sequence[Any]) -> LiveCounts:
        entity, fields = key.entity or WHOLE, list[str]()
        found: dict[Slot, list[tuple[str, str, int]]] = {}
        for name, counted in self._numbers(key, names, values):
            field, _, measure = name.partition(" ")
            slot = self._slots.get(field)
            if slot is not None:
                fields.append(name)
                found.setdefault(slot, []).append((entity, measure, counted))
        return LiveCounts(key, found, fields if self._layer == self._settings.layers.day else None)

    def _numbers(self, key: LiveKey, names: Sequence[Any], values: Sequence[Any]) -> Iterator[tuple[str, int]]:
        """What is counted under each name. A damaged number counts as missing, and is noted."""
        for raw, counted in zip(names, numbers(values), strict=True):
            name = text(raw)
            if counted is None:
                self._damage.note(key.name, f"the number of {name:.100}")
            elif counted:
                yield name, counted
