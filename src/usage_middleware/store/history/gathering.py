"""Puts sections together from live counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from usage_middleware.periods import Slot
from usage_middleware.store.history.cells import ByRawName, Cells, Column
from usage_middleware.store.history.live_counts import LiveCounts
from usage_middleware.store.history.names import place
from usage_middleware.store.history.numbers import stored
from usage_middleware.store.replies import text
from usage_middleware.store.schema import LAST


class _Field(NamedTuple):
    """Where the number of a series' field goes: `slot` is told of `last_ms` alone."""

    column: Column
    at: int
    slot: Slot | None


class _Section:
    """One section, and where names as Redis has them stand in it."""

    def __init__(self, what: str, slots: Mapping[str, Slot]) -> None:
        self.what = what
        self.cells = Cells()
        self.columns = ByRawName(self.cells.column)
        self.firsts = ByRawName(self.cells.first)
        self._slots = slots
        self._fields: dict[Any, _Field | None] = {}

    def add_series(self, entity: str, names: Sequence[Any], numbers: Sequence[int]) -> None:
        """Add fields `<slot> <measure>` of an entity."""
        first, fields = self.cells.first(entity), self._fields
        for raw, number in zip(names, numbers, strict=True):
            try:
                found = fields[raw]
            except KeyError:
                found = fields[raw] = self._field(raw)
            if found is None:
                continue
            column, at, slot = found
            if slot is None:
                column[first + at] = column.get(first + at, 0) + number
            else:
                _put_last(column, first + at, stored(LAST, number, slot))

    def _field(self, raw: Any) -> _Field | None:
        name, _, measure = text(raw).partition(" ")
        slot = self._slots.get(name)
        if slot is None:
            return None
        return _Field(self.cells.column(measure), place(slot, self.what).at, slot if measure == LAST else None)

    def add_board(self, measure: str, at: int, names: Sequence[Any], numbers: Sequence[int]) -> None:
        """Add entities with a measure of each."""
        column, firsts = self.cells.column(measure), self.firsts
        for raw, number in zip(names, numbers, strict=True):
            cell = firsts[raw] + at
            column[cell] = column.get(cell, 0) + number

    def add_measures(self, entity: str, at: int, names: Sequence[Any], numbers: Sequence[int]) -> None:
        """Add measures of an entity."""
        cell, columns = self.cells.first(entity) + at, self.columns
        for raw, number in zip(names, numbers, strict=True):
            column = columns[raw]
            column[cell] = column.get(cell, 0) + number


class Gathering:
    """Sections of some days at one resolution.

    Args:
        slots: the slots of the days, by what the fields of series call them. A series is in one section for all of them.
    """

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self._slots = slots
        self._any_slot = next(iter(slots.values()))
        self._sections: dict[str, _Section] = {}
        self._about: set[str] = set()

    def __contains__(self, what: str) -> bool:
        """Whether there is a section about this."""
        return what in self._about

    def sections(self) -> dict[str, Cells]:
        """The sections by their names."""
        return {name: section.cells for name, section in self._sections.items()}

    def add(self, live: LiveCounts) -> None:
        """Add the numbers of a Redis key."""
        key = live.key
        name, at = place(key.slot or self._any_slot, key.what)
        section = self._sections.get(name)
        if section is None:
            section = self._sections[name] = _Section(key.what, self._slots)
            self._about.add(key.what)
        if key.slot is None:
            section.add_series(key.entity or "", live.names, live.numbers)
        elif key.entity is None:
            section.add_board(key.measure, at, live.names, live.numbers)
        else:
            section.add_measures(key.entity, at, live.names, live.numbers)


def _put_last(column: Column, cell: int, number: int) -> None:
    before = column.get(cell)
    column[cell] = number if before is None else max(before, number)
