"""Plans as customers see them: `/limits`, `over_quota`, `rate_limits`; the number shown is the number in by-key."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest

from tests.seeds.traffic import Traffic, at
from tests.support import Clock, examples
from usage_middleware import Assigned, KeyInfo, Limit, Plan, Price, Quota, Usage, Viewer
from usage_middleware.errors import ConfigurationError, QueryError, UsageUnavailable
from usage_middleware.report.limit_rows import Meter, Meters
from usage_middleware.web import KeyAuth, usage_app

FREE = Plan("free", Limit("requests", 60), Quota("calls", 100))
PRO = Plan(
    "pro",
    Limit("requests", 5, by="key"),
    Quota("records", 1_000, of="records"),
    Quota("own", 10, by="key", per="day"),
    prices=(Price("records", of="records", unit="0.01"),),
    currency="EUR",
)
STRICT = Plan("strict", Quota("own", 3, by="key"))
OPTIONS: dict[str, Any] = {"plans": (FREE, PRO, STRICT), "counters": ("records",), "flush_interval": 3600}


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    return make_usage(**OPTIONS, default_plan="free")


@pytest.fixture
def traffic(usage: Usage, clock: Clock) -> Traffic:
    found = Traffic(usage, clock)
    usage.keys.put("acme", KeyInfo("key_1", "Search"), secret="sk_acme")
    found.reach()
    return found


def rows(usage: Usage, viewer: Viewer | None = None, **asked: Any) -> dict[tuple[str, str | None], Any]:
    report = usage.reader.limits(viewer or Viewer.organization("acme"), **asked)
    return {(row.name, row.key_id): row for row in report.limits}


def test_a_quota_is_what_by_key_shows(usage: Usage, traffic: Traffic) -> None:
    traffic.calls("2026-10-31T23:59:59Z", times=7)
    traffic.calls("2026-11-01T00:00:00Z", times=30)
    traffic.calls("2026-11-20T13:45:10Z", times=40, status=500, key="key_2")
    traffic.reach()
    report = usage.reader.limits(org="acme")
    quota = next(row for row in report.limits if row.kind == "quota")
    shown = usage.reader.by_key(org="acme", start=datetime(2026, 11, 1, tzinfo=UTC)).totals.request_count
    assert quota.used == shown == 70
    assert (quota.limit, quota.remaining, quota.over, quota.used_ratio) == (100, 30, False, 0.7)
    assert (quota.period_start, quota.period_end) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert quota.reset == at("2026-12-01T00:00:00Z")
    assert (report.plan, report.over_quota, report.org_id) == ("free", False, "acme")


def test_a_projection_is_made_of_whole_days(usage: Usage, traffic: Traffic) -> None:
    for day in range(13, 20):
        traffic.calls(f"2026-11-{day}T10:00:00Z", times=2)
    traffic.calls("2026-11-20T12:00:00Z", times=1)
    traffic.reach("2026-11-20T12:00:00Z")
    found = rows(usage)["calls", None].projected
    assert (found.value, found.low, found.high) == (15 + 21, 15 + 21, 15 + 21)


def test_over_quota_whatever_the_range(usage: Usage, traffic: Traffic) -> None:
    traffic.calls("2026-11-02T00:00:00Z", times=101)
    traffic.reach()
    found = usage.reader.by_group(org="acme", range="1h")
    assert (found.totals.calls, found.over_quota) == (0, True)
    assert found.quota is not None
    assert (found.quota.name, found.quota.included, found.quota.used, found.quota.remaining) == ("calls", 100, 101, 0)
    other = usage.reader.by_group(org="globex")
    assert (other.over_quota, other.quota and other.quota.used) == (False, 0)
    everybody = usage.reader.by_group()
    assert (everybody.over_quota, everybody.quota) == (False, None)


def test_a_rate_is_told_by_the_minute(usage: Usage, traffic: Traffic) -> None:
    traffic.calls("2026-11-20T10:00:30Z", times=75)
    traffic.calls("2026-11-20T11:00:30Z", times=61)
    traffic.calls("2026-11-20T11:30:30Z", times=4, status=429)
    traffic.calls("2026-11-20T13:45:10Z", times=12)
    traffic.reach()
    row = rows(usage)["requests", None]
    assert (row.kind, row.limit, row.used, row.remaining, row.over) == ("rate", 60, 12, 48, False)
    assert (row.peak, row.peak_at, row.peak_since) == (75, "2026-11-20T10:00:00Z", "2026-11-18T13:45:00Z")
    assert (row.refused, row.would_refuse) == (4, 15 + 1)
    assert (row.period_start, row.reset) == ("2026-11-20T13:45:00Z", at("2026-11-20T13:46:00Z"))


def test_keys_are_listed_by_how_close_they_come(usage: Usage, traffic: Traffic) -> None:
    usage.plans.assign("acme", "pro")
    usage.plans.assign("acme", "strict", key="key_3")
    traffic.calls("2026-11-20T13:00:00Z", times=9)
    traffic.calls("2026-11-20T13:00:00Z", times=2, key="key_2", records=500)
    traffic.calls("2026-11-20T13:00:00Z", times=3, key="key_3")
    traffic.reach()
    found = rows(usage)
    assert list(found) == [("records", None), ("own", "key_3"), ("own", "key_1"), ("own", "key_2")]
    assert (found["own", "key_3"].limit, found["own", "key_3"].used, found["own", "key_3"].over) == (3, 3, False)
    assert found["records", None].used == 1_000
    assert list(rows(usage, key_id="key_2")) == [("requests", "key_2"), ("own", "key_2")]


MANY = Plan(
    "many",
    Quota("own", 100, by="key"),
    Quota("good", 60, by="key", billable="successful"),
    Quota("kept", 50, of="records", by="key"),
    Quota("day", 20, by="key", per="day"),
)


@pytest.mark.parametrize("seed", range(examples(3)))
def test_of_many_keys_those_are_listed_that_come_closest(make_usage: Callable[..., Usage], clock: Clock, seed: int) -> None:
    """By the day, boards tell what keys used at most: a period of New York begins in the midst of one."""
    chance = random.Random(seed)
    usage = make_usage(plans=(MANY, STRICT), counters=("records",), flush_interval=3600)
    usage.plans.assign("acme", "many", timezone="America/New_York", from_=date(2026, 11, 1))
    usage.plans.assign("acme", "strict", key="key_7")
    used: dict[tuple[str, str], int] = {}
    rows = []
    for number in range(150):
        key, calls = f"key_{chance.randrange(40)}", chance.randrange(1, 25)
        when = at("2026-11-01T00:00:00Z") + chance.randrange(19 * 86_400)
        status, records = chance.choice((200, 200, 404, 500)), chance.randrange(20)
        rows.append(
            {
                "org": "acme", "id": str(number), "key": key, "endpoint": "GET /a", "status": status, "calls": calls,
                "at": datetime.fromtimestamp(when, UTC), "counts": {"records": records},
            }
        )  # fmt: skip
        is_in, is_today = when >= at("2026-11-01T04:00:00Z"), when >= at("2026-11-20T05:00:00Z")
        counted = {"own": calls, "good": calls * (status == 200), "kept": records, "day": calls * is_today}
        for name, much in counted.items():
            used[name, key] = used.get((name, key), 0) + much * is_in
    usage.backfill(rows)
    clock.advance(10)
    limits = {"own": 100, "good": 60, "kept": 50, "day": 20}
    ratios = {(name, key): much / limits[name] for (name, key), much in used.items() if much and key != "key_7"}
    if used.get(("own", "key_7")):
        ratios["own", "key_7"] = used["own", "key_7"] / 3
    expected = sorted(ratios, key=lambda one: (-ratios[one], one[1], one[0]))[:20]
    found = [(row.name, row.key_id) for row in usage.reader.limits(org="acme").limits]
    assert found == expected


def test_of_keys_that_have_used_as_much_few_are_measured(
    make_usage: Callable[..., Usage], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = make_usage(plans=(MANY,), default_plan="many", counters=("records",), flush_interval=3600)
    row = {"org": "acme", "endpoint": "GET /a", "status": 404, "calls": 2, "at": datetime.fromtimestamp(clock(), UTC)}
    usage.backfill({**row, "id": f"{number}", "key": f"key_{number:03}"} for number in range(300))
    clock.advance(10)
    measured, rows_of = list[Any](), Meters.rows

    def noted(self: Meters, meters: Sequence[Meter]) -> Any:
        measured.extend(meters)
        return rows_of(self, meters)

    monkeypatch.setattr(Meters, "rows", noted)
    found = [(row.name, row.key_id) for row in usage.reader.limits(org="acme").limits]
    assert found == [("day", f"key_{number:03}") for number in range(20)]
    assert len(measured) <= 60


def test_a_key_viewer_sees_its_own_alone(usage: Usage, traffic: Traffic) -> None:
    usage.plans.assign("acme", "pro")
    traffic.calls("2026-11-20T13:00:00Z", times=11, records=100)
    traffic.calls("2026-11-20T13:00:00Z", times=2, key="key_2")
    traffic.reach()
    for key, over in (("key_1", True), ("key_2", False)):
        viewer = Viewer.key("acme", key)
        assert list(rows(usage, viewer)) == [("requests", key), ("own", key)]
        assert usage.reader.limits(viewer).over_quota is over
        group = usage.reader.by_group(viewer)
        assert (group.over_quota, group.quota and group.quota.name) == (over, "own")
    assert rows(usage, Viewer.key("acme", "key_1"), key_id="key_2") == {}
    # The organisation is over by its records: 1,100 of 1,000.
    assert usage.reader.by_group(Viewer.organization("acme")).over_quota
    assert usage.reader.limits(Viewer.organization("acme"), key_id="key_2").over_quota


def test_without_a_plan_nothing_changes(make_usage: Callable[..., Usage]) -> None:
    usage = make_usage(**OPTIONS)
    report = usage.reader.limits(org="acme")
    assert (report.plan, report.period, report.over_quota, report.limits) == (None, None, False, [])
    assert usage.reader.details(org="acme").rate_limits is None
    group = usage.reader.by_group(org="acme")
    assert (group.over_quota, group.quota) == (False, None)


@pytest.mark.parametrize("org", ["default", "(other)", ""])
def test_nobody_has_no_plan(usage: Usage, org: str) -> None:
    with pytest.raises(ConfigurationError, match="org must be the name of a customer"):
        usage.plans.assign(org, "pro")
    assert usage.reader.limits(org="default").plan is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"plan": "gold"}, "plan must be one of free, pro, strict, not 'gold'"),
        ({"plan": "pro", "overrides": {"calls": 1}}, "overrides has 'calls'; plan 'pro' has requests, records, own"),
        ({"plan": "pro", "overrides": {"own": -1}}, "must be a whole number"),
        ({"plan": "pro", "timezone": "Asia/Kathmandu"}, "slot_minutes=15"),
        ({"plan": "pro", "timezone": "Moon"}, "timezone must be the name of an IANA zone"),
        ({"plan": "pro", "anchor": "2026-01-15"}, "anchor must be a datetime.date"),
        ({"plan": "pro", "from_": datetime(2026, 1, 1)}, "has no time zone"),  # noqa: DTZ001
        ({"plan": "pro", "from_": 12}, "from_ must be an aware datetime or a date"),
        ({"plan": "free", "key": "key_1"}, "says nothing of a key"),
        ({"plan": "pro", "key": "key_1", "now": True}, "are of the organisation"),
        ({"plan": "pro", "key": ""}, "key must be the id of an API key"),
    ],
)
def test_what_cannot_be_assigned(usage: Usage, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        usage.plans.assign("acme", **arguments)


def test_plans_have_to_be_declared(make_usage: Callable[..., Usage]) -> None:
    with pytest.raises(ConfigurationError, match="there is no plan to assign"):
        make_usage().plans.assign("acme", "pro")


def test_what_was_assigned_is_seen_by_all_processes(
    make_usage: Callable[..., Usage], usage: Usage, clock: Clock, traffic: Traffic
) -> None:
    other = make_usage(**OPTIONS, default_plan="free")
    assert other.reader.limits(org="acme").plan == "free"
    usage.plans.assign("acme", "pro", anchor=date(2026, 1, 15), timezone="Europe/Berlin", overrides={"own": 7})
    assert usage.reader.limits(org="acme").plan == "pro"
    clock.advance(5)
    report = other.reader.limits(org="acme", key_id="key_1")
    assert [(row.name, row.limit) for row in report.limits] == [("requests", 5), ("own", 7)]
    assert report.period is not None
    assert (report.period.start, report.period.end) == ("2026-11-14T23:00:00Z", "2026-12-14T23:00:00Z")
    assert [change.assigned.plan for change in other.plans.history("acme")] == ["free", "pro"]
    assert other.plans.get("acme") == usage.plans.get("acme")


def test_a_period_ends_where_it_is_told_to(usage: Usage, traffic: Traffic) -> None:
    usage.plans.assign("acme", "free")
    traffic.calls("2026-11-20T13:00:00Z", times=9)
    traffic.calls("2026-11-20T13:31:00Z", times=2)
    traffic.reach()
    usage.plans.assign("acme", "free", now=True)
    row = rows(usage)["calls", None]
    assert (row.used, row.period_start, row.period_end) == (2, "2026-11-20T13:30:00Z", "2026-12-01T00:00:00Z")


def test_a_plan_taken_away(usage: Usage, traffic: Traffic) -> None:
    usage.plans.assign("acme", None)
    report = usage.reader.limits(org="acme")
    assert (report.plan, report.limits) == (None, [])


def test_an_application_that_knows_itself(make_usage: Callable[..., Usage], clock: Clock) -> None:
    asked: list[str] = []

    def plan_of(org: str) -> Assigned | None:
        asked.append(org)
        return {"acme": Assigned(plan="pro"), "broken": Assigned(plan="gold")}.get(org)

    usage = make_usage(**OPTIONS, default_plan="free", plan_of=plan_of)
    assert usage.reader.limits(org="acme").plan == usage.reader.limits(org="acme").plan == "pro"
    assert usage.reader.limits(org="globex").plan == "free"
    assert asked == ["acme", "globex"]
    clock.advance(60)
    assert usage.reader.limits(org="acme").plan == "pro"
    assert asked == ["acme", "globex", "acme"]
    with pytest.raises(UsageUnavailable, match="plan must be one of free"):
        usage.reader.limits(org="broken")
    with pytest.raises(ConfigurationError, match="plan_of says which plan who has"):
        usage.plans.assign("acme", "free")


def test_a_damaged_history_is_none(usage: Usage) -> None:
    usage.plans.assign("acme", "pro")
    usage.engine.client.hset(f"{usage.settings.namespace}:{{acme}}:plan", "org", "{")
    usage.plans._kept.clear()
    assert usage.reader.limits(org="acme").plan == "free"


def test_all_organisations_together_have_no_plan(usage: Usage) -> None:
    with pytest.raises(QueryError, match="say which with org="):
        usage.reader.limits()


def test_limits_over_http(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    api = traffic.api(limit="2/minute")
    traffic.calls("2026-11-20T13:45:10Z", times=5)
    traffic.reach()
    for _ in range(4):
        reply = api.get("/limits")
        assert reply.status == 200
        assert reply.headers["x-cache"] == "MISS"
        assert "x-ratelimit-limit" not in reply.headers
    assert {row["name"]: row["used"] for row in reply.json["limits"]} == {"requests": 5, "calls": 5}
    assert api.get("/by-group").json["over_quota"] is False
    assert [row["name"] for row in api.get("/").json["rate_limits"]] == ["requests", "calls"]
    table = api.get("/limits?format=csv").body.decode().splitlines()
    assert table[0].startswith("name,kind,scope,key_id,unit")
    assert len(table) == 3


def test_an_operator_says_whose_plan(usage: Usage, traffic: Traffic) -> None:
    api = traffic.api(auth=lambda _: Viewer.operator(), cache_seconds=0)
    for path in ("/limits", "/cost"):
        assert (api.get(path).status, api.get(path).code) == (400, "missing_org")
        assert api.get(f"{path}?org=acme").json["org_id"] == "acme"
    together = api.get("/by-group").json
    assert (together["over_quota"], together["quota"]) == (False, None)


def test_a_raised_quota_is_seen_within_seconds_though_answers_are_kept(
    make_usage: Callable[..., Usage], usage: Usage, traffic: Traffic, clock: Clock
) -> None:
    traffic.calls("2026-11-20T13:45:10Z", times=101)
    traffic.reach()
    api = traffic.api()
    assert api.get("/by-group").json["over_quota"] is True
    make_usage(**OPTIONS, default_plan="free").plans.assign("acme", "free", overrides={"calls": 200})
    assert api.get("/by-group").json["over_quota"] is True
    clock.advance(5)
    assert api.get("/by-group").json["over_quota"] is False


TIERS: Mapping[str, str | None] = {"free": "60/minute", "pro": "300/minute", "strict": None}


@pytest.mark.parametrize(("plan", "said"), [("free", "60"), ("pro", "300"), ("strict", None)])
def test_the_usage_api_is_limited_by_plan(usage: Usage, traffic: Traffic, plan: str, said: str | None) -> None:
    usage.plans.assign("acme", plan)
    reply = traffic.api(limit_by_plan=TIERS).get("/summary")
    assert (reply.status, reply.headers.get("x-ratelimit-limit")) == (200, said)


@pytest.mark.parametrize("wrong", [{"gold": "60/minute"}, {"free": "often"}, "60/minute"])
def test_limits_by_plan_are_checked(usage: Usage, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="limit"):
        usage_app(usage, auth=KeyAuth(usage.keys), limit_by_plan=wrong)


def test_the_wire_is_what_the_page_shows(usage: Usage) -> None:
    from usage_middleware.report.limit_rows import LimitRow
    from usage_middleware.report.limits import VIEW, Limits

    example = json.loads(VIEW.example)
    assert list(example) == list(Limits.__struct_fields__)
    assert list(example["limits"][0]) == list(LimitRow.__struct_fields__)


def test_an_operator_sees_which_organisations_are_over(traffic: Traffic) -> None:
    traffic.calls("2026-11-20T13:00:00Z", times=101)
    traffic.calls("2026-11-20T12:00:00Z", org="globex", key="key_9", times=3)
    traffic.reach()
    operator = traffic.api(None, auth=lambda _: Viewer.operator())
    rows = operator.get("/by-group?group=org").json["buckets"]
    assert [(row["bucket"], row["over_quota"], row["last_activity"]) for row in rows] == [
        ("acme", True, "2026-11-20T13:00:00Z"),
        ("globex", False, "2026-11-20T12:00:00Z"),
    ]
    assert "over_quota" not in operator.get("/by-group?group=org&org=acme").json["buckets"][0]
    assert "last_activity" not in operator.get("/by-group?group=endpoint").json["buckets"][0]
    assert "previous" not in rows[0]
    many = operator.get("/by-group?group=org&limit=51").json["buckets"]
    assert [row["over_quota"] for row in many] == [True, False]
