"""Asks whose credentials are new, between two flushes, where they are so many that they would take memory."""

from __future__ import annotations

from collections.abc import Callable

from usage_middleware.record.aggregate import Aggregate
from usage_middleware.record.attribution import Callers

#: So many cells of new credentials may wait for the next flush, and so many are asked about together.
MOST_PENDING, TOGETHER = 1_000, 5_000
#: So long nobody is asked after a failure, seconds.
PAUSE_SECONDS = 1.0


class Inquiry:
    """Asks the key directory about the credentials in an aggregate.

    Args:
        aggregate: what has been counted.
        callers: asks the key directory.
        monotonic: seconds that never jump.
    """

    def __init__(self, aggregate: Aggregate, callers: Callers, monotonic: Callable[[], float]) -> None:
        self._aggregate = aggregate
        self._callers = callers
        self._monotonic = monotonic
        self._not_before = float("-inf")

    def ask(self) -> None:
        """Ask about all of them, as long as there are answers."""
        while self._aggregate.pending >= MOST_PENDING and self._monotonic() >= self._not_before:
            before = self._aggregate.pending
            if self._callers.find(self._aggregate.pending_cells(TOGETHER)) is not None:
                self._aggregate.settle()
            if self._aggregate.pending >= before:
                self._not_before = self._monotonic() + PAUSE_SECONDS
