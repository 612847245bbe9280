"""Every request, default, note and troubleshooting answer that `details-get-usage.txt` documents."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.seeds.traffic import NOW, Traffic, column
from tests.support import Clock
from usage_middleware import KeyInfo

if TYPE_CHECKING:
    from usage_middleware import Usage

DOCUMENTED = {
    "success",
    "usage",
    "time_series",
    "endpoints",
    "errors",
    "rate_limits",
    "alerts",
    "recommendations",
    "pagination",
    "timestamp",
}
TIMEFRAMES = ["1h", "24h", "7d", "30d", "90d", "1y", "all"]


@pytest.fixture
def traffic(make_usage: Callable[..., Usage], clock: Clock) -> Traffic:
    usage = make_usage()
    for key_id in ("key_1", "key_2", "key_3"):
        usage.keys.put("acme", KeyInfo(id=key_id, name=key_id), secret=f"sk_{key_id}")
    return Traffic(usage, clock)


@pytest.fixture
def busy(traffic: Traffic) -> Traffic:
    """Four endpoints that differ in what they are first in."""
    traffic.calls("2026-11-20T10:10:00Z", "GET /often", 6, ms=10, sent=10)
    traffic.calls("2026-11-20T10:50:00Z", "GET /often", 2, ms=30, sent=10, status=404, key="key_2")
    traffic.calls("2026-11-20T11:20:00Z", "GET /broken", 4, ms=5, sent=0, status=500)
    traffic.calls("2026-11-20T12:00:00Z", "GET /slow", 2, ms=900, sent=1000)
    traffic.calls("2026-11-20T13:40:00.500Z", "GET /late", 1, ms=1, sent=1, key="key_2")
    traffic.reach()
    return traffic


def usage(traffic: Traffic, query: str = "") -> dict[str, Any]:
    reply = traffic.api("sk_key_1").get(f"/?{query}")
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json
    assert found["success"] is True
    return found


def test_the_response_as_documented(busy: Traffic) -> None:
    found = usage(busy)
    assert set(found) >= DOCUMENTED
    total = found["usage"]
    assert (total["requests"], total["successful"], total["errors"]) == (15, 9, 6)
    assert total["error_rate"] == 6 / 15
    assert total["bytes"] == 2081
    assert total["key_id"] is None
    assert total["latency_ms"]["avg"] == round((60 + 60 + 20 + 1800 + 1) / 15, 3)
    assert found["rate_limits"] is None
    assert found["alerts"] == found["recommendations"] == []
    assert found["timestamp"] == NOW


def test_defaults(busy: Traffic) -> None:
    spelled_out = (
        "timeframe=24h&granularity=hour&include_endpoints=true&include_errors=true&include_latency=true"
        "&sort_by=requests&sort_order=desc&limit=100&offset=0"
    )
    assert usage(busy) == usage(busy, spelled_out)
    assert usage(busy)["pagination"] == {"total": 4, "limit": 100, "offset": 0, "has_more": False}
    assert usage(busy)["usage"]["granularity"] == "hour"
    assert usage(busy)["usage"]["window"]["label"] == "24h"


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_timeframes(traffic: Traffic, timeframe: str) -> None:
    """Which of calls of ever greater age are seen."""
    ages = {"1h": 0.5, "24h": 12, "7d": 24 * 6, "30d": 24 * 29, "90d": 24 * 89, "1y": 24 * 364, "all": 24 * 390}
    now = datetime.fromisoformat(NOW)
    for hours in sorted(ages.values(), reverse=True):
        traffic.calls((now - timedelta(hours=hours)).isoformat())
    traffic.reach()
    found = usage(traffic, f"timeframe={timeframe}")
    assert found["usage"]["requests"] == TIMEFRAMES.index(timeframe) + 1
    assert found["usage"]["window"]["label"] == timeframe
    assert found["usage"]["window"]["end"] == NOW
    assert sum(column(found["time_series"], "requests")) == found["usage"]["requests"]


def test_all_time_of_one_key_is_no_less_than_a_year(traffic: Traffic) -> None:
    for when in ("2025-11-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-11-20T13:00:00Z"):
        traffic.calls(when)
    traffic.reach()
    found = {timeframe: usage(traffic, f"key_id=key_1&timeframe={timeframe}") for timeframe in TIMEFRAMES}
    assert [found[timeframe]["usage"]["requests"] for timeframe in TIMEFRAMES] == [1, 1, 1, 1, 1, 2, 3]
    for timeframe in TIMEFRAMES:
        assert sum(row["requests"] for row in found[timeframe]["endpoints"]) == found[timeframe]["usage"]["requests"]


@pytest.mark.parametrize(
    ("query", "stamps"),
    [
        ("timeframe=1h&granularity=minute", ("2026-11-20T12:45:00Z", "2026-11-20T12:46:00Z", 61)),
        ("timeframe=24h&granularity=hour", ("2026-11-19T13:00:00Z", "2026-11-19T14:00:00Z", 25)),
        ("timeframe=7d&granularity=day", ("2026-11-13T00:00:00Z", "2026-11-14T00:00:00Z", 8)),
        ("timeframe=30d&granularity=week", ("2026-10-19T00:00:00Z", "2026-10-26T00:00:00Z", 5)),
        ("timeframe=90d&granularity=month", ("2026-08-01T00:00:00Z", "2026-09-01T00:00:00Z", 4)),
    ],
)
def test_granularities(traffic: Traffic, query: str, stamps: tuple[str, str, int]) -> None:
    traffic.calls("2026-11-20T13:45:10Z", times=2)
    traffic.reach()
    found = usage(traffic, query)
    line = column(found["time_series"], "timestamp")
    assert (line[0], line[1], len(line)) == stamps
    assert line == sorted(line)
    assert found["time_series"][-1]["requests"] == 2
    assert found["usage"]["granularity"] in query


def test_points_of_the_time_series(busy: Traffic) -> None:
    line = {point["timestamp"]: point for point in usage(busy)["time_series"]}
    assert line["2026-11-20T10:00:00Z"] == {
        "timestamp": "2026-11-20T10:00:00Z",
        "requests": 8,
        "successful": 6,
        "errors": 2,
        "bytes": 80,
        "avg_latency_ms": 15.0,
    }
    assert line["2026-11-20T09:00:00Z"]["requests"] == 0


def test_days_in_a_zone(traffic: Traffic) -> None:
    traffic.calls("2026-11-19T18:29:59Z", times=3)
    traffic.calls("2026-11-19T18:30:00Z", times=2)
    traffic.reach()
    line = usage(traffic, "timeframe=7d&granularity=day&timezone=Asia/Kolkata")["time_series"]
    assert column(line[-2:], "timestamp", "requests") == [
        ("2026-11-19T00:00:00+05:30", 3),
        ("2026-11-20T00:00:00+05:30", 2),
    ]


@pytest.mark.parametrize(("part", "name"), [("include_endpoints", "endpoints"), ("include_errors", "errors")])
def test_parts_that_are_not_asked_for_are_null(busy: Traffic, part: str, name: str) -> None:
    assert usage(busy, f"{part}=false")[name] is None
    assert usage(busy, f"{part}=true")[name]


def test_without_latency(busy: Traffic) -> None:
    found = usage(busy, "include_latency=false")
    assert found["usage"]["latency_ms"] is None
    assert {row["latency_ms"] for row in found["endpoints"]} == {None}
    assert usage(busy, "include_endpoints=false&include_errors=false&include_latency=false")["usage"]["requests"] == 15


def test_endpoints(busy: Traffic) -> None:
    rows = {row["endpoint"]: row for row in usage(busy)["endpoints"]}
    often = rows["GET /often"]
    assert (often["requests"], often["successful"], often["errors"], often["error_rate"]) == (8, 6, 2, 0.25)
    assert often["latency_ms"]["avg"] == 15.0
    assert often["latency_ms"]["p50"] == pytest.approx(10, rel=0.05)
    assert often["latency_ms"]["p99"] == pytest.approx(30, rel=0.05)
    assert often["last_requested_at"] == "2026-11-20T10:50:00Z"
    assert rows["GET /late"]["last_requested_at"] == "2026-11-20T13:40:00.500Z"


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("", ["/often", "/broken", "/slow", "/late"]),
        ("sort_by=requests", ["/often", "/broken", "/slow", "/late"]),
        ("sort_by=errors", ["/broken", "/often", "/late", "/slow"]),
        ("sort_by=latency", ["/slow", "/often", "/broken", "/late"]),
        ("sort_by=timestamp", ["/late", "/slow", "/broken", "/often"]),
        ("sort_by=requests&sort_order=asc", ["/late", "/slow", "/broken", "/often"]),
        ("sort_by=latency&sort_order=asc", ["/late", "/broken", "/often", "/slow"]),
    ],
)
def test_sorting(busy: Traffic, query: str, order: list[str]) -> None:
    assert column(usage(busy, query)["endpoints"], "endpoint") == [f"GET {path}" for path in order]


def test_pages(busy: Traffic) -> None:
    first, second = usage(busy, "limit=3"), usage(busy, "limit=3&offset=3")
    assert first["pagination"] == {"total": 4, "limit": 3, "offset": 0, "has_more": True}
    assert second["pagination"] == {"total": 4, "limit": 3, "offset": 3, "has_more": False}
    assert column(first["endpoints"] + second["endpoints"], "endpoint") == column(usage(busy)["endpoints"], "endpoint")
    assert first["usage"] == second["usage"]
    assert usage(busy, "offset=1000")["endpoints"] == []


def test_error_statistics(busy: Traffic) -> None:
    assert usage(busy)["errors"] == {
        "total": 6,
        "rate": 0.4,
        "by_status": [{"status": 404, "count": 2}, {"status": 500, "count": 4}],
        "by_class": [{"status_class": 400, "count": 2}, {"status_class": 500, "count": 4}],
    }


def test_one_key(busy: Traffic) -> None:
    found = usage(busy, "key_id=key_2")
    assert found["usage"]["key_id"] == "key_2"
    assert (found["usage"]["requests"], found["usage"]["errors"]) == (3, 2)
    assert column(found["endpoints"], "endpoint", "requests") == [("GET /often", 2), ("GET /late", 1)]
    assert sum(column(found["time_series"], "requests")) == 3
    assert found["errors"]["by_status"] == [{"status": 404, "count": 2}]
    assert found["endpoints"][0]["latency_ms"]["p50"] is None


@pytest.mark.parametrize("key_id", ["key_3", "key_of_nobody", "", "%00", "(other)", "x" * 1000])
def test_no_usage_is_a_success_with_zeros(busy: Traffic, key_id: str) -> None:
    found = usage(busy, f"key_id={key_id}")
    assert (found["usage"]["requests"], found["usage"]["errors"], found["usage"]["error_rate"]) == (0, 0, 0)
    assert found["endpoints"] == []
    assert set(column(found["time_series"], "requests")) == {0}
    assert found["errors"]["total"] == 0


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("timeframe=2d", 400, "invalid_timeframe"),
        ("timeframe=1H", 400, "invalid_timeframe"),
        ("granularity=year", 400, "invalid_granularity"),
        ("granularity=Hour", 400, "invalid_granularity"),
        ("timezone=Mars/Phobos", 400, "invalid_timezone"),
        ("sort_by=calls", 422, "invalid_parameter"),
        ("sort_order=down", 422, "invalid_parameter"),
        ("limit=0", 422, "invalid_parameter"),
        ("limit=1001", 422, "invalid_parameter"),
        ("offset=-1", 422, "invalid_parameter"),
        ("include_errors=2", 422, "invalid_parameter"),
        ("keyid=key_1", 422, "unknown_parameter"),
        ("start=2026-11-20T00:00:00Z&end=2026-11-19T00:00:00Z", 400, "invalid_window"),
        ("start=2001-01-01", 400, "not_retained"),
        ("start=2026-11-01&end=9000-01-01&granularity=minute", 422, "window_too_wide"),
    ],
)
def test_errors(traffic: Traffic, query: str, status: int, code: str) -> None:
    traffic.reach()
    reply = traffic.api("sk_key_1").get(f"/?{query}")
    assert (reply.status, reply.code) == (status, code), reply.body
    assert reply.json["success"] is False


def test_messages_name_what_is_supported(traffic: Traffic) -> None:
    api = traffic.api("sk_key_1")
    assert api.get("/?timeframe=2d").json["message"].startswith(f"timeframe must be one of {', '.join(TIMEFRAMES)}, ")
    assert api.get("/?granularity=no").json["message"] == "granularity must be one of minute, hour, day, week, month"


def test_a_granularity_that_is_not_kept_names_the_finest_that_is(traffic: Traffic) -> None:
    traffic.reach()
    for query in ("start=2026-11-17", "timeframe=7d", "timeframe=1y&include_endpoints=false"):
        reply = traffic.api("sk_key_1").get(f"/?{query}&granularity=minute")
        assert (reply.status, reply.code) == (400, "invalid_granularity"), query
        assert "finest that is kept is hour" in reply.json["message"] or "1y" in query


@pytest.mark.parametrize("granularity", [None, "hour", "day", "week", "minute"])
def test_a_zone_that_the_slots_cannot_represent_is_refused_whatever_the_granularity(
    traffic: Traffic, granularity: str | None
) -> None:
    traffic.reach()
    asked = "" if granularity is None else f"&granularity={granularity}"
    reply = traffic.api("sk_key_1").get(f"/?timeframe=7d&timezone=Asia/Kathmandu{asked}")
    assert (reply.status, reply.code) == (400, "unsupported_timezone")
    assert "slot_minutes=15" in reply.json["message"]


def test_buckets_that_the_window_cuts_hold_only_what_is_inside(traffic: Traffic) -> None:
    traffic.calls("2026-11-20T10:10:00Z", times=5)
    traffic.calls("2026-11-20T10:40:00Z", times=3)
    traffic.reach()
    found = usage(traffic, "start=2026-11-20T10:30:00Z&end=2026-11-20T12:00:00Z")
    assert found["usage"]["requests"] == 3
    assert column(found["time_series"], "timestamp", "requests") == [("2026-11-20T10:00:00Z", 3), ("2026-11-20T11:00:00Z", 0)]


def test_csv(busy: Traffic) -> None:
    api = busy.api("sk_key_1")
    series = api.get("/?format=csv&start=2026-11-20T10:00:00Z&end=2026-11-20T12:00:00Z").body.split(b"\r\n")
    assert series[0] == b"timestamp,requests,successful,errors,bytes,avg_latency_ms"
    assert series[1] == b"2026-11-20T10:00:00Z,8,6,2,80,15.0"
    endpoints = api.get("/?format=csv&table=endpoints&limit=1").body.split(b"\r\n")
    assert endpoints[0].startswith(b"endpoint,requests,successful,errors,error_rate")
    assert endpoints[1].startswith(b"GET /often,8,6,2,0.25")
    assert len(endpoints) == 3


def test_pages_are_stable_within_the_cache_while_traffic_flows(busy: Traffic) -> None:
    api = busy.api("sk_key_1")
    before = api.get("/?limit=2").json
    busy.calls("2026-11-20T13:45:21Z", "GET /late", 50)
    assert api.get("/?limit=2").json == before
