"""What has to be done though nobody calls: when a period ends, when a plan changes, and when a statement is final.

One worker does it for an organisation, when it is due. A worker that is killed meanwhile leaves it to another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from zlib import crc32

from usage_middleware.alerts.thresholds import Thresholds
from usage_middleware.periods import DAY, HOUR, MINUTE
from usage_middleware.plans.plan import Per, Plan
from usage_middleware.report.context import ReportContext
from usage_middleware.report.plan_directory import CustomerPlans
from usage_middleware.report.quantities import whole_quantities
from usage_middleware.report.statements import Biller
from usage_middleware.store.agenda import Agenda
from usage_middleware.store.ttl_cache import TTLCache

#: So long after a period workers have delivered its last calls, seconds; and over so many more the organisations are spread,
#: since most periods end at the same midnight.
DELIVERED_SECONDS, SPREAD_SECONDS = MINUTE, 4 * MINUTE
#: So long one worker has an organisation for itself; and so long it waits after a failure, seconds.
LEASE_SECONDS, FAILED_SECONDS = 60.0, 10 * MINUTE
#: How long thresholds of a period are looked for after its end, seconds. Older ones help nobody.
LATE_SECONDS = DAY
#: How soon, and how late, it is looked again whether the calls of a period are all in, seconds.
_SOONEST, _LATEST = MINUTE, HOUR
#: So many organisations a process remembers to have entered, for so many seconds.
_MOST_KNOWN, KNOWN_SECONDS = 10_000, 600.0


class PeriodEnds:
    """Looks at organisations when their periods end, and when their plans change."""

    def __init__(self, agenda: Agenda, thresholds: Thresholds, clock: Callable[[], float]) -> None:
        self._agenda = agenda
        self._thresholds = thresholds
        self._clock = clock
        self._known: TTLCache[tuple[str, int], bool] = TTLCache(clock, seconds=KNOWN_SECONDS, size=_MOST_KNOWN)

    def enter(self, context: ReportContext, org: str) -> None:
        """See that an organisation is looked at when its running periods end."""
        at = _next(context.plans.of(org), org, context.now)
        if at is None or self._known.known([(org, at)]):
            return
        asked_at = self._known.generation
        self._agenda.enter(org, at * 1000)
        self._known.keep({(org, at): True}, asked_at)

    def due(self) -> list[tuple[str, float]]:
        """Some organisations that are due, and since when."""
        return self._agenda.due(self._ms(0))

    def look(self, context: ReportContext, org: str, since: float) -> None:
        """Do what is due for an organisation since then, unless another worker is at it."""
        until = self._ms(LEASE_SECONDS)
        if not self._agenda.move(org, since, until):
            return
        try:
            at = self._looked(context, org)
        except Exception:
            self._agenda.move(org, until, self._ms(FAILED_SECONDS))
            raise
        self._agenda.move(org, until, None if at is None else at * 1000)

    def _looked(self, context: ReportContext, org: str) -> int | None:
        """Look for thresholds, and make statements that are final. When to look again; None: never."""
        plans, now = context.plans.of(org), context.now
        waiting = []
        for begun in _begun(plans, now):
            self._thresholds.evaluate(context, org, None, at=begun - 1)
            waiting += [] if context.is_final(begun) else [begun]
        self._thresholds.evaluate(context, org, None)
        waiting += [period.end for period in Biller(context, org, plans).close()]
        again = [now + min(max((now - end) // 4, _SOONEST), _LATEST) for end in waiting]
        if not again and _is_idle(context, org, plans):
            return None
        return min([*again, *_times(plans, org, now)], default=None)

    def _ms(self, seconds: float) -> int:
        return int((self._clock() + seconds) * 1000)


def _is_idle(context: ReportContext, org: str, plans: CustomerPlans) -> bool:
    """Whether nothing happens until somebody calls, who then enters it again: of the default plan, free, and not used."""
    if plans.keys or any(change.at > -math.inf for change in plans.history.changes):
        return False
    period = plans.history.period(context.now)
    plan = plans.plan(context.now)
    (used,) = whole_quantities(context, org, [period])
    return not used and (plan is None or not plan.prices)


def _next(plans: CustomerPlans, org: str, now: int) -> int | None:
    return min(_times(plans, org, now), default=None)


def _times(plans: CustomerPlans, org: str, now: int) -> Iterator[int]:
    """When to look at an organisation: some time after each of its running periods, and when a plan changes."""
    after = DELIVERED_SECONDS + crc32(org.encode("utf-8", "surrogatepass")) % SPREAD_SECONDS
    for per in _pers(plans, now):
        yield plans.history.period(now, per).end + after
    for history in (plans.history, *plans.keys.values()):
        yield from (int(change.at) for change in history.changes if change.at > now)


def _begun(plans: CustomerPlans, now: int) -> list[int]:
    """When running periods have begun, if that is not long ago: the periods before have ended then."""
    pers = {*_pers(plans, now), *_pers(plans, now - LATE_SECONDS)}
    starts = {plans.history.period(now, per).start for per in pers}
    return sorted(start for start in starts if now - start <= LATE_SECONDS)


def _pers(plans: CustomerPlans, at: float) -> set[Per]:
    """How long the periods are that something happens after."""
    own = plans.plan(at)
    others = plans.declared.by_name.values() if plans.keys else ()
    known: list[Plan] = [plan for plan in (own, *others) if plan is not None]
    found: set[Per] = {quota.per for plan in known for quota in plan.quotas if quota.alerts}
    priced = plans.declared.plan(plans.history.priced(plans.history.period(int(at))))
    return found | ({"month"} if any(plan is not None and plan.prices for plan in (own, priced)) else set())
