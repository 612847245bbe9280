"""Decides which organisations get a tree of their own, where callers may choose their organisation.

Those that the key directory knows always do, and those with a plan. The others are counted in Redis, and capped. Calls of those
beyond the cap count in the operator's tree alone, under `(other)`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from usage_middleware.events import CallerId, CallKey, Cells, add_totals
from usage_middleware.gil import yielding
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.store.driver_errors import is_missing_right, redis_errors
from usage_middleware.store.members import OPERATOR, OTHER
from usage_middleware.store.writer import Writer

#: Which of these organisations are known: by a key in the directory, or a plan. May raise anything.
FindKnownOrgs = Callable[[Collection[str]], Collection[str]]

#: After so long Redis is asked again about an organisation that has a tree, and about one that has none; seconds.
ADMITTED_SECONDS = 3600.0
REFUSED_SECONDS = 60.0
#: So many that nobody was asked about pass at the end of a process, when nobody can be asked: their calls get numbers then.
MOST_UNASKED = 20
#: So many are remembered. When there are more, Redis is asked again.
MOST_REMEMBERED = 200_000


def find_no_orgs(orgs: Collection[str]) -> Collection[str]:
    """Knows none, for a recorder without a directory."""
    return ()


class Admitted(NamedTuple):
    """Calls, sorted by what becomes of them; those of organisations beyond the cap are under `(other)`."""

    cells: Cells
    waiting: Cells
    refused: int


class Admission:
    """Remembers which organisations have a tree, and asks Redis about the others.

    Args:
        writer: notes them in Redis.
        known_orgs: asks the key directory.
        clock: seconds since the epoch.
        monotonic: seconds that never jump.
        count_error: counts and logs an error, by its reason.
    """

    def __init__(
        self,
        writer: Writer,
        known_orgs: FindKnownOrgs,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        count_error: Callable[[str], None],
    ) -> None:
        self._writer = writer
        self._known_orgs = known_orgs
        self._clock = clock
        self._monotonic = monotonic
        self._count_error = count_error
        #: Organisation -> when it is to be asked about again.
        self._admitted: dict[str, float] = {}
        self._refused: dict[str, float] = {}
        #: How many passed that nobody was asked about.
        self._passed = 0

    def sort(self, cells: Cells, others: Iterable[CallerId] = (), *, asking: bool) -> Admitted:
        """Sort calls. Where Redis can't be asked, those of organisations that nobody asked about yet wait, all but a few.

        Args:
            cells: calls; those of credentials pass, since only an organisation that the directory knows has one.
            others: other callers that `place` will be asked about.
            asking: False asks nobody.
        """
        orgs = {key.caller[0] for key in yielding(cells) if isinstance(key.caller, tuple)}
        orgs |= {caller[0] for caller in others if isinstance(caller, tuple)}
        if not orgs:
            return Admitted(cells, {}, 0)
        refused = self._ask(orgs) if asking else self._pass(orgs)
        if all(self._may(org) for org in orgs):
            return Admitted(cells, {}, refused)
        found, waiting = Cells(), Cells()
        for key, totals in yielding(cells.items()):
            org = key.caller[0] if isinstance(key.caller, tuple) else DEFAULT_ORG
            if self._may(org):
                found[key] = totals
            elif org in self._refused:
                add_totals(found, _of_others(key), totals)
            else:
                waiting[key] = totals
        return Admitted(found, waiting, refused)

    def place(self, org: str) -> str | None:
        """The organisation under which dropped calls are counted; None if nobody could be asked yet."""
        return org if self._may(org) else OTHER if org in self._refused else None

    def _may(self, org: str) -> bool:
        return org in self._admitted or org in (DEFAULT_ORG, OPERATOR, OTHER)

    def _ask(self, orgs: Collection[str]) -> int:
        """Ask about those that are new, or were asked about long ago; how many have no tree that had none before."""
        now = self._monotonic()
        due = [org for org in orgs if not self._is_fresh(org, now)]
        if not due:
            return 0
        known = self._known(due)
        others = [org for org in due if org not in known]
        try:
            refused = self._writer.admit_orgs(others, int(self._clock() * 1000)) if others else set()
        except redis_errors() as error:
            if not is_missing_right(error):
                others = []  # What was decided before stays so; the others wait.
            refused = set()
        self._remember({*known, *others} - refused, refused, now)
        return len(refused)

    def _pass(self, orgs: Collection[str]) -> int:
        """Let a few through that nobody was asked about. Redis is asked the next time."""
        new = [org for org in orgs if not self._may(org) and org not in self._refused]
        for org in new[: MOST_UNASKED - self._passed]:
            self._admitted[org] = float("-inf")
            self._passed += 1
        return 0

    def _is_fresh(self, org: str, now: float) -> bool:
        until = self._admitted.get(org, self._refused.get(org, now))
        return until > now or org in (DEFAULT_ORG, OPERATOR, OTHER)

    def _known(self, orgs: Collection[str]) -> set[str]:
        try:
            return set(self._known_orgs(orgs))
        except Exception:
            self._count_error("known_orgs")
            return set()

    def _remember(self, admitted: Collection[str], refused: Collection[str], now: float) -> None:
        self._passed = 0
        for many in (self._admitted, self._refused):
            if len(many) > MOST_REMEMBERED:
                many.clear()
        for org in admitted:
            self._admitted[org] = now + ADMITTED_SECONDS
            self._refused.pop(org, None)
        for org in refused:
            self._refused[org] = now + REFUSED_SECONDS
            self._admitted.pop(org, None)


def _of_others(key: CallKey) -> CallKey:
    return replace(key, caller=(OTHER, ""))
