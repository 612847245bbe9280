"""How one measure is read minute by minute over many hours: one command for each half-hour."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

from usage_middleware.periods import MINUTE, Slot, slot_names
from usage_middleware.store.reads import Read
from usage_middleware.store.replies import Note, number
from usage_middleware.store.schema import Schema


def minute_reads(
    schema: Schema, org: str, key: str | None, measure: str, start: int, end: int, found: dict[int, int]
) -> Iterator[Read]:
    """Reads that fill `found` with what is counted in each minute of `[start, end)`, of a key or of the organisation (None).

    Minutes without are absent. `start` and `end` are whole minutes.
    """
    minute, middle, _ = schema.layers
    for block in range(middle.floor(start), end, middle.seconds):
        first, last = max(start, block), min(end, block + middle.seconds)
        name = slot_names(Slot(minute, block), middle.seconds).block
        of = schema.series(org, minute.name, name) if key is None else schema.series_of(org, minute.name, name, "key", key)
        fields = _fields(first // MINUTE % 60, (last - first) // MINUTE, measure)
        yield Read(("HMGET", of, *fields), False, partial(_add, found, first))


@lru_cache(maxsize=1024)
def _fields(first: int, count: int, measure: str) -> tuple[bytes, ...]:
    """The fields of so many minutes of an hour."""
    return tuple(f"{minute:02d} {measure}".encode() for minute in range(first, first + count))


def _add(found: dict[int, int], first: int, note: Note, reply: Any) -> None:
    for place, value in enumerate(reply):
        if value is not None:
            counted = number(value)
            if counted is None:
                note("a minute")
            else:
                found[first + place * MINUTE] = counted
