"""Calls without a number, because Redis is away or the key directory does not say who called."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from usage_middleware.events import CallerId, Cells, add_totals
from usage_middleware.gil import yielding
from usage_middleware.record.aggregate import Batch, add_drops, size_of
from usage_middleware.record.known_credentials import KnownCredentials
from usage_middleware.store.members import OPERATOR
from usage_middleware.store.worker_status import OwnStatus


class Parked:
    """Added-up calls that wait in memory. With a journal they are also on disk.

    Attributes:
        cells: the calls, added up.
        dropped: how many calls had no room, by caller.
    """

    def __init__(self) -> None:
        self.cells: Cells = {}
        self.dropped: dict[CallerId, int] = {}
        self._folded_at = 0

    def __bool__(self) -> bool:
        return bool(self.cells or self.dropped)

    def park(self, cells: Cells, dropped: dict[CallerId, int]) -> None:
        """Add calls. The given dictionary must not be used any more."""
        few, self.cells = sorted((cells, self.cells), key=len)
        for key, totals in yielding(few.items()):
            add_totals(self.cells, key, totals)
        for caller, calls in dropped.items():
            add_drops(self.dropped, caller, calls)

    def drain(self) -> Batch:
        """Take everything out."""
        batch = Batch(self.cells, self.dropped, 0)
        self.cells, self.dropped = {}, {}
        return batch

    def fold(self, limit: int, slot_seconds: int, now: int) -> bool:
        """Make one minute of the minutes of a slot if the calls take more than `limit` bytes; True if it did.

        It is tried once a minute. Slots and days stay exact, these minutes don't.
        """
        minute = now // 60
        if self._folded_at == minute or self.bytes < limit:
            return False
        self._folded_at = minute
        self.cells = folded(self.cells, slot_seconds, now)
        return True

    @property
    def calls(self) -> int:
        """How many calls are parked."""
        return sum(totals.calls for totals in yielding(self.cells.values()))

    def bytes_of_pending(self, known: KnownCredentials) -> int:
        """About how many bytes those take whose credentials are not known to be keys."""
        return sum(
            size_of(key, len(totals.bins))
            for key, totals in yielding(self.cells.items())
            if isinstance(key.caller, bytes) and not known.is_key(key.caller)
        )

    @property
    def bytes(self) -> int:
        """About how many bytes they take."""
        return sum(size_of(key, len(totals.bins)) for key, totals in yielding(self.cells.items()))


def with_drops(status: OwnStatus, *waiting: Mapping[CallerId, int]) -> tuple[dict[str, int], int]:
    """The dropped calls of a worker by organisation, and those without one, together with drops that are yet to be noted."""
    dropped, unresolved = dict(status.dropped), status.dropped_unresolved
    for drops in waiting:
        # A copy: a request may add to them meanwhile.
        for caller, calls in dict(drops).items():
            if isinstance(caller, bytes) or caller[0] == OPERATOR:
                unresolved += calls
            else:
                dropped[caller[0]] = dropped.get(caller[0], 0) + calls
    return dropped, unresolved


def folded(cells: Cells, slot_seconds: int, now: int) -> Cells:
    """The same calls; those of past minutes are counted in one minute of their slot.

    It takes less memory in a long outage. Slots and days stay exact; those minutes don't. It is the first minute, for
    credentials the last: were one revoked meanwhile, what came after that must not seem to have come before.
    """
    current = now - now % 60
    found: Cells = {}
    for key, totals in cells.items():
        minute = key.minute
        if minute < current:
            minute -= minute % slot_seconds
            if isinstance(key.caller, bytes):
                minute = min(minute + slot_seconds, current) - 60
        add_totals(found, replace(key, minute=minute), totals)
    return found
