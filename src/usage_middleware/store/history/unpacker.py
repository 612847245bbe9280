"""Writes packed time back as live counters, as it was before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.change import Addition, MonthChange
from usage_middleware.store.history.live_names import live_name
from usage_middleware.store.history.month import Month
from usage_middleware.store.history.names import BUCKETS, MERGED, SMALL, VERSION, slot_at
from usage_middleware.store.history.numbers import restored
from usage_middleware.store.history.section import Numbers
from usage_middleware.store.replies import text
from usage_middleware.store.schema import LAST, Schema

#: So many numbers are written back at once: some 5 ms of Redis.
MOST_NUMBERS = 5_000
#: Up to here a number survives the script's own arithmetic; larger ones travel as text.
_EXACT = 2**53


class Unpacker:
    """Writes months of organisations back. What has passed its retention by now is not written, and goes."""

    def __init__(self, client: Callable[[], Any], schema: Schema, clock: Callable[[], float], damage: DamageLog) -> None:
        self._client = client
        self._schema = schema
        self._clock = clock
        self._damage = damage

    def unpack(self, org: str, month: str) -> int:
        """Write a month of an organisation back; how many numbers that were. A damaged section stays.

        Raises:
            redis_errors(): as the client does.
        """
        change = MonthChange(self._client(), self._schema, org, month, self._damage.note)
        return sum(self._section(change, org, month, name) for name in self._sections(change))

    def _sections(self, change: MonthChange) -> list[str]:
        names = {text(name) for name in self._client().hkeys(change.key)} - {VERSION, BUCKETS, MERGED, SMALL}
        return sorted({*names, *change.read([]).together})

    def _section(self, change: MonthChange, org: str, month: str, name: str) -> int:
        moved = 0
        while True:
            was = change.read([name])
            numbers = was.numbers(name)
            if was.is_damaged([name]) or not numbers:
                return moved
            part = _first(numbers)
            moved += self._write(change, was, org, month, name, part)

    def _write(self, change: MonthChange, was: Month, org: str, month: str, name: str, part: Numbers) -> int:
        """Write a part of a section back; how many numbers that were: none if the month was changed meanwhile."""
        rest = Cells.of({entity: columns for entity, columns in was.numbers(name).items() if entity not in part})
        changes = was.changed({name: rest})
        additions = self._additions(org, month, name, part)
        is_done = change.commit(was, changes, self._clock(), added=additions)
        return sum(len(one.names) for one in additions) if is_done else 0

    def _additions(self, org: str, month: str, section: str, numbers: Numbers) -> list[Addition]:
        found: dict[str, tuple[int, bool, dict[str, int], dict[str, int]]] = {}
        for entity, columns in numbers.items():
            for measure, column in columns.items():
                for at, counted in column.items():
                    what, slot = slot_at(month, section, at, self._schema.layers)
                    key, name, ends, is_hash = live_name(self._schema, org, what, entity, measure, slot)
                    one = found.setdefault(key, (ends, is_hash, {}, {}))
                    (one[3] if one[1] and measure == LAST else one[2])[name] = restored(measure, counted, slot)
        return [addition for key, one in found.items() if (addition := self._addition(key, *one)) is not None]

    def _addition(self, key: str, ends: int, is_hash: bool, sums: dict[str, int], greatest: dict[str, int]) -> Addition | None:
        left = int((ends - self._clock()) * 1000)
        if left <= 0:
            return None
        numbers = [one if abs(one) < _EXACT else str(one) for one in (*sums.values(), *greatest.values())]
        return Addition(key, is_hash, [*sums, *greatest], numbers, len(sums) + 1, left)


def _first(numbers: Numbers) -> Numbers:
    """Some entities of a section: as many as may be written at once, one at least."""
    found: Numbers = {}
    for count, (entity, columns) in _counted(numbers):
        if found and count > MOST_NUMBERS:
            break
        found[entity] = columns
    return found


def _counted(numbers: Numbers) -> Iterator[tuple[int, tuple[str, dict[str, dict[int, int]]]]]:
    count = 0
    for entity, columns in numbers.items():
        count += sum(map(len, columns.values()))
        yield count, (entity, columns)
