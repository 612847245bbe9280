"""Plans whose running periods have begun before history did: those that can't be measured to their end are refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from tests.seeds.traffic import Traffic, at
from tests.support import Clock
from usage_middleware import Plan, Price, Quota, Usage
from usage_middleware.errors import ConfigurationError

PLANS = (
    Plan("month", Quota("calls", 100), prices=[Price("calls", unit="1")], currency="EUR"),
    Plan("year", Quota("calls", 100, per="year")),
    Plan("own-year", Quota("own", 100, per="year", by="key")),
)
OPTIONS: dict[str, Any] = {"plans": PLANS, "flush_interval": 3600}


@pytest.fixture
def updated(make_usage: Callable[..., Usage], clock: Clock) -> Usage:
    """Calls from before 20 November were counted without history."""
    old = make_usage(**OPTIONS, history=False)
    Traffic(old, clock).calls("2026-11-19T10:00:00Z", times=3)
    old.close()
    clock.set(at("2026-11-20T10:00:00Z"))
    new = make_usage(**OPTIONS)
    Traffic(new, clock).calls("2026-11-20T10:00:00Z", times=4)
    return new


@pytest.mark.parametrize("plan", ["year", "own-year"])
def test_a_year_in_another_zone_needs_half_hours_of_before(updated: Usage, clock: Clock, plan: str) -> None:
    with pytest.raises(ConfigurationError, match="no history of what was counted before 2026-11-21T00:00:00Z: assign"):
        updated.plans.assign("acme", plan, timezone="Europe/Berlin")
    assert updated.plans.get("acme") is None
    updated.plans.assign("acme", plan)
    clock.set(at("2026-11-21T10:00:00Z"))
    updated.plans.assign("acme", plan, timezone="Europe/Berlin", now=True)
    clock.advance(10)
    period = updated.reader.limits(org="acme").period
    assert period is not None
    assert period.start == "2026-11-21T10:00:00Z"


def test_months_are_kept_for_long_enough(updated: Usage, clock: Clock) -> None:
    updated.plans.assign("acme", "month", timezone="Europe/Berlin", anchor=date(2026, 1, 31))
    clock.advance(10)
    assert [row.used for row in updated.reader.limits(org="acme").limits] == [7]


def test_where_nothing_was_counted_before_nothing_is_missing(make_usage: Callable[..., Usage], clock: Clock) -> None:
    usage = make_usage(**OPTIONS)
    usage.plans.assign("acme", "year", timezone="Europe/Berlin")
    Traffic(usage, clock).calls("2026-11-20T10:00:00Z", times=4)
    usage.plans.assign("acme", "own-year")


def test_where_somebody_counts_without_history_there_is_none(make_usage: Callable[..., Usage], clock: Clock) -> None:
    old = make_usage(**OPTIONS, history=False)
    Traffic(old, clock).calls("2026-11-19T10:00:00Z", times=3)
    with pytest.raises(ConfigurationError, match="there is no history yet"):
        make_usage(**OPTIONS).plans.assign("acme", "year", timezone="Europe/Berlin")
