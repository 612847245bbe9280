"""What three documents promise of plans, played by their clients over HTTP: tiers, over quota, chargeback, odd keys, alerts."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.alerts.bench import Bench, Told
from tests.seeds.traffic import Traffic, at
from tests.support import Clock
from tests.web.hosts import Api
from usage_middleware import KeyInfo, Limit, Plan, Price, Quota, Usage

TIERS = {"free": "60/minute", "starter": "300/minute", "professional": "1000/minute", "enterprise": None}
PRICES = (Price("base", flat="10"), Price("calls", graduated=((100, "0"), (None, "0.013"))))
PLANS = (
    Plan("free", Limit("requests", 60), Quota("calls", 100)),
    Plan("starter", Quota("calls", 1_000, by="key")),
    Plan("professional", Quota("calls", 2_000), prices=PRICES, currency="EUR"),
    Plan("enterprise"),
)
KEYS = (
    KeyInfo("key_web", "Web shop", environment="live", labels={"team": "shop", "cost_centre": "4711"}),
    KeyInfo("key_batch", "Nightly batch", environment="live", labels={"team": "data", "cost_centre": "4712"}),
    KeyInfo("key_test", "Staging", environment="test", labels={"team": "shop", "cost_centre": "4711"}),
    KeyInfo("key_old", "Old app", environment="live", labels={"team": "data"}),
)


@pytest.fixture
def usage(make_usage: Callable[..., Usage], clock: Clock) -> Usage:
    found = make_usage(plans=PLANS, dimensions=("environment",), flush_interval=3600)
    clock.set(at("2026-06-01T00:00:00Z"))
    for key in KEYS:
        found.keys.put("acme", key, secret="sk_acme" if key.id == "key_web" else None)
    return found


@pytest.fixture
def traffic(usage: Usage, clock: Clock) -> Traffic:
    return Traffic(usage, clock)


def json(api: Api, path: str) -> Any:
    """An answer, as a client reads it."""
    reply = api.get(path)
    assert reply.status == 200, reply.body
    return reply.json


@pytest.mark.parametrize("plan", TIERS)
def test_the_four_tiers_of_the_details_document(usage: Usage, traffic: Traffic, plan: str) -> None:
    """Requests to the usage API itself. The limit refills while it is asked, and time is that of Redis."""
    usage.plans.assign("acme", plan)
    api = traffic.api(limit_by_plan=TIERS)
    said = TIERS[plan]
    if said is None:
        assert all(api.get("/").status == 200 for _ in range(320))
        assert "x-ratelimit-limit" not in api.get("/").headers
        return
    limit = int(said.partition("/")[0])
    began, taken = time.monotonic(), 0
    while (reply := api.get("/")).status == 200:
        taken += 1
        assert reply.headers["x-ratelimit-limit"] == str(limit)
    refilled = (time.monotonic() - began) * limit / 60
    assert limit <= taken <= limit + refilled + 1
    assert (reply.status, reply.json["code"], reply.json["success"]) == (429, "rate_limited", False)
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    # What is left is asked for free.
    assert json(api, "/limits")["plan"] == plan


def test_over_quota_of_the_by_group_document(usage: Usage, traffic: Traffic) -> None:
    """True when the account's calls exceed the allowance of its plan; false within it, and where no metered plan applies."""
    traffic.calls("2026-11-02T10:00:00Z", times=100)
    traffic.reach()
    api = traffic.api(cache_seconds=0)
    assert json(api, "/by-group")["over_quota"] is False
    usage.plans.assign("acme", "free")
    assert json(api, "/by-group?range=1h&group=endpoint")["over_quota"] is False
    traffic.calls("2026-11-20T13:45:00Z", key="key_batch")
    traffic.reach("2026-11-20T13:45:30Z")
    for range in ("1h", "24h", "7d", "30d"):
        found = json(api, f"/by-group?range={range}")
        assert (found["over_quota"], found["quota"]["used"], found["quota"]["included"]) == (True, 101, 100)
    usage.plans.assign("acme", "enterprise")
    assert json(api, "/by-group")["over_quota"] is False


def test_the_chargeback_of_the_by_key_document(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    """A monthly report for each team; key names tell which application drives a line."""
    clock.set(at("2026-10-01T00:00:00Z"))
    usage.plans.assign("acme", "professional")
    traffic.calls("2026-10-05T12:00:00Z", times=300, key="key_web")
    traffic.calls("2026-10-06T12:00:00Z", times=111, key="key_batch")
    traffic.calls("2026-10-06T13:00:00Z", times=20, key="key_test")
    traffic.calls("2026-10-07T13:00:00Z", times=2, key="key_nobody_knows")
    clock.set(at("2026-11-02T00:00:00Z"))
    api = traffic.api()
    total = json(api, "/cost?period=2026-10")["total"]
    assert Decimal(total) == 10 + round(Decimal("0.013") * 333, 2)
    for label in ("team", "cost_centre"):
        body = api.get(f"/cost?period=2026-10&by=label:{label}&format=csv").body.decode()
        rows = list(csv.DictReader(body.splitlines()))
        assert {row["value"]: row["quantity"] for row in rows} == {
            **({"shop": "320", "data": "111"} if label == "team" else {"4711": "320", "4712": "111"}),
            "(unallocated)": "2",
        }
        assert sum(Decimal(row["amount"]) for row in rows) == Decimal(total)
    keys = json(api, "/by-key?period=previous")["keys"]
    assert [(row["name"], row["request_count"]) for row in keys[:2]] == [("Web shop", 300), ("Nightly batch", 111)]
    assert sum(Decimal(row["cost"]["amount"]) for row in keys) == Decimal(total)
    assert sum(row["share"] for row in keys) == pytest.approx(1)


def test_the_security_monitoring_of_the_by_key_document(usage: Usage, traffic: Traffic) -> None:
    """A key that makes 100 calls a day makes 10,000; a test key in production; a dormant key is used; others sleep."""
    traffic.reach()
    for day in (*range(2, 7), *range(9, 14), *range(16, 20)):
        usage.backfill([_day(f"2026-11-{day:02}T10:00:00+00:00", 100)])
    usage.backfill([_day("2026-11-20T10:00:00+00:00", 10_000)])
    traffic.calls("2026-08-01T10:00:00Z", key="key_old", environment="live")
    traffic.calls("2026-11-20T11:00:00Z", key="key_old", environment="live")
    traffic.calls("2026-11-20T11:00:00Z", key="key_test", environment="live", times=3)
    traffic.reach()
    keys = {row["key_id"]: row for row in json(traffic.api(), "/by-key?include_flags=true")["keys"]}
    found = {name: {flag["code"]: (flag["value"], flag["baseline"]) for flag in row["flags"]} for name, row in keys.items()}
    assert found == {
        "key_web": {"spike": (10_000, 100)},
        "key_old": {"reactivated": (111, 30)},
        "key_test": {"unexpected_environment": (3, None)},
        "key_batch": {"dormant": (172, 30)},
    }
    assert (keys["key_old"]["previous_activity"], keys["key_batch"]["previous_activity"]) == ("2026-08-01", None)
    assert {flag["severity"] for row in keys.values() for flag in row["flags"]} == {"warning", "info"}


def _day(when: str, calls: int) -> dict[str, Any]:
    return {
        "org": "acme", "id": when, "key": "key_web", "endpoint": "GET /v1/items", "status": 200, "calls": calls, "at": when,
        "tags": {"environment": "live"},
    }  # fmt: skip


def test_rate_limits_alerts_and_recommendations_of_the_details_document(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    bench, api = Bench(usage, [Told()], clock), traffic.api(cache_seconds=0)
    assert json(api, "/")["rate_limits"] is None
    usage.plans.assign("acme", "free")
    traffic.calls("2026-11-20T13:45:10Z", times=70)
    traffic.calls("2026-11-20T13:45:11Z", times=20, status=404)
    traffic.reach()
    bench.look()
    found = json(api, "/")
    assert [(row["name"], row["limit"], row["used"], row["remaining"], row["over"]) for row in found["rate_limits"]] == [
        ("requests", 60, 90, 0, True),
        ("calls", 100, 90, 10, False),
    ]
    assert found["rate_limits"] == json(api, "/limits")["limits"]
    assert [(one["code"], one["severity"], one["value"], one["limit"]) for one in found["alerts"]] == [
        ("threshold_reached", "warning", 90, 100)
    ]
    assert [(one["code"], one["value"], one["limit"]) for one in found["recommendations"]] == [
        ("raise_limit", 30, 60),
        ("near_quota", 90, 100),
    ]
    for one in (*found["alerts"], *found["recommendations"]):
        assert {"id", "code", "severity", "key_id", "value", "limit", "baseline", "since", "message"} == one.keys()
        assert f"{one['value']:,}" in one["message"]
        assert f"{one['limit']:,}" in one["message"]
