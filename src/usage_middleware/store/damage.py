"""Names what was found damaged in Redis or on disk. Each costs only itself; `/health` and the log say which they are."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger("usage_middleware")

#: So many are named, for so long after they were last seen, seconds.
MOST_NAMED = 20
NAMED_SECONDS = 600.0
#: How long a name is, at most.
_CHARACTERS = 200


class DamageLog:
    """What this process has found damaged. Threads may note at once.

    Args:
        monotonic: seconds that never jump.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: dict[str, float] = {}
        self._what: dict[str, str] = {}

    def note(self, where: str, what: str) -> None:
        """Note that something is damaged: where it is, such as a Redis key, and what is the matter. One thing a place."""
        now, place = self._monotonic(), _shown(where)
        if place not in self._seen:
            self._forget(now)
            if len(self._seen) >= MOST_NAMED:
                return
            self._what[place] = _shown(what)
            logger.error("usage: damaged, and left out: %s (%s)", place, self._what[place])
        self._seen[place] = now

    def _forget(self, now: float) -> None:
        self._seen = {place: seen for place, seen in list(self._seen.items()) if now - seen < NAMED_SECONDS}
        self._what = {place: what for place, what in list(self._what.items()) if place in self._seen}

    def __str__(self) -> str:
        """Everything that was noted of late, in a line; empty if that is nothing."""
        self._forget(self._monotonic())
        return "; ".join(f"{place} ({what})" for place, what in self._what.items())


def _shown(name: str) -> str:
    """A name as it may stand in a line of the log: what is damaged may hold anything."""
    return "".join(one if one.isprintable() else "?" for one in name[:_CHARACTERS])
