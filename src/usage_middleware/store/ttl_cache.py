"""A cache of answers that expire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TTLCache(Generic[K, V]):
    """Keeps at most `size` answers, each for `seconds`. Has no lock, so a fork can't leave one behind.

    Attributes:
        generation: changes with `clear`. An answer to a question from before `clear` is not kept.
    """

    def __init__(self, clock: Callable[[], float], *, seconds: float, size: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._size = size
        self._entries: dict[K, tuple[float, V]] = {}
        self.generation = 0

    def known(self, wanted: Iterable[K]) -> dict[K, V]:
        """The cached answers that are not too old."""
        now = self._clock()
        found = ((key, self._entries.get(key)) for key in wanted)
        return {key: entry[1] for key, entry in found if entry is not None and 0 <= now - entry[0] < self._seconds}

    def keep(self, found: Mapping[K, V], asked_at: int) -> None:
        """Keep answers to what was asked when `generation` was `asked_at`."""
        # In this order, and in `clear` in the other: if `clear` comes in between, the answers go into the old dictionary.
        entries, now = self._entries, self._clock()
        if asked_at != self.generation:
            return
        for key, value in found.items():
            entries.pop(key, None)
            entries[key] = now, value
        for oldest in list(entries)[: -self._size]:
            entries.pop(oldest, None)

    def clear(self) -> None:
        """Forget everything."""
        self.generation += 1
        self._entries = {}

    def __len__(self) -> int:
        return len(self._entries)
