"""Which billing period is asked for: `current`, `previous`, a month in which it begins, the day, or the time."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

from usage_middleware.errors import QueryError
from usage_middleware.periods import midnight, rfc3339, zone
from usage_middleware.plans.assignment import History
from usage_middleware.plans.billing import Period

CURRENT, PREVIOUS = "current", "previous"
UTC = zone("UTC")
_CODE, _PARAM = "invalid_period", "period"
_MONTH, _DAY = re.compile(r"([0-9]{4})-([0-9]{2})"), re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
#: As answers echo it, in UTC.
_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T[0-9:]{8}Z")


def billing_period(history: History, asked: str, now: int) -> Period:
    """The billing period that is asked for.

    Raises:
        QueryError: `invalid_period`: it is none, or several, or has not begun.
    """
    running = history.period(now)
    if asked == CURRENT:
        return running
    if asked == PREVIOUS:
        return history.period(running.start - 1)
    return _named(history, asked, now)


def _named(history: History, asked: str, now: int) -> Period:
    first, is_month = _first_day(asked), _MONTH.fullmatch(asked) is not None
    found = [period for period in _beginning_in(history, first) if is_month or asked in _names(history, period)]
    periods = [period for period in found if period.start <= now]
    if len(periods) == 1:
        return periods[0]
    if found and not periods:
        raise QueryError(_CODE, f"The period {asked} has not begun.", _PARAM)
    if not periods:
        near = _day(history, history.period(midnight(first, zone(history.timezone(midnight(first, UTC))))))
        raise QueryError(_CODE, f"No billing period begins then; the one that holds it begins {near}.", _PARAM)
    # By its day, or by its time where several begin on one day.
    both = [_names(history, period) for period in periods]
    days = [day for day, _ in both]
    names = ", ".join(day if days.count(day) == 1 else time for day, time in both)
    raise QueryError(_CODE, f"Several billing periods begin in {asked}: ask for one of {names}.", _PARAM)


def _names(history: History, period: Period) -> tuple[str, str]:
    """What a period may be asked for as: the day on which it begins, and the time."""
    return _day(history, period).isoformat(), rfc3339(period.start)


def _beginning_in(history: History, first: date) -> list[Period]:
    """The periods that begin in the month of a day, each by the calendar of its own zone."""
    at, end = (midnight(first.replace(day=1) + timedelta(days), UTC) for days in (-1, 33))
    found = []
    while at < end:
        period = history.period(at)
        if _day(history, period).replace(day=1) == first.replace(day=1):
            found.append(period)
        at = period.end
    return found


def _day(history: History, period: Period) -> date:
    """The local day on which a period begins."""
    return datetime.fromtimestamp(period.start, zone(history.timezone(period.start))).date()


def _first_day(asked: str) -> date:
    found = _DAY.fullmatch(asked) or _MONTH.fullmatch(asked) or _TIME.fullmatch(asked)
    try:
        assert found is not None
        day = date(*(int(part) for part in (*found.groups(), "1")[:3]))
        if not 1971 <= day.year <= 2999:
            raise ValueError
    except (AssertionError, ValueError):
        raise QueryError(
            _CODE, "period must be current, previous, a month such as 2026-10, or the day on which it begins", _PARAM
        ) from None
    return day
