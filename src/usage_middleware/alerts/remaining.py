"""What is left of a quota, from memory: for an application that refuses calls by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from usage_middleware.report.context import ReportContext
from usage_middleware.report.limit_rows import Meters
from usage_middleware.store.members import org_member

#: A number that was asked for is read again after so many seconds; it is not told any more after so many.
REFRESH_SECONDS, STALE_SECONDS = 2.5, 60.0
#: So long after it was asked for last it is kept fresh, seconds; of so many organisations.
ASKED_SECONDS, MOST_ORGS = 60.0, 10_000


class Remaining(NamedTuple):
    """A limit of an organisation, and what was used of it.

    Attributes:
        used: how much was used in the running period.
        limit: how much may be used.
        over: whether it is more than that.
        as_of: when that was read, seconds since the epoch.
    """

    used: int
    limit: int
    over: bool
    as_of: float


class KnownRemaining:
    """What was read of organisations that somebody asks about. Its dictionaries are only changed by whole entries."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        #: When each organisation was asked for last, and when it was read last.
        self._asked: dict[str, float] = {}
        self._read: dict[str, tuple[float, dict[str, Remaining]]] = {}

    def get(self, org: str, name: str) -> Remaining | None:
        """What is known; None until it is."""
        now = self._monotonic()
        if len(self._asked) < MOST_ORGS or org in self._asked:
            self._asked[org] = now
        found = self._read.get(org)
        return None if found is None or now - found[0] > STALE_SECONDS else found[1].get(name)

    @property
    def is_asked(self) -> bool:
        """Whether anybody asks."""
        return bool(self._asked)

    def is_due(self, org: str) -> bool:
        """Whether an organisation has to be read now."""
        found = self._read.get(org)
        return found is None or self._monotonic() - found[0] >= REFRESH_SECONDS

    def due(self) -> list[str]:
        """The organisations that have to be read now; those that nobody asks about any more are forgotten."""
        now = self._monotonic()
        for org, asked in list(self._asked.items()):
            if now - asked > ASKED_SECONDS:
                self._asked.pop(org, None)
                self._read.pop(org, None)
        return [org for org in list(self._asked) if self.is_due(org)]

    def read(self, context: ReportContext, org: str) -> None:
        """Read what an organisation has used."""
        at = self._clock()
        meters = Meters(context, org_member(org), fresh=True)
        rows = meters.rows(meters.of_org())
        found = {row.name: Remaining(row.used, row.limit, row.over, at) for row in rows}
        self._read[org] = (self._monotonic(), found)
