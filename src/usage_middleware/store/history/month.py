"""The hash of a month: its version, and its sections, in a field each or all together in one."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.layout import EVERYTHING, DamagedSection, Needed
from usage_middleware.store.history.names import BUCKETS, MERGED, SMALL, VERSION
from usage_middleware.store.history.section import (
    Numbers,
    at_once,
    compressed,
    decode_cells,
    decode_raw,
    inflated,
)
from usage_middleware.store.history.sums import EntitySums, sums_of
from usage_middleware.store.replies import number

T = TypeVar("T")

#: Sections are kept together up to so many bytes of them, not compressed. Apart from each other they would take more.
MOST_TOGETHER = 256 << 10
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
        self._small = self._together(small) if small is not None else {}

    def _together(self, small: bytes) -> dict[str, bytes]:
        try:
            return msgspec.msgpack.decode(inflated(small), type=dict[str, bytes])
        except (DamagedSection, msgspec.MsgspecError) as damaged:
            self._lack(SMALL, damaged)
            return {}

    def numbers(self, name: str, only: Container[str] | None = None, needed: Needed = EVERYTHING) -> Numbers:
        """The numbers of a section; none if it is damaged, which is noted, or not there."""
        return self._decoded(name, lambda raw: decode_raw(raw, only, needed)) or {}

    def sums(self, name: str, only: Container[str] | None, needed: Needed) -> dict[str, EntitySums]:
        """As `numbers`, added up over the slots."""
        return self._decoded(name, lambda raw: sums_of(raw, only, needed)) or {}

    def __contains__(self, name: str) -> bool:
        """Whether a section is there."""
        return name in self._sections or name in self._small

    def size(self, name: str) -> int:
        """How many bytes a section takes in a field of its own; 0 if it has none."""
        return len(self._sections.get(name, b""))

    def cells(self, name: str) -> Cells | None:
        """As `numbers`, to be added to."""
        return self._decoded(name, decode_cells)

    def _decoded(self, name: str, decode: Callable[[bytes], T]) -> T | None:
        try:
            if name in self._small:
                return decode(self._small[name])
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
    def together(self) -> Mapping[str, bytes]:
        """The sections that are together in one field."""
        return self._small

    def changed(self, sections: Mapping[str, bytes]) -> Changes:
        """What has to be written so that these sections are so, not compressed yet; one that is empty is removed."""
        return at_once(self.changed_in_steps(sections))

    def changed_in_steps(self, sections: Mapping[str, bytes]) -> Generator[None, None, Changes]:
        """As `changed`, with pauses."""
        if not sections:
            return Changes({}, [])
        raw = {name: one for name, one in sections.items() if one}
        gone = [name for name in sections if name not in raw]
        if self.head.version and not self.head.together:
            return Changes((yield from _apart(raw)), gone)
        all_of_them = {name: one for name, one in {**self._small, **raw}.items() if name not in gone}
        if sum(map(len, all_of_them.values())) <= MOST_TOGETHER:
            return Changes({SMALL: compressed(msgspec.msgpack.encode(all_of_them))}, [])
        return Changes((yield from _apart(all_of_them)), [SMALL])


def _apart(raw: Mapping[str, bytes]) -> Generator[None, None, dict[str, bytes | int]]:
    found: dict[str, bytes | int] = {}
    for name, one in raw.items():
        found[name] = compressed(one)
        yield
    return found


def fields(names: Iterable[str]) -> list[str]:
    """The fields to read for these sections."""
    return [VERSION, BUCKETS, MERGED, SMALL, *names]
