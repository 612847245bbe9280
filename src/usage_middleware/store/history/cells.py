"""The numbers of a section while they are put together: a dictionary for each measure, from cells to numbers.

A cell is an entity in a slot, as one number: the place of the entity, times `MOST_SLOTS`, and the slot. So a number costs one
step to add, and the cells of a measure, sorted, are in the order in which a section has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from usage_middleware.errors import UsageError
from usage_middleware.gil import rest
from usage_middleware.store.history.planes import MOST_SLOTS
from usage_middleware.store.replies import text
from usage_middleware.store.schema import LAST

T = TypeVar("T")

#: Cell -> number.
Column: TypeAlias = dict[int, int]


class Cells:
    """Some numbers by entity, measure and slot.

    Attributes:
        columns: measure -> cell -> number.
    """

    def __init__(self) -> None:
        self.columns: dict[str, Column] = {}
        self._firsts: dict[str, int] = {}

    @classmethod
    def of(cls, entities: Mapping[str, Mapping[str, Mapping[int, int]]]) -> Cells:
        """The same as entity -> measure -> slot -> number has them.

        Raises:
            UsageError: a slot does not fit a section.
        """
        found = cls()
        for entity, columns in entities.items():
            first = found.first(entity)
            for measure, column in columns.items():
                for slot, number in column.items():
                    if not 0 <= slot < MOST_SLOTS:
                        raise UsageError(f"slot {slot} does not fit a section of the history")
                    found.column(measure)[first + slot] = number
        return found

    def __bool__(self) -> bool:
        return bool(self.columns)

    @property
    def entities(self) -> list[str]:
        """The entities, each at its place."""
        return list(self._firsts)

    def first(self, entity: str) -> int:
        """The cell of an entity in slot 0."""
        found = self._firsts.get(entity)
        if found is None:
            found = self._firsts[entity] = len(self._firsts) * MOST_SLOTS
        return found

    def column(self, measure: str) -> Column:
        """The numbers of a measure, to be added to."""
        found = self.columns.get(measure)
        if found is None:
            found = self.columns[measure] = {}
        return found

    def add(self, more: Cells) -> None:
        """Add the numbers of others. Of `last_ms` the greatest stays, all else adds up."""
        moved = {first: self.first(entity) for entity, first in more._firsts.items()}
        for measure, column in more.columns.items():
            rest()
            mine, is_last = self.column(measure), measure == LAST
            for cell, number in column.items():
                slot = cell % MOST_SLOTS
                here = moved[cell - slot] + slot
                before = mine.get(here)
                mine[here] = number if before is None else max(before, number) if is_last else before + number

    def at(self, slot: int) -> Cells:
        """The same, of which all is in slot 0, in another slot."""
        found = Cells()
        found._firsts = self._firsts
        found.columns = {
            measure: {cell + slot: one for cell, one in column.items()} for measure, column in self.columns.items()
        }
        return found

    def without_zeros(self) -> Cells:
        """The same without numbers that are 0, and without entities that have no others."""
        if not any(0 in column.values() for column in self.columns.values()):
            return self
        kept = {measure: {cell: one for cell, one in column.items() if one} for measure, column in self.columns.items()}
        used = {cell // MOST_SLOTS for column in kept.values() for cell in column}
        entities = [entity for place, entity in enumerate(self._firsts) if place in used]
        return self._moved(entities, {measure: column for measure, column in kept.items() if column})

    def in_order(self) -> Cells:
        """The same, with entities sorted."""
        entities = sorted(self._firsts)
        return self if entities == list(self._firsts) else self._moved(entities, self.columns)

    def _moved(self, entities: Sequence[str], columns: Mapping[str, Column]) -> Cells:
        """The numbers of these columns, whose entities stand in another order."""
        found = Cells()
        moved = {self._firsts[entity]: found.first(entity) for entity in entities}
        for measure, column in columns.items():
            rest()
            found.columns[measure] = {moved[cell - cell % MOST_SLOTS] + cell % MOST_SLOTS: one for cell, one in column.items()}
        return found


class ByRawName(dict[Any, T]):
    """What `make` makes of a name, by the name as Redis has it: it is decoded, and looked up, once."""

    def __init__(self, make: Callable[[str], T]) -> None:
        self._make = make

    def __missing__(self, raw: Any) -> T:
        found = self[raw] = self._make(text(raw))
        return found
