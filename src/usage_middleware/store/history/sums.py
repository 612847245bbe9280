"""Adds up the numbers of a section over slots as it is read: most questions are about sums, and need no number of their own."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TypeAlias

import msgspec

from usage_middleware.gil import rest
from usage_middleware.store.history.layout import Column, DamagedSection, Needed, columns_of, head_of
from usage_middleware.store.history.planes import Planes, slots_of

#: measure -> number.
EntitySums: TypeAlias = dict[str, int]


def sums_of(raw: bytes, only: Container[str] | None, needed: Needed) -> dict[str, EntitySums]:
    """What is needed of a body, added up over its slots: entity -> measure -> number. A sum may be 0.

    Args:
        only: of these entities; None: of all.

    Raises:
        DamagedSection: the bytes are no body of a section.
    """
    try:
        return _added_up(raw, only, needed)
    except (msgspec.MsgspecError, ValueError, IndexError, OverflowError) as damaged:
        raise DamagedSection(f"a section of the history can't be read: {damaged}") from damaged


def _added_up(raw: bytes, only: Container[str] | None, needed: Needed) -> dict[str, EntitySums]:
    source = Planes(raw)
    head = head_of(source)
    places = [place for place, name in enumerate(head.entities) if only is None or name in only]
    found: list[EntitySums] = [{} for _ in head.entities]
    for column in columns_of(source, head, needed.measures):
        rest()
        column.check()
        for owner, total in _sums(column, places, needed.slots):
            found[owner][column.measure] = total
    return {head.entities[place]: found[place] for place in places if found[place]}


def _sums(column: Column, places: Sequence[int], slots: int) -> Iterator[tuple[int, int]]:
    """The places of entities, and the sum of each."""
    shape, values = column.shape, column.numbers.part(0, len(column.numbers.numbers))
    owners, bitmaps, ends = shape.owners, shape.bitmaps, shape.ends
    lowest = slots & -slots
    below, is_run = lowest - 1, not slots + lowest & slots
    for index in shape.indexes(places):
        bitmap = bitmaps[index]
        there = bitmap & slots
        if there and is_run:
            begin = (ends[index - 1] if index else 0) + (bitmap & below).bit_count()
            yield owners[index], sum(values[begin : begin + there.bit_count()])
        elif there:
            yield owners[index], _some(bitmap, values[shape.begin(index) : ends[index]], slots)


def _some(bitmap: int, values: Sequence[int], slots: int) -> int:
    """The sum of the numbers that are in these slots."""
    return sum(one for slot, one in zip(slots_of(bitmap), values, strict=True) if slots >> slot & 1)
