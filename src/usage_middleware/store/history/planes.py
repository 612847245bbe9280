"""Whole numbers as byte planes: the lowest byte of all of them, then the next one. C code puts them together again."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from sys import byteorder
from typing import NamedTuple

from usage_middleware.errors import UsageError

#: More slots don't fit a bitmap: a day has 48 or 96, a month 31.
MOST_SLOTS = 128
_WORDS = "Q"
_WIDTH = 8
_LOW = (1 << 64) - 1
#: Small numbers from 0, folded, and half of each byte.
_EVEN, _HALF = bytes(range(0, 256, 2)), bytes(number >> 1 for number in range(256))


class TooLarge(UsageError):
    """A number that no counter can have."""


class Folded(NamedTuple):
    """Numbers that were folded; plain ones are as they were before."""

    numbers: Sequence[int]
    is_plain: bool

    def part(self, begin: int, end: int) -> Sequence[int]:
        """Some of them, as they were before."""
        found = self.numbers[begin:end]
        return found if self.is_plain else unfolded(found)


class Planes:
    """Reads numbers in the order in which they were written.

    Raises:
        ValueError: the bytes end too early, or are no numbers. All its methods do, or raise IndexError.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at

    def take(self, size: int) -> bytes:
        """So many bytes."""
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise ValueError("it ends too early")
        self._at += size
        return found

    def numbers(self, count: int) -> Sequence[int]:
        """So many numbers from 0."""
        width = self.take(1)[0]
        if width > _WIDTH:
            raise ValueError("a number is too wide")
        if width <= 1:
            return self.take(count) if width else bytes(count)
        words, found = bytearray(count * _WIDTH), self.take(width * count)
        for plane in range(width):
            words[plane::_WIDTH] = found[plane * count : plane * count + count]
        return _native(array(_WORDS, bytes(words)))

    def folded(self, count: int) -> Folded:
        """So many numbers that were folded."""
        if self._data[self._at : self._at + 1] > b"\1":
            return Folded(self.numbers(count), is_plain=False)
        found = self.take(count) if self.take(1) == b"\1" else bytes(count)
        is_plain = not found.translate(None, _EVEN)
        return Folded(found.translate(_HALF) if is_plain else found, is_plain)

    def skip(self, count: int, times: int = 1) -> Callable[[], Planes]:
        """Pass so many numbers by, so many times; returns what reads them after all."""
        begin, at, data = self._at, self._at, self._data
        for _ in range(times):
            at += 1 + data[at] * count
        self._at = at
        return lambda: Planes(data, begin)

    def ascending(self, count: int) -> list[int]:
        """So many numbers, each greater than the one before."""
        return list(accumulate(self.numbers(count)))

    def bitmaps(self, count: int) -> Sequence[int]:
        """So many bitmaps: the lower halves, then the upper ones."""
        low, high = self.numbers(count), self.numbers(count)
        if not any(high):
            return low
        return [below | above << 64 for below, above in zip(low, high, strict=True)]


def planes(numbers: Sequence[int]) -> bytes:
    """Numbers from 0: as many planes as the largest needs, told by the first byte.

    Raises:
        TooLarge: a number is.
    """
    width = (max(numbers, default=0).bit_length() + 7) // 8
    if width > _WIDTH:
        raise TooLarge("a number is too large for the history")
    words = _native(array(_WORDS, numbers)).tobytes()
    return bytes([width]) + b"".join(words[plane::_WIDTH] for plane in range(width))


def folded(numbers: Iterable[int]) -> list[int]:
    """Numbers of which some may be below 0, as numbers from 0: the small ones small."""
    return [number << 1 if number >= 0 else (-number << 1) - 1 for number in numbers]


def unfolded(numbers: Iterable[int]) -> list[int]:
    """The numbers that were folded."""
    return [-(number + 1 >> 1) if number & 1 else number >> 1 for number in numbers]


def ascending_planes(numbers: Sequence[int]) -> bytes:
    """Numbers each of which is greater than the one before."""
    return planes([number - before for number, before in zip(numbers, [0, *numbers], strict=False)])


def bitmap_planes(bitmaps: Sequence[int]) -> bytes:
    """Bitmaps of slots."""
    return planes([each & _LOW for each in bitmaps]) + planes([each >> 64 for each in bitmaps])


@lru_cache(maxsize=4096)  # neighbours are active at the same times
def slots_of(bitmap: int) -> Sequence[int]:
    """The slots of a bitmap, in order."""
    return [slot for slot in range(bitmap.bit_length()) if bitmap >> slot & 1]


def _native(words: array[int]) -> array[int]:
    """Little-endian words as this machine has them, and back."""
    if byteorder == "big":
        words.byteswap()
    return words
