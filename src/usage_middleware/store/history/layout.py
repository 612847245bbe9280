"""What the body of a section consists of: a head with names, and a column for each measure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from usage_middleware.errors import UsageError
from usage_middleware.lazily import cached
from usage_middleware.store.history.planes import MOST_SLOTS, Folded, Planes

#: Entities are looked for one by one where a column has so many times as many.
FEW = 4


class DamagedSection(UsageError):
    """Bytes that are no section."""


class Shape:
    """Which entities have a measure, by their places, and in which slots. It is read when somebody asks."""

    def __init__(self, source: Planes, count: int) -> None:
        self._count = count
        self._open = source.skip(count, 3)  # The entities, and both halves of the bitmaps.

    @cached
    def _source(self) -> Planes:
        return self._open()

    @cached
    def owners(self) -> Sequence[int]:
        """The places of the entities, in order."""
        return self._source.ascending(self._count)

    @cached
    def bitmaps(self) -> Sequence[int]:
        """The slots of each."""
        _ = self.owners
        return self._source.bitmaps(self._count)

    @cached
    def ends(self) -> Sequence[int]:
        """Where the numbers of each end."""
        return list(accumulate(map(int.bit_count, self.bitmaps)))

    def begin(self, index: int) -> int:
        """Where the numbers of one begin."""
        return self.ends[index - 1] if index else 0

    def indexes(self, places: Sequence[int]) -> Sequence[int]:
        """Which of them are at these places, which are in order."""
        owners = self.owners
        last = owners[-1] if owners else 0
        if last < len(places) and places[last] == last:  # All places up to the last.
            return range(len(owners))
        if len(places) * FEW >= len(owners):
            wanted = set(places)
            return [index for index, owner in enumerate(owners) if owner in wanted]
        found = ((bisect_left(owners, place), place) for place in places)
        return [index for index, place in found if index < len(owners) and owners[index] == place]


class Column(NamedTuple):
    """A measure, and its numbers, entity by entity."""

    measure: str
    shape: Shape
    numbers: Folded

    def check(self) -> None:
        """Look whether there are as many numbers as slots.

        Raises:
            ValueError: there are not.
        """
        if (self.shape.ends[-1] if self.shape.ends else 0) != len(self.numbers.numbers):
            raise ValueError("numbers and slots don't match")


class Head(msgspec.Struct, array_like=True, frozen=True):
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


def head_of(source: Planes) -> Head:
    """The head of a body."""
    return msgspec.msgpack.decode(source.take(int.from_bytes(source.take(4), "little")), type=Head)


def columns_of(source: Planes, head: Head, measures: Container[str] | None = None) -> Iterator[Column]:
    """The columns behind a head; with `measures`, of these."""
    shapes: list[Shape] = []
    for measure, (like, owners, count) in zip(head.measures, head.columns, strict=True):
        shape = shapes[like] if like >= 0 else Shape(source, owners)
        shapes.append(shape)
        if measures is None or measure in measures:
            yield Column(measure, shape, source.folded(count))
        else:
            source.skip(count)
