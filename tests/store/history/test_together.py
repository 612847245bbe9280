"""What is put in the tables of a small organisation comes out of them, section by section."""

from __future__ import annotations

import random
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import examples
from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.layout import DamagedSection, Needed
from usage_middleware.store.history.month import MOST_TOGETHER, Month
from usage_middleware.store.history.names import SMALL
from usage_middleware.store.history.planes import MOST_SLOTS
from usage_middleware.store.history.section import Numbers, at_once, compressed, encode
from usage_middleware.store.history.together import Together, decode

Sections: TypeAlias = dict[str, Numbers]

names = st.text(max_size=4)
column = st.dictionaries(st.integers(0, MOST_SLOTS - 1), st.integers(-(1 << 62), 1 << 62).filter(bool), min_size=1, max_size=3)
entities = st.dictionaries(names, st.dictionaries(names, column, min_size=1, max_size=3), min_size=1, max_size=3)
many = settings(max_examples=examples(40), deadline=None)
places = st.sampled_from(["01 series", "31 series", "07 key 3", "07 day key 3", "days key 3", "days series", "17 board a b"])
sections = st.dictionaries(places, entities, max_size=4)


def put(before: Together, more: Sections) -> Together:
    return at_once(before.changed_in_steps({name: Cells.of(found) for name, found in more.items()}))


@many
@given(sections)
def test_what_was_put_in_comes_out(found: Sections) -> None:
    assert decode(put(Together({}), found).encoded()) == found


@many
@given(sections, sections, st.lists(places))
def test_sections_are_replaced_one_by_one(before: Sections, after: Sections, gone: list[str]) -> None:
    written = put(Together.of(put(Together({}), before).encoded()), {**after, **{name: {} for name in gone}})
    expected = {name: found for name, found in {**before, **after}.items() if name not in gone}
    assert decode(written.encoded()) == expected
    assert written.encoded() == put(Together({}), expected).encoded()


@many
@given(sections, st.integers(0, (1 << MOST_SLOTS) - 1), st.none() | st.sets(names), st.none() | st.sets(names))
def test_what_is_needed_is_read(found: Sections, slots: int, only: set[str] | None, measures: set[str] | None) -> None:
    small = put(Together({}), found)
    for name, numbers in found.items():
        expected: Numbers = {}
        for entity, columns in numbers.items():
            for measure, counted in columns.items():
                kept = {slot: number for slot, number in counted.items() if slots >> slot & 1}
                if kept and (only is None or entity in only) and (measures is None or measure in measures):
                    expected.setdefault(entity, {})[measure] = kept
        assert small.numbers(name, only, Needed(slots, measures)) == expected
        sums = small.sums(name, only, Needed(slots, measures))
        assert sums == {
            entity: {measure: sum(one.values()) for measure, one in columns.items()} for entity, columns in expected.items()
        }
    assert {name for name in ("01 series", "02 series", "days series", "days key 4") if name in small} == (
        found.keys() & {"01 series", "days series"}
    )


@many
@given(sections.filter(bool), st.data())
def test_a_damaged_table_is_told(found: Sections, data: st.DataObject) -> None:
    bodies = dict(put(Together({}), found).bodies)
    table = data.draw(st.sampled_from(sorted(bodies)))
    bodies[table] = bodies[table][: data.draw(st.integers(0, len(bodies[table]) - 1))]
    small = Together(bodies)
    with pytest.raises(DamagedSection):
        small.sections(table)
    for other in bodies.keys() - {table}:
        assert small.sections(other)


def test_a_row_without_a_name_is_damaged() -> None:
    body = put(Together({}), {"01 series": {"a": {"calls": {0: 1}}}}).bodies["series"]
    for wrong in (body.replace(b"\x91\xa1a", b"\x90", 1), body.replace(b"\x91\xa5calls", b"\x90", 1)):
        length = len(wrong) - len(body) + int.from_bytes(body[:4], "little")
        with pytest.raises(DamagedSection, match="no name"):
            Together({"series": length.to_bytes(4, "little") + wrong[4:]}).sections("series")


def test_what_is_damaged_stays_and_the_rest_can_be_read() -> None:
    bodies = {**put(Together({}), {"01 series": {"": {"calls": {0: 1}}}}).bodies, "key 0": b"nonsense"}
    noted: list[str] = []
    month = Month(
        [], [b"3", b"1", None, compressed(msgspec.msgpack.encode(bodies))], "m", lambda where, why: noted.append(where)
    )
    assert month.numbers("01 series") == {"": {"calls": {0: 1}}}
    assert month.numbers("01 key 0") == {}
    assert month.is_damaged(["01 key 0"])
    assert not month.is_damaged(["01 series"])
    assert noted == ["m 01 key 0"]
    assert month.together == ["01 series"]
    changes = month.changed({"02 series": Cells.of({"": {"calls": {1: 2}}})})
    packed = changes.written[SMALL]
    assert isinstance(packed, bytes)
    assert Together.of(packed).bodies["key 0"] == b"nonsense"


def test_what_becomes_too_large_goes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {f"{day:02} key 0": {f"key_{day}": {"calls": {1: day}, "bytes": {1: 1000 * day}}} for day in range(1, 30)}
    small = put(Together({}), found)
    month = Month([], [b"3", b"1", None, small.encoded()], "m", print)
    monkeypatch.setattr("usage_middleware.store.history.month.MOST_TOGETHER", small.size)
    changes = month.changed({"31 key 0": Cells.of({"key_31": {"calls": {1: 31}}}), "29 key 0": Cells()})
    assert list(changes.written) == [SMALL]  # One day more, one less.
    more = {"31 key 0": {"key_31": {"calls": dict.fromkeys(range(48), 31)}}}
    changes = month.changed({name: Cells.of(numbers) for name, numbers in more.items()})
    assert changes.removed == [SMALL]
    assert changes.written == {name: encode(numbers) for name, numbers in {**found, **more}.items()}


def test_a_month_of_few_calls_takes_few_bytes() -> None:
    """Three calls a day, as an organisation, of each endpoint and on a board."""
    chance = random.Random(1)
    found: Sections = {}
    for day in range(1, 31):
        for _ in range(3):
            endpoint, slot, took = (
                f"GET /v1/things{chance.randrange(20)}",
                chance.randrange(48),
                chance.randrange(2_000, 90_000),
            )
            for name, entity in (
                (f"{day:02} series", ""),
                (f"{day:02} endpoint", endpoint),
                (f"{day:02} board endpoint", endpoint),
            ):
                mine = found.setdefault(name, {}).setdefault(entity, {})
                for measure, number in (("calls", 1), ("latency_us", took), ("bytes", 800 + took % 900), ("s200", 1)):
                    one = mine.setdefault(measure, {})
                    one[slot] = one.get(slot, 0) + number
    small = put(Together({}), found)
    assert decode(small.encoded()) == found
    assert len(small.encoded()) < 2_500
    assert len(small.encoded()) < sum(len(encode(numbers)) for numbers in found.values()) / 4
    assert small.size < MOST_TOGETHER / 8
