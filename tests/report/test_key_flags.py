"""What by-key tells of keys beside their calls: what they cost, who answers for them, and what is odd about them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from tests.seeds.traffic import Traffic, at
from tests.support import Clock
from usage_middleware import KeyInfo, Plan, Price, Usage, Viewer

PRO = Plan("pro", prices=(Price("calls", unit="0.10"),), currency="EUR")


@pytest.fixture
def usage(make_usage: Callable[..., Usage], clock: Clock) -> Usage:
    found = make_usage(dimensions=("environment",), plans=(PRO,), flush_interval=3600)
    clock.set(at("2026-06-01T00:00:00Z"))
    found.keys.put("acme", KeyInfo("key_1", "Search", owner="ada", labels={"team": "search"}), secret="sk_acme")
    found.keys.put("acme", KeyInfo("key_2", "Maps"))
    found.plans.assign("acme", "pro")
    return found


@pytest.fixture
def traffic(usage: Usage, clock: Clock) -> Traffic:
    return Traffic(usage, clock)


def keys(usage: Usage, **asked: Any) -> dict[str, Any]:
    report = usage.reader.by_key(org="acme", **asked)
    assert report.keys is not None
    return {row.key_id: row for row in report.keys}


def test_what_a_key_costs(usage: Usage, traffic: Traffic) -> None:
    traffic.calls("2026-10-05T00:00:00Z", times=30)
    traffic.calls("2026-10-05T00:00:00Z", times=10, key="key_2")
    traffic.calls("2026-11-05T00:00:00Z", times=7)
    traffic.reach()
    now, before = keys(usage, period="current"), keys(usage, period="previous")
    assert [(row.cost.amount, row.cost.currency, row.share) for row in now.values()] == [
        ("0.70", "EUR", 1.0),
        ("0.00", "EUR", 0.0),
    ]
    assert [(row.cost.amount, row.share, row.request_count) for row in before.values()] == [
        ("3.00", 0.75, 30),
        ("1.00", 0.25, 10),
    ]
    bill = usage.reader.cost(org="acme", period="previous")
    assert sum(Decimal(row.cost.amount) for row in before.values()) == Decimal(str(bill.total))
    assert keys(usage, start=date(2026, 10, 1), end=date(2026, 11, 1))["key_1"].cost == before["key_1"].cost
    window = usage.reader.by_key(org="acme", period="previous").window
    assert (window.label, window.start, window.end) == ("previous", "2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")


def test_a_window_that_is_no_period_has_no_cost(usage: Usage, traffic: Traffic) -> None:
    traffic.calls("2026-11-05T00:00:00Z", times=7)
    traffic.reach()
    report = usage.reader.by_key(org="acme")
    assert {row.cost for row in report.keys or ()} == {None}
    assert {name: one.code for name, one in report.unavailable.items()} == {
        "cost": "no_billing_period",
        "share": "no_billing_period",
    }


def test_a_key_viewer_sees_its_own_cost_and_no_share(usage: Usage, traffic: Traffic) -> None:
    traffic.calls("2026-11-05T00:00:00Z", times=7)
    traffic.calls("2026-11-05T00:00:00Z", times=7, key="key_2")
    traffic.reach()
    found = usage.reader.by_key(Viewer.key("acme", "key_1"), period="current").keys
    assert found is not None
    (row,) = found
    assert row.cost is not None
    assert (row.cost.amount, row.share) == ("0.70", None)


def test_who_answers_for_a_key(usage: Usage, traffic: Traffic) -> None:
    traffic.calls("2026-11-05T00:00:00Z", key="key_unknown")
    traffic.reach()
    found = keys(usage)
    assert (found["key_1"].owner, found["key_1"].labels, found["key_1"].created_at) == (
        "ada",
        {"team": "search"},
        "2026-06-01T00:00:00Z",
    )
    assert (found["key_unknown"].owner, found["key_unknown"].labels, found["key_unknown"].created_at) == (None, {}, None)


def test_flags(usage: Usage, traffic: Traffic) -> None:
    for day in (2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 16, 17, 18, 19):
        traffic.calls(f"2026-11-{day:02}T10:00:00Z", times=4, environment="live")
    traffic.calls("2026-11-20T10:00:00Z", times=110, environment="test")
    traffic.calls("2026-11-20T11:00:00Z", times=30, status=401, environment="live")
    traffic.calls("2026-09-01T10:00:00Z", key="key_3")
    traffic.calls("2026-11-20T10:00:00Z", key="key_3")
    traffic.reach()
    found = keys(usage, include_flags=True)
    assert [flag.code for flag in found["key_1"].flags] == ["error_burst", "spike", "unexpected_environment"]
    assert (found["key_1"].flags[1].value, found["key_1"].flags[1].baseline) == (140, 4)
    assert (found["key_1"].first_activity, found["key_1"].previous_activity) == ("2026-06-01T00:00:00Z", "2026-11-19")
    assert [flag.code for flag in found["key_2"].flags] == ["dormant"]
    assert (found["key_2"].first_activity, found["key_2"].previous_activity) == ("2026-06-01T00:00:00Z", None)
    assert [flag.code for flag in found["key_3"].flags] == ["reactivated"]
    assert (found["key_3"].first_activity, found["key_3"].previous_activity) == ("2026-09-01", "2026-09-01")


def test_flags_are_only_there_if_asked_for(usage: Usage, traffic: Traffic) -> None:
    traffic.calls("2026-11-20T10:00:00Z")
    traffic.reach()
    api = traffic.api()
    assert {"flags", "first_activity", "previous_activity"}.isdisjoint(api.get("/by-key").json["keys"][0])
    row = api.get("/by-key?include_flags=true&limit=1000").json["keys"][0]
    assert (row["flags"], row["previous_activity"]) == ([], None)
