"""Every request, field, default, order, cap and error that `summary-enkrypt.txt` documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.seeds.traffic import NOW, Traffic, column
from tests.support import Clock
from usage_middleware import KeyInfo

if TYPE_CHECKING:
    from usage_middleware import Usage

DOCUMENTED = {
    "org_id",
    "window",
    "total_calls",
    "successful_calls",
    "by_endpoint",
    "top_endpoints",
    "by_project",
    "by_status_class",
    "by_day",
    "generated_at",
}


@pytest.fixture
def traffic(make_usage: Callable[..., Usage], clock: Clock) -> Traffic:
    usage = make_usage(dimensions=("project", "team"), untagged={"project": "default"})
    usage.keys.put("acme", KeyInfo(id="key_1", name="One"), secret="sk_acme")
    return Traffic(usage, clock)


def test_the_documents_own_request(make_usage: Callable[..., Usage], clock: Clock) -> None:
    org = "3c90c3cc-0d44-4b50-8888-8dd25736052a"
    names = {"GET /scans": "scans_list", "POST /scans": "scans_create", "GET /servers": "servers_list"}
    usage = make_usage(
        dimensions=("project",),
        untagged={"project": "default"},
        endpoint_label=lambda method, template: names[f"{method} {template}"],
    )
    usage.keys.put(org, KeyInfo(id="key_1", name="One"), secret="sk_acme")
    traffic = Traffic(usage, clock)
    for when, endpoint, times, status, project in (
        ("2026-06-19T10:00:00Z", "GET /scans", 4490, 200, "search"),
        ("2026-06-20T10:00:00Z", "GET /scans", 410, 200, "search"),
        ("2026-06-20T11:00:00Z", "GET /scans", 10, 404, "search"),
        ("2026-06-21T10:00:00Z", "GET /scans", 90, 500, "search"),
        ("2026-06-21T10:00:00Z", "POST /scans", 3955, 201, "search"),
        ("2026-06-21T10:00:00Z", "POST /scans", 190, 200, "search"),
        ("2026-06-21T10:00:00Z", "GET /servers", 2955, 200, "default"),
        ("2026-06-21T10:00:00Z", "GET /servers", 245, 429, "default"),
    ):
        traffic.calls(when, endpoint, times, org=org, status=status, project=project)
    traffic.reach("2026-06-30T05:31:56Z")
    found = traffic.api(None).get("/summary", apikey="sk_acme").json
    assert set(found) >= DOCUMENTED
    assert found["org_id"] == org
    assert found["window"]["end"] == "2026-06-30T05:31:56Z"
    assert found["window"]["label"] == "30d"
    assert (found["total_calls"], found["successful_calls"]) == (12345, 12000)
    assert found["by_endpoint"][0] == {"endpoint": "scans_list", "calls": 5000, "successful": 4900}
    assert found["top_endpoints"][0] == {"endpoint": "scans_list", "calls": 5000, "successful": 4900}
    assert {"project_name": "default", "calls": 3200} in found["by_project"]
    assert {"status_class": 200, "calls": 12000} in found["by_status_class"]
    assert {"day": "2026-06-20", "calls": 420, "successful": 410} in found["by_day"]
    assert found["generated_at"] == "2026-06-30T05:31:56Z"


@pytest.mark.parametrize(("period", "first_day"), [("7d", "2026-11-13"), ("30d", "2026-10-21"), ("90d", "2026-08-22")])
def test_periods_end_now(traffic: Traffic, period: str, first_day: str) -> None:
    traffic.reach()
    found = traffic.api().get(f"/summary?period={period}").json
    assert (found["window"]["end"], found["window"]["label"]) == (NOW, period)
    assert found["by_day"][0]["day"] == first_day
    assert found["by_day"][-1]["day"] == "2026-11-20"


def test_24h(traffic: Traffic) -> None:
    traffic.calls("2026-11-19T13:29:59Z", times=100)
    traffic.calls("2026-11-19T13:30:00Z", times=3)
    traffic.calls("2026-11-20T00:00:00Z", times=2)
    traffic.reach()
    found = traffic.api().get("/summary?period=24h").json
    assert found["window"]["start"] == "2026-11-19T13:30:00Z"
    assert found["total_calls"] == 5
    assert column(found["by_day"], "day", "calls") == [("2026-11-19", 3), ("2026-11-20", 2)]


def test_the_default_is_30d(traffic: Traffic) -> None:
    traffic.calls("2026-10-20T23:59:59Z", times=100)
    traffic.calls("2026-10-21T00:00:00Z", times=3)
    traffic.reach()
    found = traffic.api().get("/summary").json
    assert found["window"]["label"] == "30d"
    assert found["total_calls"] == 3


def test_endpoints_are_ordered_by_calls_then_name(traffic: Traffic) -> None:
    for number, times in enumerate((2, 5, 2, 9, 1, 2, 7)):
        traffic.calls("2026-11-18T10:00:00Z", f"GET /v1/{number}", times)
    traffic.calls("2026-11-18T10:00:00Z", "GET /v1/3", 4, status=404)
    traffic.reach()
    found = traffic.api().get("/summary").json
    assert column(found["by_endpoint"], "endpoint", "calls", "successful") == [
        ("GET /v1/3", 13, 9),
        ("GET /v1/6", 7, 7),
        ("GET /v1/1", 5, 5),
        ("GET /v1/0", 2, 2),
        ("GET /v1/2", 2, 2),
        ("GET /v1/5", 2, 2),
        ("GET /v1/4", 1, 1),
    ]
    assert found["top_endpoints"] == found["by_endpoint"][:5]


def test_successful_is_2xx_alone(traffic: Traffic) -> None:
    for status in (200, 204, 301, 304, 404, 429, 500):
        traffic.calls("2026-11-18T10:00:00Z", status=status)
    traffic.reach()
    found = traffic.api().get("/summary").json
    assert (found["total_calls"], found["successful_calls"]) == (7, 2)
    assert column(found["by_status_class"], "status_class", "calls") == [(200, 2), (300, 2), (400, 2), (500, 1)]


def test_only_classes_that_were_seen_are_listed(traffic: Traffic) -> None:
    traffic.calls("2026-11-18T10:00:00Z", status=503)
    traffic.reach()
    assert traffic.api().get("/summary").json["by_status_class"] == [{"status_class": 500, "calls": 1}]


def test_projects_and_other_dimensions(traffic: Traffic) -> None:
    traffic.calls("2026-11-18T10:00:00Z", times=2, project="search", team="b")
    traffic.calls("2026-11-18T10:00:00Z", times=2, project="billing", team="a")
    traffic.calls("2026-11-18T10:00:00Z", times=3)
    traffic.reach()
    found = traffic.api().get("/summary").json
    assert column(found["by_project"], "project_name", "calls") == [("default", 3), ("billing", 2), ("search", 2)]
    assert column(found["by_team"], "team_name", "calls") == [("(none)", 3), ("a", 2), ("b", 2)]


def test_projects_are_there_if_none_are_declared(make_usage: Callable[..., Usage], clock: Clock) -> None:
    traffic = Traffic(make_usage(), clock)
    traffic.usage.keys.put("acme", KeyInfo(id="key_1", name="One"), secret="sk_acme")
    assert traffic.api().get("/summary").json["by_project"] == []


def test_days_are_utc_ascending_and_filled_with_zeros(traffic: Traffic) -> None:
    traffic.calls("2026-11-14T23:59:59.999Z", times=2)
    traffic.calls("2026-11-15T00:00:00Z", times=3, status=500)
    traffic.reach()
    days = traffic.api().get("/summary?period=7d").json["by_day"]
    assert column(days, "day", "calls", "successful") == [
        ("2026-11-13", 0, 0),
        ("2026-11-14", 2, 2),
        ("2026-11-15", 3, 0),
        ("2026-11-16", 0, 0),
        ("2026-11-17", 0, 0),
        ("2026-11-18", 0, 0),
        ("2026-11-19", 0, 0),
        ("2026-11-20", 0, 0),
    ]


def test_start_overrides_the_period_and_end_defaults_to_now(traffic: Traffic) -> None:
    traffic.calls("2026-11-01T12:00:00Z", times=3)
    traffic.calls("2026-11-18T12:00:00Z", times=2)
    traffic.reach()
    window = traffic.api().get("/summary?period=7d&start=2026-11-01T00:00:00Z").json
    assert window["total_calls"] == 5
    assert window["window"]["start"] == "2026-11-01T00:00:00Z"
    assert (window["window"]["end"], window["window"]["label"]) == (NOW, "custom")


def test_end_alone_is_the_period_that_ends_there(traffic: Traffic) -> None:
    traffic.calls("2026-11-01T12:00:00Z", times=3)
    traffic.calls("2026-11-18T12:00:00Z", times=2)
    traffic.reach()
    found = traffic.api().get("/summary?period=7d&end=2026-11-05T00:00:00Z").json
    assert found["total_calls"] == 3
    assert found["window"]["start"] == "2026-10-29T00:00:00Z"
    assert (found["window"]["end"], found["window"]["label"]) == ("2026-11-05T00:00:00Z", "custom")


def test_end_is_exclusive(traffic: Traffic) -> None:
    traffic.calls("2026-11-01T00:00:00Z", times=3)
    traffic.calls("2026-11-02T00:00:00Z", times=2)
    traffic.reach()
    assert traffic.api().get("/summary?start=2026-11-01&end=2026-11-02").json["total_calls"] == 3


def test_a_custom_window_is_capped_at_90_days(traffic: Traffic) -> None:
    traffic.calls("2026-06-01T12:00:00Z", times=100)
    traffic.calls("2026-11-01T12:00:00Z", times=3)
    traffic.reach()
    found = traffic.api().get("/summary?start=2026-01-01T00:00:00Z&end=2026-11-10T00:00:00Z").json
    assert (found["window"]["start"], found["window"]["end"]) == ("2026-08-12T00:00:00Z", "2026-11-10T00:00:00Z")
    assert len(found["by_day"]) == 90
    assert found["total_calls"] == 3


def test_offsets_are_understood(traffic: Traffic) -> None:
    traffic.reach()
    for start in ("2026-11-01T05:30:00%2B05:30", "2026-11-01T05:30:00+05:30", "2026-10-31T19:00:00-05:00"):
        assert traffic.api().get(f"/summary?start={start}").json["window"]["start"] == "2026-11-01T00:00:00Z"


def test_no_usage(traffic: Traffic) -> None:
    traffic.reach()
    found = traffic.api().get("/summary").json
    assert (found["total_calls"], found["successful_calls"]) == (0, 0)
    for name in ("by_endpoint", "top_endpoints", "by_project", "by_status_class"):
        assert found[name] == []
    assert {row["calls"] for row in found["by_day"]} == {0}


def test_only_aggregates_of_the_calling_organization(traffic: Traffic) -> None:
    traffic.calls("2026-11-18T10:00:00Z", times=3, key="key_1")
    traffic.calls("2026-11-18T10:00:00Z", times=2, key="key_2")
    traffic.calls("2026-11-18T10:00:00Z", times=100, org="globex")
    traffic.reach()
    reply = traffic.api().get("/summary")
    assert reply.json["total_calls"] == 5
    assert b"key_" not in reply.body


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("period=1h", 400, "invalid_period"),
        ("period=90", 400, "invalid_period"),
        ("start=2026-11-10&end=2026-11-10", 400, "invalid_window"),
        ("start=2026-11-10&end=2026-11-09", 400, "invalid_window"),
        ("start=2026-11-21", 400, "invalid_window"),
        ("start=soon", 400, "invalid_window"),
        ("start=2026-11-10T00:00:00", 400, "invalid_window"),
        ("end=2001-01-01", 400, "not_retained"),
        ("periode=7d", 422, "unknown_parameter"),
        ("org=globex", 404, "not_found"),
    ],
)
def test_errors(traffic: Traffic, query: str, status: int, code: str) -> None:
    traffic.reach()
    reply = traffic.api().get(f"/summary?{query}")
    assert (reply.status, reply.code) == (status, code)


def test_the_apikey_is_required(traffic: Traffic) -> None:
    assert traffic.api(None).get("/summary").status == 401
    assert traffic.api(None).get("/summary", apikey="sk_nobody").status == 401


def test_csv_is_by_day(traffic: Traffic) -> None:
    traffic.calls("2026-11-19T10:00:00Z", times=3)
    traffic.reach()
    body = traffic.api().get("/summary?start=2026-11-18&end=2026-11-20&format=csv").body
    assert body == b"day,calls,successful\r\n2026-11-18,0,0\r\n2026-11-19,3,3\r\n"
