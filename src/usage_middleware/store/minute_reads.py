"""Reads one measure minute by minute over many hours: one command for each half-hour."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from usage_middleware.periods import MINUTE, Slot, slot_names
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.reads import Read, fetch, hand_out
from usage_middleware.store.replies import Note, number
from usage_middleware.store.schema import Schema


class MinuteReads:
    """A batch of such reads of one organisation. `charge` is told what it costs, in Redis commands, and may raise."""

    def __init__(self, client: Any, schema: Schema, org: str, charge: Callable[[int], object], damage: DamageLog) -> None:
        self._client = client
        self._schema = schema
        self._org = org
        self._charge = charge
        self._damage = damage
        self._pending: list[Read] = []

    def ask(self, key: str | None, measure: str, start: int, end: int) -> dict[int, int]:
        """What is counted in each minute of `[start, end)`, of a key or of the organisation (None); filled by `read`.

        Minutes without are absent. `start` and `end` are whole minutes.
        """
        found: dict[int, int] = {}
        minute, middle, _ = self._schema.layers
        for block in range(middle.floor(start), end, middle.seconds):
            first, last = max(start, block), min(end, block + middle.seconds)
            name = slot_names(Slot(minute, block), middle.seconds).block
            fields = _fields(first // MINUTE % 60, (last - first) // MINUTE, measure)
            self._pending.append(Read(("HMGET", self._series(key, name), *fields), False, partial(_add, found, first)))
        return found

    def read(self) -> None:
        """Send what was asked, and wait for the replies."""
        pending, self._pending = self._pending, []
        if pending:
            self._charge(2 * len(pending))
            hand_out(fetch(self._client, pending, self._damage), self._damage)

    def _series(self, key: str | None, block: str) -> str:
        minute = self._schema.layers.minute.name
        if key is None:
            return self._schema.series(self._org, minute, block)
        return self._schema.series_of(self._org, minute, block, "key", key)


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
