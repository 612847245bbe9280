"""Tells whether closed slots hold what they held when this process read them, so that it need not read all of it again.

Numbers only grow, but for corrections. So where a sum is the same, and there are as many corrections, every part of it is the
same: each minute, and each API key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from usage_middleware.periods import Slot
from usage_middleware.report.context import Series
from usage_middleware.store.block_reads import STILL_OPEN
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.history.names import months
from usage_middleware.store.read_batch import ReadBatch

#: What is different once anything in a slot is.
Mark: TypeAlias = object


def is_closed(slot: Slot, now: int) -> bool:
    """Whether calls of a slot have come in, but for late ones."""
    return slot.end + STILL_OPEN <= now


def marks(batch: ReadBatch, slots: Sequence[Slot], measures: Sequence[str]) -> Deferred[Mapping[Slot, Mark]]:
    """The mark of each of these closed slots of an organisation, of what these measures are of.

    What is to be kept with it has to be asked for afterwards.
    """
    sums = batch.series(slots, None, measures)
    corrections = batch.corrections(months(slots[0].start, slots[-1].start) if slots else ())

    def told(found: Series) -> Mapping[Slot, Mark]:
        used = ((slot, found.get(slot, {})) for slot in slots)
        return {slot: (tuple([of_slot.get(measure, 0) for measure in measures]), corrections.value) for slot, of_slot in used}

    return sums.map(told)
