"""Tells whether anybody wrote a day while it was read, also a worker of an older version, which marks nothing for packing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def witnesses(client: Any, schema: Schema, org: str, layer: Resolution, starts: Sequence[int]) -> list[Witness]:
    """Look at days of a month before they are read. One is left out where a Redis key is of another type.

    Raises:
        redis_errors(): as the client does.
    """
    corrections = schema.corrections(org, month_of(starts[0]))
    fields = _fields(schema, layer, starts)
    series = {block: schema.series(org, layer.name, block) for block in fields}
    with client.pipeline(transaction=False) as pipe:
        pipe.execute_command("HLEN", corrections)
        for block, some in fields.items():
            pipe.execute_command("HMGET", series[block], *some)
        corrected, *found = pipe.execute(raise_on_error=False)
    if isinstance(corrected, Exception):
        return []
    return [
        Witness(series[block], some, [text(number or b"") for number in numbers], corrections, corrected)
        for (block, some), numbers in zip(fields.items(), found, strict=True)
        if not isinstance(numbers, Exception)
    ]


def _fields(schema: Schema, layer: Resolution, starts: Iterable[int]) -> dict[str, list[str]]:
    """The fields of the calls of each slot, by the blocks of series that they are in."""
    found: dict[str, list[str]] = {}
    for start in starts:
        for at in range(start, start + schema.layers.day.seconds, layer.seconds):
            name = slot_names(Slot(layer, at), schema.layers.middle.seconds)
            found.setdefault(name.block, []).append(f"{name.field} {CALLS}")
    return found
