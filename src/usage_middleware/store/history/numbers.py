"""Adds numbers to sections, and takes them out again as counters are read.

All numbers add up, but for `last_ms`, of which the greatest stays. In a section it is counted from the start of its slot, so
that it takes few bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

from usage_middleware.gil import rest
from usage_middleware.periods import Slot
from usage_middleware.store.history.section import Numbers
from usage_middleware.store.schema import LAST


def stored(measure: str, counted: int, slot: Slot) -> int:
    """A number as a section has it. It is never 0: what is 0 is not there."""
    if measure != LAST:
        return counted
    since = counted - slot.start * 1000
    return since + 1 if since >= 0 else since


def restored(measure: str, number: int, slot: Slot) -> int:
    """A number as it was counted."""
    if measure != LAST:
        return number
    return slot.start * 1000 + (number - 1 if number > 0 else number)


def add(numbers: Numbers, entity: str, measure: str, index: int, number: int) -> None:
    """Add a number, as a section has it."""
    column = numbers.setdefault(entity, {}).setdefault(measure, {})
    before = column.get(index)
    if before is None:
        column[index] = number
    else:
        column[index] = max(before, number) if measure == LAST else before + number


def merge(numbers: Numbers, more: Mapping[str, Mapping[str, Mapping[int, int]]]) -> None:
    """Add all numbers of a section to those of another."""
    for entity, columns in more.items():
        rest()
        for measure, column in columns.items():
            for index, number in column.items():
                add(numbers, entity, measure, index, number)


def without_zeros(numbers: Numbers) -> Numbers:
    """What is there, once corrections have taken away what was counted."""
    found: Numbers = {}
    for entity, columns in numbers.items():
        kept = {measure: {index: one for index, one in column.items() if one} for measure, column in columns.items()}
        kept = {measure: column for measure, column in kept.items() if column}
        if kept:
            found[entity] = kept
    return found
