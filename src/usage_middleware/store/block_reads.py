"""How the slots of series are read: block by block, some fields by name or all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from usage_middleware.periods import Slot, SlotNames, slot_names
from usage_middleware.store.reads import Read
from usage_middleware.store.replies import AddBlock, AddFields, Measures
from usage_middleware.store.schema import Schema

#: How long after its end a slot may still change, in seconds: workers flush every few seconds.
STILL_OPEN = 120
#: What a slot has in a block beside its counters: calls, latency, bytes, the last call, and a few statuses.
_FIELDS = 7
#: How many fields of a block are read by name; with more, to read the whole block costs less.
_FEW_FIELDS = 64


class Block(NamedTuple):
    """What to read of one block: the slots by their names in it.

    Attributes:
        size: about how many fields are read.
        names: the fields, where they are few; else all are read.
        fields: the slot and the measure of each of them.
    """

    res: str
    block: str
    is_open: bool
    slots: Mapping[str, Slot]
    size: int
    names: Sequence[bytes] = ()
    fields: Sequence[tuple[Slot, str]] = ()

    def read(self, key: str, found: dict[Slot, Measures]) -> Read:
        """What reads it of a Redis key into `found`."""
        if self.names:
            return Read(("HMGET", key, *self.names), self.is_open, AddFields(self.fields, found))
        return Read(("HGETALL", key), self.is_open, AddBlock(self.slots, found))


class Blocks:
    """Works out the blocks of slots. The last result is remembered: many endpoints are read over the same slots."""

    def __init__(self, schema: Schema, now: int) -> None:
        self._now = now
        self._block_seconds = schema.layers.middle.seconds
        self._fields = _FIELDS + len(schema.settings.counters)
        self._last: tuple[Iterable[Slot], Sequence[str] | None, list[Block]] = ((), None, [])

    def is_open(self, slot: Slot) -> bool:
        """Whether a slot may still change."""
        return slot.end + STILL_OPEN > self._now

    def names(self, slot: Slot) -> SlotNames:
        """What a slot is called in Redis keys."""
        return slot_names(slot, self._block_seconds)

    def of(self, slots: Iterable[Slot], measures: Sequence[str] | None) -> list[Block]:
        """What to read of which blocks; `measures` None: all."""
        if self._last[0] is not slots or self._last[1] != measures:
            blocks: dict[tuple[str, str], dict[str, Slot]] = {}
            for slot in slots:
                at = self.names(slot)
                blocks.setdefault((slot.resolution.name, at.block), {})[at.field] = slot
            reads = [self._block(res, block, wanted, measures) for (res, block), wanted in blocks.items()]
            self._last = slots, measures, reads
        return self._last[2]

    def _block(self, res: str, block: str, slots: dict[str, Slot], measures: Sequence[str] | None) -> Block:
        is_open = any(self.is_open(slot) for slot in slots.values())
        if measures is None or len(slots) * len(measures) > _FEW_FIELDS:
            return Block(res, block, is_open, slots, len(slots) * self._fields)
        names = tuple(f"{field} {measure}".encode() for field in slots for measure in measures)
        fields = [(slot, measure) for slot in slots.values() for measure in measures]
        return Block(res, block, is_open, slots, len(names), names, fields)
