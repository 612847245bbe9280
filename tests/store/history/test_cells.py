"""Sections that are added up come to the same as adding up number by number."""

from __future__ import annotations

from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.planes import MOST_SLOTS
from usage_middleware.store.history.section import decode_cells, decode_raw, encode_raw
from usage_middleware.store.schema import LAST

Numbers: TypeAlias = dict[str, dict[str, dict[int, int]]]

column = st.dictionaries(st.integers(0, MOST_SLOTS - 1), st.integers(-3, 3).filter(bool), min_size=1, max_size=4)
columns = st.dictionaries(st.sampled_from(["calls", "s200", LAST]), column, min_size=1)
entities = st.dictionaries(st.sampled_from(["a", "b", "c", "ä"]), columns)


def sums(one: Numbers, other: Numbers) -> Numbers:
    """Both, by brute force, without what comes to 0."""
    found: Numbers = {}
    for numbers in (one, other):
        for entity, measures in numbers.items():
            for measure, by_slot in measures.items():
                mine = found.setdefault(entity, {}).setdefault(measure, {})
                for slot, number in by_slot.items():
                    mine[slot] = max(mine.get(slot, number), number) if measure == LAST else mine.get(slot, 0) + number
    return without_zeros(found)


def without_zeros(numbers: Numbers) -> Numbers:
    kept = {
        entity: {measure: {slot: number for slot, number in by_slot.items() if number} for measure, by_slot in measures.items()}
        for entity, measures in numbers.items()
    }
    full = {entity: {measure: one for measure, one in measures.items() if one} for entity, measures in kept.items()}
    return {entity: measures for entity, measures in full.items() if measures}


@given(entities, entities)
def test_sections_add_up(one: Numbers, other: Numbers) -> None:
    cells = Cells.of(one)
    cells.add(Cells.of(other))
    assert decode_raw(encode_raw(cells.without_zeros())) == sums(one, other)


@given(entities, entities)
def test_what_was_read_can_be_added_to(one: Numbers, other: Numbers) -> None:
    cells = decode_cells(encode_raw(Cells.of(one)))
    cells.add(Cells.of(other))
    assert decode_raw(encode_raw(cells.without_zeros())) == sums(one, other)


@given(entities)
def test_the_order_of_entities_does_not_matter(one: Numbers) -> None:
    assert encode_raw(Cells.of(one)) == encode_raw(Cells.of(dict(reversed(one.items()))))
