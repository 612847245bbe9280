"""Tells whether anybody wrote a day while it was read, also a worker of an older version, which marks nothing for packing."""

from __future__ import annotations

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


def witness(client: Any, schema: Schema, org: str, layer: Resolution, start: int) -> Witness | None:
    """Look before a day is read; None where one of the Redis keys is of another type.

    Raises:
        redis_errors(): as the client does.
    """
    slots = (Slot(layer, at) for at in range(start, start + schema.layers.day.seconds, layer.seconds))
    names = [slot_names(slot, schema.layers.middle.seconds) for slot in slots]
    fields = [f"{at.field} {CALLS}" for at in names]
    series, corrections = schema.series(org, layer.name, names[0].block), schema.corrections(org, month_of(start))
    with client.pipeline(transaction=False) as pipe:
        pipe.execute_command("HMGET", series, *fields)
        pipe.execute_command("HLEN", corrections)
        numbers, corrected = pipe.execute(raise_on_error=False)
    if isinstance(numbers, Exception) or isinstance(corrected, Exception):
        return None
    return Witness(series, fields, [text(number or b"") for number in numbers], corrections, corrected)
