"""Adds packed numbers to what was read of live counters. What adds up to 0 is not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias, TypeVar

import msgspec

from usage_middleware.periods import Slot
from usage_middleware.store.history.numbers import restored
from usage_middleware.store.history.questions import TakeSums, Wanted
from usage_middleware.store.history.section import Columns
from usage_middleware.store.history.sums import EntitySums
from usage_middleware.store.members import parse_key_board_member
from usage_middleware.store.replies import Boards, KeyBoard, Measures, number
from usage_middleware.store.schema import LAST

K = TypeVar("K")
Sums: TypeAlias = dict[K, int]


# Of each of these there may be thousands: the garbage collector need not look at them.
class AddSeries(msgspec.Struct, frozen=True, gc=False):
    """Adds one series: slot -> measure -> number."""

    found: dict[Slot, Measures]
    measures: Sequence[str] | None

    def __call__(self, _: str, columns: Columns, wanted: Wanted) -> None:
        """Add what a section has of it."""
        for measure, column in columns.items():
            if self.measures is None or measure in self.measures:
                _add_column(self.found, measure, column, wanted)


def _add_column(found: dict[Slot, Measures], measure: str, column: Mapping[int, int], wanted: Wanted) -> None:
    for at, counted in column.items():
        slot = wanted.get(at)
        if slot is None:
            continue
        if measure == LAST:
            mine = found.setdefault(slot, {})
            mine[LAST] = max(mine.get(LAST, 0), restored(LAST, counted, slot))
        else:
            _add_to(found, slot, measure, counted)


def board(found: dict[str, Measures], measures: Sequence[str]) -> TakeSums:
    """Adds the members of boards: member -> measure -> number."""

    def take(member: str, sums: EntitySums) -> None:
        for measure in measures:
            if counted := sums.get(measure, 0):
                _add_to(found, member, measure, counted)

    return take


def boards(found: Boards) -> TakeSums:
    """As `board`, the other way round: measure -> member -> number."""

    def take(member: str, sums: EntitySums) -> None:
        for measure, numbers in found.items():
            if counted := sums.get(measure, 0):
                numbers[member] = numbers.get(member, 0) + counted
                if not numbers[member]:
                    del numbers[member]

    return take


class AddBins(msgspec.Struct, frozen=True, gc=False):
    """Adds a histogram: bin -> calls."""

    found: Sums[int]
    damaged: Callable[[str], object]

    def __call__(self, _: str, sums: EntitySums) -> None:
        """Add what a section has of it."""
        for name, calls in sums.items():
            _add_bin(self.found, name, calls, self.damaged)


class AddKeyBoard(msgspec.Struct, frozen=True, gc=False):
    """Adds the boards under one key."""

    found: KeyBoard
    damaged: Callable[[str], object]

    def __call__(self, _: str, sums: EntitySums) -> None:
        """Add what a section has of them."""
        for text, counted in sums.items():
            measure, dimension, member = _parsed(text)
            if dimension == "latency":
                _add_bin(self.found.latency, member, counted, self.damaged)
            elif counted:
                members = self.found.members.setdefault(dimension, {})
                _add_to(members, member, measure, counted)
                if not members:
                    del self.found.members[dimension]


_parsed = lru_cache(maxsize=16384)(parse_key_board_member)  # keys call the same endpoints


def _add_bin(found: Sums[int], name: str, calls: int, damaged: Callable[[str], object]) -> None:
    bin_number = number(name)
    if bin_number is None:
        damaged(name)
    elif calls:
        found[bin_number] = found.get(bin_number, 0) + calls
        if not found[bin_number]:
            del found[bin_number]


def _add_to(found: dict[K, Measures], name: K, measure: str, counted: int) -> None:
    mine = found.get(name)
    if mine is None:
        found[name] = {measure: counted}
        return
    total = mine.get(measure, 0) + counted
    if total:
        mine[measure] = total
    else:
        del mine[measure]
        if not mine:
            del found[name]
