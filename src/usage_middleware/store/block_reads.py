"""Which blocks of series are read for slots: whole, or a few fields of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from usage_middleware.periods import Slot, SlotNames

#: How many fields of a block are read by name; with more, to read the whole block costs less.
FEW_FIELDS = 64


class BlockRead(NamedTuple):
    """What to read of one block: the slots by their names in it. With `fields`, only those, whose names are `names`."""

    res: str
    block: str
    is_open: bool
    slots: Mapping[str, Slot]
    names: Sequence[bytes] = ()
    fields: Sequence[tuple[Slot, str]] = ()


def block_reads(
    slots: Iterable[Slot],
    measures: Sequence[str] | None,
    names: Callable[[Slot], SlotNames],
    is_open: Callable[[Slot], bool],
) -> list[BlockRead]:
    """The blocks in which the slots are; of `measures` alone, None: of all."""
    blocks: dict[tuple[str, str], dict[str, Slot]] = {}
    for slot in slots:
        at = names(slot)
        blocks.setdefault((slot.resolution.name, at.block), {})[at.field] = slot
    return [_block(res, block, any(map(is_open, wanted.values())), wanted, measures) for (res, block), wanted in blocks.items()]


def _block(res: str, block: str, is_open: bool, slots: Mapping[str, Slot], measures: Sequence[str] | None) -> BlockRead:
    if measures is None or len(slots) * len(measures) > FEW_FIELDS:
        return BlockRead(res, block, is_open, slots)
    names = tuple(f"{field} {measure}".encode() for field in slots for measure in measures)
    return BlockRead(res, block, is_open, slots, names, [(slot, measure) for slot in slots.values() for measure in measures])
