"""Questions about sections, and how they get what there is."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from usage_middleware.periods import Slot
from usage_middleware.store.history.layout import Needed
from usage_middleware.store.history.month import Month
from usage_middleware.store.history.section import Columns, Entities
from usage_middleware.store.history.sums import EntitySums

#: Place in a section -> the slot that is wanted.
Wanted: TypeAlias = Mapping[int, Slot]
#: Takes what a section has of an entity.
Take: TypeAlias = Callable[[str, Columns, Wanted], object]
#: Takes the same, added up over the slots that are wanted.
TakeSums: TypeAlias = Callable[[str, EntitySums], object]


class Beginning:
    """All measures whose names begin so."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.startswith(self._text)


class Question(msgspec.Struct, frozen=True, gc=False):
    """`take`, or `take_sums`, gets what there is of the entities `only` and of `measures`; None: of all."""

    only: Sequence[str] | None
    measures: Sequence[str] | Beginning | None
    take: Take | None
    take_sums: TakeSums | None


def hand_out(month: Month, name: str, questions: Sequence[tuple[Wanted, Question]]) -> None:
    """Give every question about a section what there is."""
    only = _together(question.only for _, question in questions)
    measures = _measures([question.measures for _, question in questions])
    needed = Needed(sum(1 << at for at in {at for wanted, _ in questions for at in wanted}), measures)
    first = questions[0][0]
    if all(wanted is first and question.take_sums for wanted, question in questions):
        sums = month.sums(name, only, needed)
        for _, question in questions:
            _hand_out_sums(sums, question)
        return
    numbers = month.numbers(name, only, needed)
    for wanted, question in questions if numbers else ():
        _hand_out_numbers(numbers, question, wanted)


def _hand_out_sums(sums: Mapping[str, EntitySums], question: Question) -> None:
    assert question.take_sums is not None
    for entity in sums if question.only is None else question.only:
        if entity in sums:
            question.take_sums(entity, sums[entity])


def _hand_out_numbers(numbers: Entities, question: Question, wanted: Wanted) -> None:
    for entity in numbers if question.only is None else question.only:
        if entity not in numbers:
            continue
        if question.take is not None:
            question.take(entity, numbers[entity], wanted)
        elif question.take_sums is not None:
            question.take_sums(entity, _added_up(numbers[entity], wanted))


def _added_up(columns: Columns, wanted: Wanted) -> EntitySums:
    return {measure: _sum(column, wanted) for measure, column in columns.items()}


def _sum(column: Mapping[int, int], wanted: Wanted) -> int:
    if len(column) > len(wanted):
        return sum([column[at] for at in wanted if at in column])
    return sum([counted for at, counted in column.items() if at in wanted])


def _measures(many: Sequence[Sequence[str] | Beginning | None]) -> Container[str] | None:
    """As `_together`. All questions about a section begin alike, or none of them does."""
    first = many[0]
    if isinstance(first, Beginning):
        return first if all(one is first for one in many) else None
    return _together(None if isinstance(one, Beginning) else one for one in many)


def _together(many: Iterable[Sequence[str] | None]) -> set[str] | None:
    """All names of some questions; None if one is about all that there are."""
    found: set[str] = set()
    for names in many:
        if names is None:
            return None
        found.update(names)
    return found
