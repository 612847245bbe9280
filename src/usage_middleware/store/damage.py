"""Names what was found damaged in Redis or on disk. Each costs only itself; `/health` and the log say which they are."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from usage_middleware.store.driver_errors import is_wrong_type

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
        #: Place -> when it was last noted, and what is the matter.
        self._noted: dict[str, tuple[float, str]] = {}

    def note(self, where: str, what: str) -> None:
        """Note that something is damaged: where it is, such as a Redis key, and what is the matter. One thing a place."""
        now, place = self._monotonic(), _shown(where)
        found = self._noted.get(place)
        if found is None:
            self._forget(now)
            if len(self._noted) >= MOST_NAMED:
                return
            found = now, _shown(what)
            logger.error("usage: damaged, and left out: %s (%s)", place, found[1])
        self._noted[place] = now, found[1]

    def explains(self, error: Exception, where: str) -> bool:
        """Whether an error says that the Redis key holds another type than ours. Then it is noted."""
        if is_wrong_type(error):
            self.note(where, "holds another type")
        return is_wrong_type(error)

    def _forget(self, now: float) -> None:
        self._noted = {place: one for place, one in list(self._noted.items()) if now - one[0] < NAMED_SECONDS}

    def __str__(self) -> str:
        """Everything that was noted of late, in a line; empty if that is nothing."""
        self._forget(self._monotonic())
        return "; ".join(f"{place} ({what})" for place, (_, what) in list(self._noted.items()))


def _shown(name: str) -> str:
    """A name as it may stand in a line of the log: what is damaged may hold anything."""
    return "".join(one if one.isprintable() else "?" for one in name[:_CHARACTERS])
