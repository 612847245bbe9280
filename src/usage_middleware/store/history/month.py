"""The hash of a month: its version, and its sections, in a field each or all together in one."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.layout import EVERYTHING, DamagedSection, Needed
from usage_middleware.store.history.names import BUCKETS, MERGED, SMALL, VERSION
from usage_middleware.store.history.section import (
    Numbers,
    at_once,
    compressed,
    decode_cells,
    decode_raw,
    encode_in_steps,
    inflated,
)
from usage_middleware.store.history.sums import EntitySums, sums_of
from usage_middleware.store.history.together import Together
from usage_middleware.store.replies import number

T = TypeVar("T")

#: Sections are kept together up to so many bytes of them, not compressed. Apart from each other they would take more.
MOST_TOGETHER = 256 << 10
#: What is more numbers than one for so many of these bytes is not even tried.
_BYTES_A_NUMBER = 4
#: Told where it is, and what the matter is.
NoteDamage = Callable[[str, str], object]


class Head(NamedTuple):
    """What a month says of itself.

    Attributes:
        version: how often it was changed; 0 if it is not there.
        buckets: into how many buckets keys are spread; 0 if that is not settled yet.
        together: whether its sections are together in one field.
        merged: whether the days of boards are merged. What was packed later may stand beside them.
    """

    version: int
    buckets: int
    together: bool
    merged: bool = False


class Changes(NamedTuple):
    """The fields of a month that are written, and those that are removed."""

    written: dict[str, bytes | int]
    removed: list[str]


class Month:
    """Some sections of a month as they were read at once.

    Args:
        names: the sections that were read.
        reply: what HMGET of `fields(names)` returned.
    """

    def __init__(self, names: Sequence[str], reply: Sequence[Any], where: str, note: NoteDamage) -> None:
        version, buckets, merged, small, *sections = reply
        self.head = Head(number(version or 0) or 0, number(buckets or 0) or 0, small is not None, merged is not None)
        self._where, self._note = where, note
        self._damaged: set[str] = set()
        self._sections = {name: found for name, found in zip(names, sections, strict=True) if found is not None}
        self._small = self._together(small) if small is not None else Together({})

    def _together(self, small: bytes) -> Together:
        try:
            return Together.of(small)
        except DamagedSection as damaged:
            self._lack(SMALL, damaged)
            return Together({})

    def numbers(self, name: str, only: Container[str] | None = None, needed: Needed = EVERYTHING) -> Numbers:
        """The numbers of a section; none if it is damaged, which is noted, or not there."""
        if self.head.together:
            return self._small_one(name, lambda: self._small.numbers(name, only, needed)) or {}
        return self._decoded(name, lambda raw: decode_raw(raw, only, needed)) or {}

    def sums(self, name: str, only: Container[str] | None, needed: Needed) -> dict[str, EntitySums]:
        """As `numbers`, added up over the slots."""
        if self.head.together:
            return self._small_one(name, lambda: self._small.sums(name, only, needed)) or {}
        return self._decoded(name, lambda raw: sums_of(raw, only, needed)) or {}

    def __contains__(self, name: str) -> bool:
        """Whether a section is there."""
        return name in self._sections or bool(self._small_one(name, lambda: name in self._small))

    def size(self, name: str) -> int:
        """How many bytes a section takes in a field of its own; 0 if it has none."""
        return len(self._sections.get(name, b""))

    def cells(self, name: str) -> Cells | None:
        """As `numbers`, to be added to."""
        if self.head.together:
            found = self.numbers(name)
            return Cells.of(found) if found else None
        return self._decoded(name, decode_cells)

    def _small_one(self, name: str, read: Callable[[], T]) -> T | None:
        """What is read of a section that may be together with the others."""
        try:
            return read()
        except DamagedSection as damaged:
            self._lack(name, damaged)
            return None

    def _decoded(self, name: str, decode: Callable[[bytes], T]) -> T | None:
        try:
            found = self._sections.get(name)
            return None if found is None else decode(inflated(found))
        except DamagedSection as damaged:
            self._lack(name, damaged)
            return None

    def _lack(self, name: str, damaged: Exception) -> None:
        self._damaged.add(name)
        self._note(f"{self._where} {name}", str(damaged))

    def is_damaged(self, names: Iterable[str]) -> bool:
        """Whether one of these sections was found damaged. What is there must not be replaced then."""
        return SMALL in self._damaged or not self._damaged.isdisjoint(names)

    @property
    def together(self) -> list[str]:
        """The sections that are together in one field. A table of them that is damaged is noted."""
        found = (self._small_one(table, partial(self._small.sections, table)) for table in self._small.bodies)
        return [name for names in found for name in names or ()]

    def changed(self, sections: Mapping[str, Cells]) -> Changes:
        """What has to be written so that these sections are so; one without numbers is removed.

        Raises:
            DamagedSection: what is there can't be read.
        """
        return at_once(self.changed_in_steps(sections))

    def changed_in_steps(self, sections: Mapping[str, Cells]) -> Generator[None, None, Changes]:
        """As `changed`, with pauses."""
        if not sections:
            return Changes({}, [])
        if self.head.version and not self.head.together:
            return Changes((yield from _apart(sections)), [name for name, cells in sections.items() if not cells])
        if sum(len(column) for cells in sections.values() for column in cells.columns.values()) <= _most_numbers():
            small = yield from self._small.changed_in_steps(sections)
            if small.size <= MOST_TOGETHER:
                yield
                return Changes({SMALL: small.encoded()}, [])
        return Changes((yield from _apart({**(yield from self._all_that_is_small()), **sections})), [SMALL])

    def _all_that_is_small(self) -> Generator[None, None, dict[str, Cells]]:
        try:
            return (yield from self._small.cells())
        except DamagedSection as damaged:
            self._lack(SMALL, damaged)
            raise


def _most_numbers() -> int:
    return MOST_TOGETHER // _BYTES_A_NUMBER


def _apart(sections: Mapping[str, Cells]) -> Generator[None, None, dict[str, bytes | int]]:
    found: dict[str, bytes | int] = {}
    for name, cells in sections.items():
        if cells:
            body = yield from encode_in_steps(cells)
            found[name] = compressed(body)
            yield
    return found


def fields(names: Iterable[str]) -> list[str]:
    """The fields to read for these sections."""
    return [VERSION, BUCKETS, MERGED, SMALL, *names]
