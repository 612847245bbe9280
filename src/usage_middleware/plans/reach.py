"""Whether counters are kept for long enough, and finely enough, to measure a plan exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from math import inf
from typing import NamedTuple

from usage_middleware.errors import ConfigurationError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import DAY, rfc3339, zone
from usage_middleware.plans.assignment import Assigned
from usage_middleware.plans.billing import Period
from usage_middleware.plans.plan import By, Per, Plan

#: So many days after its end a period may still get calls that come late.
LATE_DAYS = 9
_LONGEST_DAYS: Mapping[Per, int] = {"day": 1, "week": 7, "month": 31, "year": 366}
_YEARS_CHECKED = range(2015, 2038)
_LAYERS = ("minute", "middle", "day")


class _Need(NamedTuple):
    """What a part of a plan is measured from, over periods of which length."""

    part: str
    kind: CounterKind
    per: Per


def check_reach(plan: Plan, assigned: Assigned, settings: Settings) -> None:
    """Check that all periods of a plan can be measured exactly, and `LATE_DAYS` longer.

    Raises:
        ConfigurationError: saying which option has to change.
    """
    if any(offset % (settings.slot_minutes * 60) for offset in _offsets(assigned.timezone)):
        raise ConfigurationError(
            f"timezone {assigned.timezone!r} has days that {settings.slot_minutes}-minute slots can't tell apart; "
            "Usage(slot_minutes=15) can for zones of whole quarter-hours"
        )
    for need in _needs(plan):
        # A day more: the clock may change, and slots are as wide as a day.
        days = _LONGEST_DAYS[need.per] + LATE_DAYS + 1
        for rank in _ranks(assigned.timezone):
            if settings.kept(need.kind, rank) < days * DAY:
                raise ConfigurationError(
                    f"{need.part} of plan {plan.name!r} needs counters that are kept for {days} days: set "
                    f'Usage(retention={{"{need.kind}": {{"{_LAYERS[rank]}": timedelta(days={days})}}}}), or more'
                )


def check_running(plan: Plan, timezone: str, period: Callable[[Per], Period], settings: Settings, packed_since: float) -> None:
    """Check that the running periods of a plan can be measured exactly, where what they began with is not packed.

    Args:
        period: the running period of each length.
        packed_since: what was counted before then is kept for as long as without history, seconds since the epoch.

    Raises:
        ConfigurationError: saying what is not kept, and what can be assigned.
    """
    for need in _needs(plan):
        start, end = period(need.per)
        for rank in _ranks(timezone) if start < packed_since else ():
            if settings.kept_without_history(need.kind, rank) < end - start + LATE_DAYS * DAY:
                began = (
                    "no history yet"
                    if packed_since == inf
                    else f"no history of what was counted before {rfc3339(packed_since)}"
                )
                raise ConfigurationError(
                    f"{need.part} of plan {plan.name!r} needs counters since {rfc3339(start)} until {LATE_DAYS} days after "
                    f"{rfc3339(end)}, and there is {began}: assign it with now=True from then on, or with "
                    "timezone='UTC', whose days are kept for longer"
                )


def _ranks(timezone: str) -> Sequence[int]:
    """The layers that the periods of a zone are made of: days alone, or half-hours, too."""
    return (2,) if not any(offset % DAY for offset in _offsets(timezone)) else (1, 2)


def _needs(plan: Plan) -> Iterator[_Need]:
    kinds: Mapping[By, CounterKind] = {"org": "series", "key": "key"}
    for quota in plan.quotas:
        yield _Need(f"Quota {quota.name!r}", kinds[quota.by], quota.per)
    for price in plan.prices:
        # Its total, and the share of each key.
        yield _Need(f"Price {price.name!r}", "series", "month")
        yield _Need(f"Price {price.name!r}", "key", "month")


@lru_cache(maxsize=1024)
def _offsets(name: str) -> frozenset[int]:
    """The offsets from UTC that a zone has had lately or will have, seconds."""
    tz = zone(name)
    times = (datetime(year, month, 1, tzinfo=UTC) for year in _YEARS_CHECKED for month in range(1, 13))
    found = (time.astimezone(tz).utcoffset() for time in times)
    return frozenset(int(offset.total_seconds()) for offset in found if offset is not None)
