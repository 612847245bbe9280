"""Which plan a customer has when: a history of assignments, and the billing periods that follow from it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import inf
from typing import NamedTuple

from usage_middleware.errors import ConfigurationError, QueryError
from usage_middleware.lazily import cached
from usage_middleware.periods import HOUR, zone
from usage_middleware.plans.billing import Calendar, Period
from usage_middleware.plans.plan import Per, Plan

#: What another time zone would leave between two periods, and a little more, is no period of its own, seconds: the ends of the
#: earth are 26 hours apart.
_STUB = 27 * HOUR
#: Billing periods of a customer who was never told otherwise begin with the month.
FIRST_OF_MONTH = date(2000, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """The plan of a customer.

    Attributes:
        plan: the plan's name; None: no plan.
        anchor: the local day on which billing periods begin.
        timezone: the IANA zone of the customer's days.
        overrides: other amounts of the plan's limits and quotas, by their names.
        from_: since when, seconds since the epoch; None: always. Only what `Usage(plan_of=...)` returns has it: before it,
            the default plan holds.

    Raises:
        ConfigurationError: naming the field and what is allowed.
    """

    plan: str | None
    anchor: date = FIRST_OF_MONTH
    timezone: str = "UTC"
    overrides: Mapping[str, int] = field(default_factory=dict)
    from_: int | None = None

    def __post_init__(self) -> None:
        if type(self.anchor) is not date or not 1970 <= self.anchor.year <= 9000:
            raise ConfigurationError(f"anchor must be a datetime.date from 1970 to 9000, not {self.anchor!r}")
        try:
            zone(self.timezone)
        except QueryError:
            raise ConfigurationError(f"timezone must be the name of an IANA zone, not {self.timezone!r}") from None
        if self.from_ is not None and (isinstance(self.from_, bool) or not isinstance(self.from_, int)):
            raise ConfigurationError(f"from_ must be whole seconds since the epoch, not {self.from_!r}")
        for name, amount in self.overrides.items():
            if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount < 1 << 53:
                raise ConfigurationError(f"overrides[{name!r}] must be a whole number from 0 to 2**53 - 1, not {amount!r}")

    @property
    def calendar(self) -> Calendar:
        """The customer's calendar."""
        return Calendar(self.anchor, zone(self.timezone))

    def check(self, plans: Mapping[str, Plan]) -> None:
        """Check the plan and the overrides against what is declared.

        Raises:
            ConfigurationError: there is no such plan, or it has no limit or quota of that name.
        """
        if self.plan is None:
            allowed: Iterable[str] = ()
        elif self.plan not in plans:
            raise ConfigurationError(f"plan must be one of {', '.join(plans) or '(none is declared)'}, not {self.plan!r}")
        else:
            allowed = plans[self.plan].amounts
        for name in self.overrides:
            if name not in allowed:
                raise ConfigurationError(f"overrides has {name!r}; plan {self.plan!r} has {', '.join(allowed) or 'nothing'}")


class Change(NamedTuple):
    """An entry of the history: from an instant on, a customer has what was assigned.

    Attributes:
        at: since when, seconds since the epoch; -inf for what was always so.
        now: whether the billing period ends then, too. Else it ends as it would have.
    """

    at: float
    assigned: Assigned
    now: bool = False


class _Span(NamedTuple):
    """A calendar, and since when it holds.

    Attributes:
        stretches: whether what is left before it, if that is short, belongs to the period before.
    """

    start: float
    calendar: Calendar
    stretches: bool = False


class History:
    """The assignments of one customer, and what follows from them.

    Limits and quotas change with the assignment. Prices, the zone and the anchor change when the next billing period
    begins. So each instant is in exactly one period of each length, and a past period keeps its plan.
    """

    def __init__(self, changes: Sequence[Change], default: str | None = None) -> None:
        """The changes, and the plan that holds before the first of them."""
        found = sorted(changes, key=lambda change: change.at)
        first = found[0].assigned if found else Assigned(plan=default)
        before = Assigned(plan=default, anchor=first.anchor, timezone=first.timezone)
        self._changes = found if default is None else [Change(-inf, before), *found]

    @property
    def changes(self) -> Sequence[Change]:
        """All assignments, the earliest first."""
        return self._changes

    def at(self, at: float) -> Assigned | None:
        """What was assigned at an instant; None before the first assignment."""
        place = bisect_right(self._changes, at, key=lambda change: change.at)
        return self._changes[place - 1].assigned if place else None

    def period(self, at: int, per: Per = "month") -> Period:
        """The period that holds an instant. It is shorter than others where the calendar changed."""
        return _period(self._spans, at, per)

    def before(self, period: Period, count: int) -> list[Period]:
        """So many billing periods before one, the latest first."""
        found = [period]
        for _ in range(count):
            found.append(self.period(found[-1].start - 1))
        return found[1:]

    def timezone(self, at: float) -> str:
        """The zone of the customer's days at an instant: that of the period which it is in."""
        return self._spans[_place(self._spans, at)].calendar.tz.key

    def priced(self, period: Period) -> Assigned | None:
        """Whose prices hold in a billing period: what was assigned when it began."""
        return self.at(period.start)

    @cached
    def _spans(self) -> Sequence[_Span]:
        spans: list[_Span] = []
        for change in self._changes:
            calendar = change.assigned.calendar
            # What was to begin later does not begin any more.
            spans = [span for span in spans if span.start <= change.at]
            if not spans:
                spans.append(_Span(-inf, calendar))
            elif change.now:
                spans = [*(span for span in spans if span.start < change.at), _Span(change.at, calendar)]
            elif calendar != spans[-1].calendar:
                spans.append(_next(spans, int(change.at), calendar))
        return spans or [_Span(-inf, Assigned(plan=None).calendar)]


def _next(spans: Sequence[_Span], at: int, calendar: Calendar) -> _Span:
    """Another calendar, from the end of the running period on: in a zone further west that is some hours later."""
    end = _period(spans, at, "month").end
    found = calendar.period(end)
    is_short = found.start < end and found.end - end < _STUB
    return _Span(found.end if is_short else end, calendar, is_short)


def _place(spans: Sequence[_Span], at: float) -> int:
    """Which span holds an instant."""
    return max(0, bisect_right(spans, at, key=lambda span: span.start) - 1)


def _period(spans: Sequence[_Span], at: int, per: Per) -> Period:
    place = _place(spans, at)
    start, calendar, _ = spans[place]
    after = spans[place + 1] if place + 1 < len(spans) else _Span(inf, calendar)
    found = calendar.period(at, per)
    left = _left(spans[place], after, per)
    if found.start == left:
        found = calendar.period(found.start - 1, per)
    end = after.start if found.end == left else min(found.end, after.start)
    return Period(int(max(found.start, start)), int(end))


def _left(span: _Span, after: _Span, per: Per) -> int | None:
    """When that begins which is left before another calendar, and is no period of its own; None if nothing is."""
    if not after.stretches:
        return None
    found = span.calendar.period(int(after.start) - 1, per)
    is_short = found.end > after.start and after.start - found.start < _STUB
    return found.start if is_short and found.start > span.start else None
