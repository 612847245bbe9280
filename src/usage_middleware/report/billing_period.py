"""Which billing period is asked for: `current`, `previous`, a month in which it begins, or the day."""

from __future__ import annotations

import re
from datetime import date, datetime

from usage_middleware.errors import QueryError
from usage_middleware.periods import midnight, zone
from usage_middleware.plans.assignment import History
from usage_middleware.plans.billing import Period

CURRENT, PREVIOUS = "current", "previous"
_CODE, _PARAM = "invalid_period", "period"
_MONTH, _DAY = re.compile(r"([0-9]{4})-([0-9]{2})"), re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")


def timezone_of(history: History, at: int) -> str:
    """The zone of a customer's days at an instant."""
    assigned = history.at(at)
    return "UTC" if assigned is None else assigned.timezone


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
    found = _named(history, asked, now)
    if found.start > now:
        raise QueryError(_CODE, f"The period {asked} has not begun.", _PARAM)
    return found


def _named(history: History, asked: str, now: int) -> Period:
    first = _first_day(asked)
    tz = zone(timezone_of(history, now))
    is_day = _DAY.fullmatch(asked) is not None
    periods = [found for found in _beginning_in(history, first, tz_name=tz.key) if not is_day or _day(found, tz.key) == first]
    if len(periods) == 1:
        return periods[0]
    days = ", ".join(_day(found, tz.key).isoformat() for found in periods)
    if is_day or not periods:
        near = _day(history.period(midnight(first, tz)), tz.key)
        raise QueryError(_CODE, f"No billing period begins then; the one that holds it begins {near}.", _PARAM)
    raise QueryError(_CODE, f"Several billing periods begin in {asked}: ask for one of {days}.", _PARAM)


def _beginning_in(history: History, first: date, tz_name: str) -> list[Period]:
    """The periods that begin in the month of a day."""
    tz = zone(tz_name)
    start = midnight(first.replace(day=1), tz)
    end = midnight(date(first.year + first.month // 12, first.month % 12 + 1, 1), tz)
    found, at = [], start
    while at < end:
        period = history.period(at)
        if period.start >= start:
            found.append(period)
        at = period.end
    return found


def _day(period: Period, tz_name: str) -> date:
    return datetime.fromtimestamp(period.start, zone(tz_name)).date()


def _first_day(asked: str) -> date:
    found = _DAY.fullmatch(asked) or _MONTH.fullmatch(asked)
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
