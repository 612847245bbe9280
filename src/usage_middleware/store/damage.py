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

    def note(self, where: str, what: str) -> None:
        """Note that something is damaged: where it is, such as a Redis key, and what is the matter."""
        name = f"{where[:_CHARACTERS]} ({what[:_CHARACTERS]})"
        now = self._monotonic()
        if name not in self._seen:
            self._forget(now)
            if len(self._seen) >= MOST_NAMED:
                return
            logger.error("usage: damaged, and left out: %s", name)
        self._seen[name] = now

    def _forget(self, now: float) -> None:
        self._seen = {name: seen for name, seen in list(self._seen.items()) if now - seen < NAMED_SECONDS}

    def __str__(self) -> str:
        """Everything that was noted of late, in a line; empty if that is nothing."""
        self._forget(self._monotonic())
        return "; ".join(self._seen)
