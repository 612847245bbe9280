"""Which billing period is asked for: `current`, `previous`, a month in which it begins, the day, or the time."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import NamedTuple

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
    first = _first_day(asked)
    named = [period for period in _beginning_around(history, first) if asked in _names(history, period)]
    periods = [period for period in named if period.start <= now]
    if len(periods) == 1:
        return periods[0]
    if named and not periods:
        raise QueryError(_CODE, f"The period {asked} has not begun.", _PARAM)
    if not periods:
        near = history.period(midnight(first, zone(history.timezone(midnight(first, UTC)))))
        begun = _names(history, near).day
        raise QueryError(_CODE, f"No billing period begins then; the one that holds it begins {begun}.", _PARAM)
    names = [_names(history, period) for period in periods]
    days = [name.day for name in names]
    # By the day, or by the time where several begin on one day.
    each = ", ".join(name.day if days.count(name.day) == 1 else name.time for name in names)
    raise QueryError(_CODE, f"Several billing periods begin in {asked}: ask for one of {each}.", _PARAM)


class _Names(NamedTuple):
    """What a period may be asked for as: where it begins, by the calendar of its own zone, and in UTC."""

    month: str
    day: str
    time: str


def _names(history: History, period: Period) -> _Names:
    day = datetime.fromtimestamp(period.start, zone(history.timezone(period.start))).date().isoformat()
    return _Names(day[:7], day, rfc3339(period.start))


def _beginning_around(history: History, day: date) -> list[Period]:
    """The periods that begin in the month of a day, and some more: in another zone it may be another day."""
    at, end = (midnight(day.replace(day=1) + timedelta(days), UTC) for days in (-2, 33))
    found = [history.period(at)]
    while found[-1].end < end:
        found.append(history.period(found[-1].end))
    return found


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
