"""A section of the history: numbers by entity, measure and slot, as compressed bytes that need nothing else to be read.

Numbers stand in columns: one measure after the other, in each the entities in order, in each of those its slots. A column is
written as byte planes: the lowest byte of all its numbers, then the next one. Neighbours in a plane resemble each other, so it
compresses well, and C code puts it together again.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from sys import byteorder
from typing import NamedTuple, TypeAlias

import msgspec

from usage_middleware.errors import UsageError
from usage_middleware.gil import rest

#: measure -> slot -> number. A slot is a place in the section's span, from 0; a number is never 0.
Columns = Mapping[str, Mapping[int, int]]
#: entity (an endpoint, a key, a member of a dimension) -> its columns.
Entities = Mapping[str, Columns]
#: The same, as it is decoded: entity -> measure -> slot -> number.
Numbers: TypeAlias = dict[str, dict[str, dict[int, int]]]

#: The version of the layout: the first byte.
LAYOUT = 1
#: More slots don't fit a bitmap: a day has 48 or 96, a month 31.
MOST_SLOTS = 128
#: zlib's level. Higher ones save less than a hundredth.
_LEVEL = 6
#: No section of a day or a month is larger; a damaged one may claim to be.
MOST_BYTES = 64 << 20
_WORDS = "Q"
_WIDTH = 8


class DamagedSection(UsageError):
    """Bytes that are no section."""


class _Column(NamedTuple):
    """A measure: which entities have it, in which slots, and its numbers in that order.

    `like` names an earlier measure with the same entities and slots, whose bitmaps are not written again.
    """

    like: int
    entities: Sequence[int]
    bitmaps: Sequence[int]
    numbers: Sequence[int]


class _Head(msgspec.Struct, array_like=True, frozen=True):
    """What is read first: names, and how long each column is."""

    entities: list[str]
    measures: list[str]
    #: For each measure: the measure it is like, or -1; entities; numbers.
    columns: list[tuple[int, int, int]]


def encode(entities: Entities) -> bytes:
    """A section with these numbers.

    Raises:
        UsageError: a slot or a number does not fit.
    """
    return compressed(encode_raw(entities))


def encode_raw(entities: Entities) -> bytes:
    """As `encode`, not compressed yet: small sections are compressed together."""
    names = sorted(entities)
    places = {name: place for place, name in enumerate(names)}
    measures = sorted({measure for columns in entities.values() for measure in columns})
    columns = list(_columns(entities, names, measures, places))
    head = _Head(names, measures, [(column.like, len(column.entities), len(column.numbers)) for column in columns])
    packed = msgspec.msgpack.encode(head)
    parts = [len(packed).to_bytes(4, "little"), packed]
    for column in columns:
        rest()
        if column.like < 0:
            parts += [_planes(_differences(column.entities)), _bitmap_planes(column.bitmaps)]
        parts.append(_planes(_zigzag(column.numbers)))
    return b"".join(parts)


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


def decode_raw(raw: bytes, only: Container[str] | None = None) -> Numbers:
    """As `decode`, of what is not compressed."""
    try:
        return _decoded(_Source(raw), only)
    except (msgspec.MsgspecError, ValueError, IndexError, OverflowError) as damaged:
        raise DamagedSection(f"a section of the history can't be read: {damaged}") from damaged


def _columns(entities: Entities, names: Sequence[str], measures: Sequence[str], places: Mapping[str, int]) -> Iterator[_Column]:
    seen: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    for number, measure in enumerate(measures):
        owners = [name for name in names if entities[name].get(measure)]
        slots = [sorted(entities[name][measure]) for name in owners]
        shape = tuple(places[name] for name in owners), tuple(map(_bitmap, slots))
        numbers = [entities[name][measure][slot] for name, some in zip(owners, slots, strict=True) for slot in some]
        yield _Column(seen.get(shape, -1), *shape, numbers)
        seen.setdefault(shape, number)


def _decoded(source: _Source, only: Container[str] | None) -> Numbers:
    head = msgspec.msgpack.decode(source.take(int.from_bytes(source.take(4), "little")), type=_Head)
    found: Numbers = {name: {} for name in head.entities if only is None or name in only}
    shapes: list[tuple[Sequence[int], Sequence[int]]] = []
    for measure, (like, owners, count) in zip(head.measures, head.columns, strict=True):
        rest()
        shape = shapes[like] if like >= 0 else (_sums(source.numbers(owners)), source.bitmaps(owners))
        shapes.append(shape)
        numbers, at = source.numbers(count), 0
        for owner, bitmap in zip(*shape, strict=True):
            end = at + bitmap.bit_count()
            columns = found.get(head.entities[owner])
            if columns is not None:
                columns[measure] = dict(zip(_slots(bitmap), _unzigzag(numbers[at:end]), strict=True))
            at = end
        if at != count:
            raise DamagedSection("a section of the history can't be read: numbers and slots don't match")
    return found


class _Source:
    """Reads the parts of an inflated section in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise ValueError("it ends too early")
        self._at += size
        return found

    def numbers(self, count: int) -> array[int]:
        """So many numbers from their planes."""
        width = self.take(1)[0]
        if width > _WIDTH:
            raise ValueError("a number is too wide")
        words = bytearray(count * _WIDTH)
        for plane in range(width):
            words[plane::_WIDTH] = self.take(count)
        return _native(array(_WORDS, bytes(words)))

    def bitmaps(self, count: int) -> list[int]:
        """So many bitmaps of slots: the lower halves, then the upper ones."""
        low, high = self.numbers(count), self.numbers(count)
        return [below | above << 64 for below, above in zip(low, high, strict=True)]


def _inflated(section: bytes) -> bytes:
    if section[:1] != bytes([LAYOUT]):
        raise ValueError(f"it is not of layout {LAYOUT}")
    inflater = zlib.decompressobj()
    data = inflater.decompress(section[1:], MOST_BYTES)
    if not inflater.eof:
        raise ValueError("it is cut, or too large")
    return data


def _planes(numbers: Sequence[int]) -> bytes:
    """The numbers' bytes, lowest first; as many planes as the largest number needs, told by the first byte."""
    width = (max(numbers, default=0).bit_length() + 7) // 8
    if width > _WIDTH:
        raise UsageError("a number is too large for the history")
    words = _native(array(_WORDS, numbers)).tobytes()
    return bytes([width]) + b"".join(words[plane::_WIDTH] for plane in range(width))


def _bitmap_planes(bitmaps: Sequence[int]) -> bytes:
    low = (1 << 64) - 1
    return _planes([each & low for each in bitmaps]) + _planes([each >> 64 for each in bitmaps])


def _native(words: array[int]) -> array[int]:
    """Little-endian words as this machine has them, and back."""
    if byteorder == "big":
        words.byteswap()
    return words


def _bitmap(slots: Iterable[int]) -> int:
    found = 0
    for slot in slots:
        if not 0 <= slot < MOST_SLOTS:
            raise UsageError(f"slot {slot} does not fit a section of the history")
        found |= 1 << slot
    return found


@lru_cache(maxsize=4096)  # neighbours are active at the same times
def _slots(bitmap: int) -> Sequence[int]:
    return [slot for slot in range(bitmap.bit_length()) if bitmap >> slot & 1]


def _zigzag(numbers: Iterable[int]) -> list[int]:
    """Negative numbers among the positive ones, the small ones small."""
    return [number << 1 if number >= 0 else (-number << 1) - 1 for number in numbers]


def _unzigzag(numbers: Iterable[int]) -> list[int]:
    return [-(number + 1 >> 1) if number & 1 else number >> 1 for number in numbers]


def _differences(ascending: Sequence[int]) -> list[int]:
    return [number - before for number, before in zip(ascending, [0, *ascending], strict=False)]


def _sums(differences: Iterable[int]) -> list[int]:
    total, found = 0, []
    for each in differences:
        total += each
        found.append(total)
    return found
