"""Tells whether anybody wrote a day while it was read, also a worker of an older version, which marks nothing for packing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from usage_middleware.periods import Resolution, Slot, slot_names
from usage_middleware.store.history.names import month_of
from usage_middleware.store.replies import text
from usage_middleware.store.schema import CALLS, Schema


class Witness(NamedTuple):
    """What changes with every chunk, and with every correction, that a day gets.

    Attributes:
        series: the series of the organisation.
        fields: the calls of each slot.
        numbers: what was counted there, as Redis has it; empty where nothing was.
        corrections: the corrections of the month.
        corrected: how many there were.
    """

    series: str
    fields: list[str]
    numbers: list[str]
    corrections: str
    corrected: int

    @property
    def keys(self) -> tuple[str, str]:
        """The Redis keys that it looks at."""
        return self.series, self.corrections


def witnesses(client: Any, schema: Schema, org: str, layer: Resolution, starts: Sequence[int]) -> list[Witness | None]:
    """Look at days of a month before they are read; None where one of the Redis keys is of another type.

    Raises:
        redis_errors(): as the client does.
    """
    corrections = schema.corrections(org, month_of(starts[0]))
    names = [[slot_names(slot, schema.layers.middle.seconds) for slot in _slots(schema, layer, start)] for start in starts]
    blocks: dict[str, list[str]] = {}
    for day in names:
        blocks.setdefault(day[0].block, []).extend(f"{at.field} {CALLS}" for at in day)
    series = {block: schema.series(org, layer.name, block) for block in blocks}
    with client.pipeline(transaction=False) as pipe:
        pipe.execute_command("HLEN", corrections)
        for block, fields in blocks.items():
            pipe.execute_command("HMGET", series[block], *fields)
        corrected, *found = pipe.execute(raise_on_error=False)
    seen = {
        block: Witness(series[block], fields, [text(one or b"") for one in numbers], corrections, corrected)
        for (block, fields), numbers in zip(blocks.items(), found, strict=True)
        if not (isinstance(numbers, Exception) or isinstance(corrected, Exception))
    }
    return [seen.get(day[0].block) for day in names]


def _slots(schema: Schema, layer: Resolution, start: int) -> list[Slot]:
    return [Slot(layer, at) for at in range(start, start + schema.layers.day.seconds, layer.seconds)]
