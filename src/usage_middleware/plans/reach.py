"""Whether counters are kept for long enough, and finely enough, to measure a plan exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from usage_middleware.errors import ConfigurationError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import DAY, zone
from usage_middleware.plans.assignment import Assigned
from usage_middleware.plans.plan import By, Per, Plan

#: So many days after its end a period may still get calls that come late.
LATE_DAYS = 9
_LONGEST_DAYS: Mapping[Per, int] = {"day": 1, "week": 7, "month": 31, "year": 366}
_YEARS_CHECKED = range(2015, 2038)


class _Need(NamedTuple):
    """What a part of a plan is measured from, and for how many days."""

    part: str
    kind: CounterKind
    days: int


def check_reach(plan: Plan, assigned: Assigned, settings: Settings) -> None:
    """Check that all periods of a plan can be measured exactly, and `LATE_DAYS` longer.

    Raises:
        ConfigurationError: saying which option has to change.
    """
    offsets = _offsets(assigned.timezone)
    if any(offset % (settings.slot_minutes * 60) for offset in offsets):
        raise ConfigurationError(
            f"timezone {assigned.timezone!r} has days that {settings.slot_minutes}-minute slots can't tell apart; "
            "Usage(slot_minutes=15) can for zones of whole quarter-hours"
        )
    ranks = (2,) if not any(offset % DAY for offset in offsets) else (1, 2)
    for need in _needs(plan):
        for rank in ranks:
            if settings.kept(need.kind, rank) < need.days * DAY:
                layer = ("minute", "middle", "day")[rank]
                raise ConfigurationError(
                    f"{need.part} of plan {plan.name!r} needs counters that are kept for {need.days} days: set "
                    f'Usage(retention={{"{need.kind}": {{"{layer}": timedelta(days={need.days})}}}}), or more'
                )


def _needs(plan: Plan) -> Iterator[_Need]:
    kinds: Mapping[By, CounterKind] = {"org": "series", "key": "key"}
    for quota in plan.quotas:
        yield _Need(f"Quota {quota.name!r}", kinds[quota.by], _days(quota.per))
    for price in plan.prices:
        # Its total, and the share of each key.
        yield _Need(f"Price {price.name!r}", "series", _days("month"))
        yield _Need(f"Price {price.name!r}", "key", _days("month"))


def _days(per: Per) -> int:
    # A day more: the clock may change, and slots are as wide as a day.
    return _LONGEST_DAYS[per] + LATE_DAYS + 1


@lru_cache(maxsize=1024)
def _offsets(name: str) -> frozenset[int]:
    """The offsets from UTC that a zone has had lately or will have, seconds."""
    tz = zone(name)
    times = (datetime(year, month, 1, tzinfo=UTC) for year in _YEARS_CHECKED for month in range(1, 13))
    found = (time.astimezone(tz).utcoffset() for time in times)
    return frozenset(int(offset.total_seconds()) for offset in found if offset is not None)
