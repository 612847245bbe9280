"""A section of the history: numbers by entity, measure and slot, as compressed bytes that need nothing else to be read.

Numbers stand in columns: one measure after the other, in each the entities in order, in each of those its slots. A column is
written as byte planes: neighbours in a plane resemble each other, so it compresses well.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Container, Generator, Mapping, Sequence
from typing import TypeAlias, TypeVar, cast

import msgspec

from usage_middleware.gil import rest
from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.layout import EVERYTHING, Column, DamagedSection, Head, Needed, columns_of, head_of
from usage_middleware.store.history.planes import (
    MOST_SLOTS,
    Planes,
    ascending_planes,
    bitmap_planes,
    folded,
    planes,
    slots_of,
)

T = TypeVar("T")

#: measure -> slot -> number. A slot is a place in the section's span, from 0; a number is never 0.
Columns = Mapping[str, Mapping[int, int]]
#: entity (an endpoint, a key, a member of a dimension) -> its columns.
Entities = Mapping[str, Columns]
#: The same, as it is decoded: entity -> measure -> slot -> number.
Numbers: TypeAlias = dict[str, dict[str, dict[int, int]]]

#: The version of the layout: the first byte.
LAYOUT = 1
#: zlib's level. Higher ones save less than a hundredth.
_LEVEL = 6
#: No section of a day or a month is larger; a damaged one may claim to be.
MOST_BYTES = 64 << 20
#: After so many numbers there may be a pause.
STEP = 5_000
_BITS = [1 << slot for slot in range(MOST_SLOTS)]


def encode(entities: Entities) -> bytes:
    """A section with these numbers.

    Raises:
        UsageError: a slot or a number does not fit.
    """
    return compressed(encode_raw(Cells.of(entities)))


def encode_raw(cells: Cells) -> bytes:
    """As `encode`, not compressed yet: small sections are compressed together.

    Raises:
        UsageError: a number does not fit.
    """
    return at_once(encode_in_steps(cells))


def encode_in_steps(cells: Cells) -> Generator[None, None, bytes]:
    """As `encode_raw`, with pauses."""
    found = cells.in_order()
    measures = sorted(found.columns)
    heads, parts = list[tuple[int, int, int]](), list[bytes]()
    seen: dict[bytes, tuple[int, int]] = {}
    since = 0
    for number, measure in enumerate(measures):
        rest()
        column = found.columns[measure]
        places = sorted(column)
        shape = array("Q", places).tobytes()
        like, owners = seen.get(shape, (-1, 0))
        if like < 0:
            owners, written = _shape(places)
            parts.append(written)
            seen[shape] = number, owners
        heads.append((like, owners, len(places)))
        parts.append(planes(folded(map(column.__getitem__, places))))
        since += len(places)
        if since > STEP:
            since = 0
            yield
    head = msgspec.msgpack.encode(Head(found.entities, measures, heads))
    return b"".join([len(head).to_bytes(4, "little"), head, *parts])


def at_once(steps: Generator[None, None, T]) -> T:
    """What steps return, without pauses."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return cast(T, done.value)


def _shape(cells: Sequence[int]) -> tuple[int, bytes]:
    """How many entities some cells are of, and which these are, with the slots of each."""
    bitmaps: dict[int, int] = {}
    for cell in cells:
        slot = cell % MOST_SLOTS
        first = cell - slot
        bitmaps[first] = bitmaps.get(first, 0) | _BITS[slot]
    owners = [first // MOST_SLOTS for first in bitmaps]
    return len(owners), ascending_planes(owners) + bitmap_planes(list(bitmaps.values()))


def compressed(raw: bytes) -> bytes:
    """Bytes behind the number of the layout, compressed."""
    return bytes([LAYOUT]) + zlib.compress(raw, _LEVEL)


def inflated(section: bytes) -> bytes:
    """What was compressed.

    Raises:
        DamagedSection: the bytes are not what `compressed` made.
    """
    try:
        return _inflated(section)
    except (zlib.error, ValueError) as damaged:
        raise DamagedSection(f"a section of the history can't be read: {damaged}") from damaged


def decode(section: bytes, only: Container[str] | None = None) -> Numbers:
    """The numbers of a section; with `only`, of these entities.

    Raises:
        DamagedSection: the bytes are not what `encode` made.
    """
    return decode_raw(inflated(section), only)


def decode_raw(raw: bytes, only: Container[str] | None = None, needed: Needed = EVERYTHING) -> Numbers:
    """As `decode`, of what is not compressed; of what is `needed` alone."""
    try:
        return _decoded(raw, only, needed)
    except (msgspec.MsgspecError, ValueError, IndexError, OverflowError) as damaged:
        raise DamagedSection(f"a section of the history can't be read: {damaged}") from damaged


def decode_cells(raw: bytes) -> Cells:
    """As `decode_raw`, to be added to and encoded again."""
    try:
        return _cells(raw)
    except (msgspec.MsgspecError, ValueError, IndexError, OverflowError) as damaged:
        raise DamagedSection(f"a section of the history can't be read: {damaged}") from damaged


def _decoded(raw: bytes, only: Container[str] | None, needed: Needed) -> Numbers:
    source = Planes(raw)
    head = head_of(source)
    found: Numbers = {name: {} for name in head.entities if only is None or name in only}
    places = [place for place, name in enumerate(head.entities) if name in found]
    owned = {place: found[head.entities[place]] for place in places}
    for column in columns_of(source, head, needed.measures):
        rest()
        column.check()
        _take(column, owned, places, needed.slots)
    return found


def _take(column: Column, owned: Mapping[int, dict[str, dict[int, int]]], places: Sequence[int], slots: int) -> None:
    """Take what entities have of a column, by their places."""
    shape, numbers = column.shape, column.numbers
    for index in shape.indexes(places):
        bitmap = shape.bitmaps[index]
        if bitmap & slots:
            there = zip(slots_of(bitmap), numbers.part(shape.begin(index), shape.ends[index]), strict=True)
            is_all = not bitmap & ~slots
            taken = dict(there) if is_all else {slot: one for slot, one in there if slots >> slot & 1}
            owned[shape.owners[index]][column.measure] = taken


def _cells(raw: bytes) -> Cells:
    source = Planes(raw)
    head = head_of(source)
    found = Cells()
    firsts = [found.first(entity) for entity in head.entities]
    for measure, shape, numbers in columns_of(source, head):
        rest()
        owned = zip(shape.owners, shape.bitmaps, strict=True)
        places = [firsts[owner] + slot for owner, bitmap in owned for slot in slots_of(bitmap)]
        found.columns[measure] = dict(zip(places, numbers.part(0, len(numbers.numbers)), strict=True))
    return found


def _inflated(section: bytes) -> bytes:
    if section[:1] != bytes([LAYOUT]):
        raise ValueError(f"it is not of layout {LAYOUT}")
    inflater = zlib.decompressobj()
    data = inflater.decompress(section[1:], MOST_BYTES)
    if not inflater.eof:
        raise ValueError("it is cut, or too large")
    return data
