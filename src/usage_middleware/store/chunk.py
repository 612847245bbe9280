"""What the recorder hands to the store: the numbered chunks in which counted calls travel."""

from __future__ import annotations

from typing import NamedTuple

from usage_middleware.events import Cells, calls_in


class Chunk(NamedTuple):
    """Calls of one organisation under one number: counted all together and once, however often they are sent.

    Attributes:
        org: whose tree they are written to; `*` for the operator's.
        number: 1, 2, 3, ... for each worker and organisation.
        cells: the calls. Never empty, unless `dropped` is not 0.
        dropped: calls that were finished but will never be counted.
        sealed_at: when it got its number, seconds since the epoch.
    """

    org: str
    number: int
    cells: Cells
    dropped: int = 0
    sealed_at: int = 0

    @property
    def calls(self) -> int:
        """How many calls it counts."""
        return calls_in(self.cells)

    def emptied(self) -> Chunk:
        """The same number, its calls counted as dropped."""
        return self._replace(cells={}, dropped=self.dropped + self.calls)
