"""What fires where a plan changes: another quota is another threshold, and a period that ends sooner is still the same one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from tests.alerts.bench import Bench, Told
from tests.seeds.traffic import Traffic, at
from tests.support import Clock
from usage_middleware import Plan, Quota, Usage

PLANS = (
    Plan("monthly", Quota("used", 100, alerts=(80,))),
    Plan("daily", Quota("used", 100, alerts=(80,), per="day")),
    Plan("good", Quota("used", 100, alerts=(80,), billable="successful")),
    Plan("records", Quota("used", 100, alerts=(80,), of="records")),
)
OPTIONS: dict[str, Any] = {"plans": PLANS, "counters": ("records",), "flush_interval": 3600}


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    return make_usage(**OPTIONS)


def look(bench: Bench, clock: Clock) -> None:
    """Once what was assigned is known, and once periods that have ended are due."""
    for _ in range(3):
        clock.advance(301)
        bench.look()


def test_another_quota_of_the_same_name_may_fire(usage: Usage, traffic: Traffic, told: Told, clock: Clock) -> None:
    """It begins with the same instant, and has the same name and amount."""
    bench = Bench(usage, [told], clock)
    clock.set(at("2026-12-01T10:00:00Z"))
    usage.plans.assign("acme", "monthly")
    traffic.calls("2026-12-01T10:00:00Z", times=90, records=1)
    seen = []
    for plan in ("monthly", "daily", "good", "records", "daily"):
        usage.plans.assign("acme", plan)
        look(bench, clock)
        seen.append([(one.data.period.end[:10], one.data.used) for one in told.events])
        told.events.clear()
    month, day = [("2027-01-01", 90)], [("2026-12-02", 90)]
    assert seen == [month, day, month, month, []]


@pytest.mark.parametrize("anchor", [date(2026, 1, 1), date(2026, 1, 15)])
def test_a_period_that_is_ended_fires_nothing_anew(
    usage: Usage, traffic: Traffic, told: Told, clock: Clock, anchor: date
) -> None:
    """Its end is then in another month."""
    bench = Bench(usage, [told], clock)
    usage.plans.assign("acme", "monthly", anchor=anchor)
    traffic.calls("2026-11-20T10:00:00Z", times=90)
    look(bench, clock)
    assert [one.data.threshold_percent for one in told.events] == [80]
    assert [one.value for one in usage.reader.details(org="acme").alerts] == [90]
    clock.set(at("2026-11-20T14:10:00Z"))
    usage.plans.assign("acme", "monthly", anchor=date(2026, 1, 20), now=True)
    look(bench, clock)
    assert len(told.events) == 1
    assert list(usage.reader.details(org="acme").alerts) == []
