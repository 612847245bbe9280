"""What was found out lately, for a while."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TTLCache(Generic[K, V]):
    """Remembers at most `size` answers, each for `seconds`. What was asked for before `clear` is not kept after it."""

    def __init__(self, clock: Callable[[], float], *, seconds: float, size: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._size = size
        self._kept: dict[K, tuple[float, V]] = {}
        self._lock = Lock()
        self._pid = os.getpid()
        self.generation = 0

    def known(self, wanted: Iterable[K]) -> dict[K, V]:
        """What is remembered of these, and not too old."""
        now = self._clock()
        found = ((key, self._kept.get(key)) for key in wanted)
        return {key: kept[1] for key, kept in found if kept is not None and 0 <= now - kept[0] < self._seconds}

    def keep(self, found: Mapping[K, V], asked_at: int) -> None:
        """Remember answers that were asked for when `generation` was `asked_at`."""
        now = self._clock()
        with self._own_lock():
            if asked_at != self.generation:
                return
            for key, value in found.items():
                self._kept.pop(key, None)
                self._kept[key] = now, value
            for oldest in list(islice(self._kept, max(0, len(self._kept) - self._size))):
                del self._kept[oldest]

    def clear(self) -> None:
        """Forget everything."""
        with self._own_lock():
            self.generation += 1
            self._kept = {}

    def __len__(self) -> int:
        return len(self._kept)

    def _own_lock(self) -> Lock:
        # A thread of the parent may have held it when this process was forked.
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), Lock()
        return self._lock
