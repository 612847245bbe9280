"""A section of the history gives back what was put in, or says that it is damaged."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_middleware.errors import UsageError
from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.layout import DamagedSection, Needed
from usage_middleware.store.history.planes import MOST_SLOTS
from usage_middleware.store.history.section import decode, encode, encode_raw, inflated
from usage_middleware.store.history.sums import sums_of

names = st.text(max_size=6)
numbers = st.integers(-(1 << 62), 1 << 62).filter(bool)
columns = st.dictionaries(names, st.dictionaries(st.integers(0, MOST_SLOTS - 1), numbers, min_size=1, max_size=5), max_size=4)
entities = st.dictionaries(names, columns, max_size=5)


@given(entities)
def test_what_was_put_in_comes_out(found: dict[str, dict[str, dict[int, int]]]) -> None:
    assert decode(encode(found)) == found


@given(entities, st.integers(0, (1 << MOST_SLOTS) - 1), st.none() | st.sets(names), st.none() | st.sets(names))
def test_sums_are_those_of_the_numbers(
    found: dict[str, dict[str, dict[int, int]]], slots: int, only: set[str] | None, measures: set[str] | None
) -> None:
    """Of any slots, one after the other or not."""
    for wanted in (slots, (1 << slots.bit_length()) - 1, (1 << MOST_SLOTS) - 1):
        added = sums_of(encode_raw(Cells.of(found)), only, Needed(wanted, measures))
        expected = {
            entity: {
                measure: sum(number for slot, number in column.items() if wanted >> slot & 1)
                for measure, column in columns.items()
                if (measures is None or measure in measures) and any(wanted >> slot & 1 for slot in column)
            }
            for entity, columns in found.items()
            if only is None or entity in only
        }
        assert added == {entity: columns for entity, columns in expected.items() if columns}


@given(entities, st.data())
def test_damage_is_told(found: dict[str, dict[str, dict[int, int]]], data: st.DataObject) -> None:
    whole = encode(found)
    section = bytearray(whole)
    section[data.draw(st.integers(0, len(section) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read = decode(bytes(section))
    except DamagedSection:
        return
    # What was repeated may be copied from another place that has the same: nothing was lost then.
    assert inflated(bytes(section)) == inflated(whole)
    assert read == decode(whole)


@given(entities, st.data())
def test_a_cut_section_is_damaged(found: dict[str, dict[str, dict[int, int]]], data: st.DataObject) -> None:
    section = encode(found)
    with pytest.raises(DamagedSection):
        decode(section[: data.draw(st.integers(0, len(section) - 1))])


@pytest.mark.parametrize("slot", [-1, MOST_SLOTS])
def test_a_slot_that_does_not_fit_is_refused(slot: int) -> None:
    with pytest.raises(UsageError, match="slot"):
        encode({"a": {"calls": {slot: 1}}})


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="too large"):
        encode({"a": {"calls": {0: 1 << 63}}})


def test_a_busy_day_takes_few_bytes() -> None:
    chance = random.Random(1)
    day = {
        f"GET /v1/things/{place}": {
            measure: {slot: chance.randrange(1, 60) * factor for slot in range(48)}
            for measure, factor in (("calls", 1), ("latency_us", 9_731), ("bytes", 1_200))
        }
        for place in range(50)
    }
    section = encode(day)
    assert decode(section) == day
    assert len(section) < 50 * 48 * 3 * 2
