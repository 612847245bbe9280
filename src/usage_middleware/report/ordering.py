"""Sorts 100,000 names in small parts: in the midst of one call for all of them no other thread could run."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar

from usage_middleware.gil import LIGHT, rest, yielding

T = TypeVar("T", int, str)

#: How many are sorted in one call.
PART = 1_000
#: How many of a part are looked at to divide all.
_SAMPLES = 10


def in_order(items: Sequence[T]) -> list[T]:
    """The items in order, as `sorted` has them.

    >>> in_order([3, 1, 2])
    [1, 2, 3]
    """
    parts: list[list[T]] = []
    for begin in range(0, len(items), PART):
        parts.append(sorted(items[begin : begin + PART]))
        rest()
    return _merged(parts) if len(parts) > 1 else parts[0] if parts else []


def _merged(parts: list[list[T]]) -> list[T]:
    """Sorted parts as one: what lies between two of the samples of all, then between the next two."""
    found: list[T] = []
    begins = [0] * len(parts)
    for pivot in _pivots(parts):
        ends = [bisect_right(part, pivot, begin) for part, begin in zip(parts, begins, strict=True)]
        between = (part[begin:end] for part, begin, end in zip(parts, begins, ends, strict=True))
        found += sorted(chain.from_iterable(between))
        begins = ends
        rest()
    return found


def _pivots(parts: list[list[T]]) -> list[T]:
    samples: list[T] = []
    for part in parts:
        samples += part[:: max(1, len(part) // _SAMPLES)]
    samples.sort()
    found = samples[_SAMPLES::_SAMPLES]
    found.append(max(part[-1] for part in parts))
    return found


def by_number(names: list[str], number: Callable[[str], int], *, falling: bool) -> list[str]:
    """Names by their numbers; those of the same number stay as they are.

    >>> by_number(["ada", "eve", "bob"], {"ada": 1, "eve": 2, "bob": 1}.__getitem__, falling=True)
    ['eve', 'ada', 'bob']
    """
    count, sign = len(names), -1 if falling else 1
    # One whole number for each, which the garbage collector need not look at: its number, then its place.
    codes = [sign * number(name) * count + place for place, name in enumerate(yielding(names, LIGHT))]
    return [names[code % count] for code in yielding(in_order(codes), LIGHT)]
