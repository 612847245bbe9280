"""A section of the history: numbers by entity, measure and slot, as compressed bytes that need nothing else to be read.

Numbers stand in columns: one measure after the other, in each the entities in order, in each of those its slots. A column is
written as byte planes: neighbours in a plane resemble each other, so it compresses well.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Container, Generator, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from usage_middleware.errors import UsageError
from usage_middleware.gil import rest
from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.planes import (
    MOST_SLOTS,
    Folded,
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
#: Entities are looked for one by one where a column has so many times as many.
_FEW = 4
#: No section of a day or a month is larger; a damaged one may claim to be.
MOST_BYTES = 64 << 20
#: After so many numbers there may be a pause.
STEP = 5_000
_BITS = [1 << slot for slot in range(MOST_SLOTS)]


class DamagedSection(UsageError):
    """Bytes that are no section."""


class _Shape:
    """Which entities have a measure, by their places, and in which slots. It is read when somebody asks."""

    def __init__(self, source: Planes, count: int) -> None:
        self._source = source.here()
        self._count = count
        for _ in range(3):  # The entities, and both halves of the bitmaps.
            source.skip(count)

    @cached_property
    def owners(self) -> Sequence[int]:
        return self._source.ascending(self._count)

    @cached_property
    def bitmaps(self) -> Sequence[int]:
        _ = self.owners
        return self._source.bitmaps(self._count)


class _Column(NamedTuple):
    """A measure, and its numbers, entity by entity."""

    measure: str
    shape: _Shape
    numbers: Folded


class _Head(msgspec.Struct, array_like=True, frozen=True):
    """What is read first: names, and how long each column is.

    A column is `like` an earlier one that has the same entities and slots: their bitmaps are not written again.
    """

    entities: list[str]
    measures: list[str]
    #: For each measure: the number of the column that it is like, or -1; how many entities; how many numbers.
    columns: list[tuple[int, int, int]]


class Needed(NamedTuple):
    """What is needed of a section.

    Attributes:
        slots: a bitmap of slots.
        measures: None: all.
    """

    slots: int
    measures: Container[str] | None


#: All slots and measures.
EVERYTHING = Needed((1 << MOST_SLOTS) - 1, None)


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
    head = msgspec.msgpack.encode(_Head(found.entities, measures, heads))
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
    head = _head(source)
    found: Numbers = {name: {} for name in head.entities if only is None or name in only}
    places = [place for place, name in enumerate(head.entities) if name in found]
    columns = [found[head.entities[place]] for place in places]
    owned = dict(zip(places, columns, strict=True))
    for column in _columns(source, head, needed.measures):
        rest()
        if len(column.numbers.numbers) == len(column.shape.owners) and len(places) * _FEW < len(column.shape.owners):
            _take_few(column, owned, needed.slots)
        else:
            _take(column, owned, needed.slots)
    return found


def _take(column: _Column, owned: Mapping[int, dict[str, dict[int, int]]], slots: int) -> None:
    """Take what entities have of a column, by their places."""
    at, shape, numbers = 0, column.shape, column.numbers
    for owner, bitmap in zip(shape.owners, shape.bitmaps, strict=True):
        end, columns = at + bitmap.bit_count(), owned.get(owner)
        if columns is not None and bitmap & slots:
            there = zip(slots_of(bitmap), numbers.part(at, end), strict=True)
            is_all = not bitmap & ~slots
            columns[column.measure] = dict(there) if is_all else {slot: one for slot, one in there if slots >> slot & 1}
        at = end
    if at != len(numbers.numbers):
        raise ValueError("numbers and slots don't match")


def _take_few(column: _Column, owned: Mapping[int, dict[str, dict[int, int]]], slots: int) -> None:
    """As `_take`, of few entities in a column in which each has one number."""
    owners, bitmaps = column.shape.owners, column.shape.bitmaps
    for owner, columns in owned.items():
        at = bisect_left(owners, owner)
        if at < len(owners) and owners[at] == owner and bitmaps[at] & slots:
            columns[column.measure] = dict(zip(slots_of(bitmaps[at]), column.numbers.part(at, at + 1), strict=True))


def _cells(raw: bytes) -> Cells:
    source = Planes(raw)
    head = _head(source)
    found = Cells()
    firsts = [found.first(entity) for entity in head.entities]
    for measure, shape, numbers in _columns(source, head):
        rest()
        owned = zip(shape.owners, shape.bitmaps, strict=True)
        places = [firsts[owner] + slot for owner, bitmap in owned for slot in slots_of(bitmap)]
        found.columns[measure] = dict(zip(places, numbers.part(0, len(numbers.numbers)), strict=True))
    return found


def _head(source: Planes) -> _Head:
    return msgspec.msgpack.decode(source.take(int.from_bytes(source.take(4), "little")), type=_Head)


def _columns(source: Planes, head: _Head, measures: Container[str] | None = None) -> Iterator[_Column]:
    shapes: list[_Shape] = []
    for measure, (like, owners, count) in zip(head.measures, head.columns, strict=True):
        shape = shapes[like] if like >= 0 else _Shape(source, owners)
        shapes.append(shape)
        if measures is None or measure in measures:
            yield _Column(measure, shape, source.folded(count))
        else:
            source.skip(count)


def _inflated(section: bytes) -> bytes:
    if section[:1] != bytes([LAYOUT]):
        raise ValueError(f"it is not of layout {LAYOUT}")
    inflater = zlib.decompressobj()
    data = inflater.decompress(section[1:], MOST_BYTES)
    if not inflater.eof:
        raise ValueError("it is cut, or too large")
    return data
