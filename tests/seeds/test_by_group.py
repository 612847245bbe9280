"""Every request, field, default, cap, header and error that `by-group-triport.txt` documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.seeds.traffic import Traffic, column
from tests.support import Clock
from usage_middleware import KeyInfo, Viewer

if TYPE_CHECKING:
    from usage_middleware import Usage

CHAINS = ("ethereum", "solana", "base")


@pytest.fixture
def traffic(make_usage: Callable[..., Usage], clock: Clock) -> Traffic:
    usage = make_usage(dimensions=("method", "chain"))
    usage.keys.put("acme", KeyInfo(id="key_1", name="One"), secret="sk_acme")
    usage.keys.put("globex", KeyInfo(id="key_9", name="Nine"), secret="sk_globex")
    return Traffic(usage, clock)


def test_the_documents_own_request(traffic: Traffic) -> None:
    traffic.calls("2026-11-20T13:00:00Z", "POST /rpc", 3, method="eth_call", chain="ethereum", ms=10, sent=50)
    traffic.calls("2026-11-20T13:00:00Z", "POST /rpc", 1, method="eth_call", chain="base", ms=30, sent=50, status=500)
    traffic.calls("2026-11-20T13:00:00Z", "POST /rpc", 2, method="getSlot", chain="solana", ms=2.5, key="key_2")
    traffic.reach()
    found = traffic.api().get("/by-group?range=24h&group=method").json
    assert found["range"] == "24h"
    assert found["group"] == "method"
    assert found["totals"] == {"calls": 6, "errors": 1, "bytes": 400}
    assert found["buckets"] == [
        {"bucket": "eth_call", "calls": 4, "errors": 1, "avg_ms": 15.0},
        {"bucket": "getSlot", "calls": 2, "errors": 0, "avg_ms": 2.5},
    ]
    assert found["over_quota"] is False
    by_chain = traffic.api().get("/by-group?range=7d&group=chain").json
    assert (by_chain["range"], by_chain["group"]) == ("7d", "chain")
    assert column(by_chain["buckets"], "bucket", "calls", "errors", "avg_ms") == [
        ("ethereum", 3, 0, 10.0),
        ("solana", 2, 0, 2.5),
        ("base", 1, 1, 30.0),
    ]


def test_defaults_are_echoed(traffic: Traffic) -> None:
    found = traffic.api().get("/by-group").json
    assert (found["range"], found["group"]) == ("24h", "method")


@pytest.mark.parametrize(
    ("asked", "start"),
    [
        ("1h", "2026-11-20T12:45:00Z"),
        ("24h", "2026-11-19T13:30:00Z"),
        ("7d", "2026-11-13T00:00:00Z"),
        ("30d", "2026-10-21T00:00:00Z"),
    ],
)
def test_ranges(traffic: Traffic, asked: str, start: str) -> None:
    for when in ("2026-10-20T12:00:00Z", "2026-10-22T12:00:00Z", "2026-11-14T12:00:00Z", "2026-11-20T02:00:00Z"):
        traffic.calls(when, method="m", chain="c")
    traffic.calls("2026-11-20T12:44:59Z", method="m")
    traffic.calls("2026-11-20T12:45:00Z", method="m", times=2)
    traffic.reach()
    found = traffic.api().get(f"/by-group?range={asked}").json
    assert (found["range"], found["window"]["start"]) == (asked, start)
    assert found["totals"]["calls"] == {"1h": 2, "24h": 4, "7d": 5, "30d": 6}[asked]
    assert found["buckets"][0]["calls"] == found["totals"]["calls"]


def test_no_usage(traffic: Traffic) -> None:
    found = traffic.api().get("/by-group").json
    assert found["totals"] == {"calls": 0, "errors": 0, "bytes": 0}
    assert found["buckets"] == []
    assert found["over_quota"] is False


def test_the_top_20_and_totals_of_everything(traffic: Traffic) -> None:
    for number in range(25):
        traffic.calls("2026-11-20T13:00:00Z", times=30 - number, method=f"m{number:02}", ms=number)
    traffic.reach()
    found = traffic.api().get("/by-group").json
    assert column(found["buckets"], "bucket") == [f"m{number:02}" for number in range(20)]
    assert column(found["buckets"], "calls") == list(range(30, 10, -1))
    assert found["totals"]["calls"] == sum(range(6, 31))
    assert sum(column(found["buckets"], "calls")) < found["totals"]["calls"]
    hidden = range(20, 25)
    assert found["other"] == {
        "calls": sum(30 - number for number in hidden),
        "errors": 0,
        "avg_ms": round(sum(number * (30 - number) for number in hidden) / sum(30 - number for number in hidden), 3),
        "members": 5,
    }
    assert len(traffic.api().get("/by-group?limit=1000").json["buckets"]) == 25
    assert len(traffic.api().get("/by-group?limit=3").json["buckets"]) == 3


def test_ties_are_ordered_by_name(traffic: Traffic) -> None:
    for chain in CHAINS:
        traffic.calls("2026-11-20T13:00:00Z", chain=chain)
    traffic.reach()
    assert column(traffic.api().get("/by-group?group=chain").json["buckets"], "bucket") == sorted(CHAINS)


def test_it_aggregates_across_every_key_of_the_account(traffic: Traffic) -> None:
    traffic.calls("2026-11-20T13:00:00Z", key="key_1", method="m")
    traffic.calls("2026-11-20T13:00:00Z", key="key_2", method="m")
    traffic.calls("2026-11-20T13:00:00Z", key="(anonymous)", method="m")
    traffic.calls("2026-11-20T13:00:00Z", org="globex", key="key_9", method="theirs", times=50)
    traffic.reach()
    assert traffic.api().get("/by-group").json["totals"]["calls"] == 3
    by_key = traffic.api().get("/by-group?group=key").json
    assert column(by_key["buckets"], "bucket", "calls") == [("(anonymous)", 1), ("key_1", 1), ("key_2", 1)]


def test_other_groups(traffic: Traffic) -> None:
    traffic.calls("2026-11-20T13:00:00Z", "GET /a", times=2, method="m")
    traffic.calls("2026-11-20T13:00:00Z", "POST /a", status=404, method="m")
    traffic.reach()
    by_endpoint = traffic.api().get("/by-group?group=endpoint").json
    assert column(by_endpoint["buckets"], "bucket", "calls") == [("GET /a", 2), ("POST /a", 1)]
    by_status = traffic.api().get("/by-group?group=status").json
    assert column(by_status["buckets"], "bucket", "calls", "errors", "avg_ms") == [("200", 2, 0, None), ("404", 1, 1, None)]


def test_method_is_the_http_method_where_no_dimension_has_that_name(make_usage: Callable[..., Usage], clock: Clock) -> None:
    usage = make_usage()
    usage.keys.put("acme", KeyInfo(id="key_1", name="One"), secret="sk_acme")
    traffic = Traffic(usage, clock)
    traffic.calls("2026-11-20T13:00:00Z", "GET /a", times=2, ms=4)
    traffic.calls("2026-11-20T13:00:00Z", "GET /b", times=1, ms=10)
    traffic.calls("2026-11-20T13:00:00Z", "POST /a", status=500)
    traffic.reach()
    found = traffic.api().get("/by-group").json
    assert found["group"] == "method"
    assert column(found["buckets"], "bucket", "calls", "errors", "avg_ms") == [("GET", 3, 0, 6.0), ("POST", 1, 1, 8.0)]


def test_the_cache_is_keyed_on_account_range_and_group(traffic: Traffic) -> None:
    traffic.calls("2026-11-20T13:00:00Z", method="m")
    traffic.reach()
    api = traffic.api()
    first = api.get("/by-group")
    traffic.calls("2026-11-20T13:45:21Z", method="m")
    second = api.get("/by-group?range=24h&group=method")
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("MISS", "HIT")
    assert first.body == second.body
    for query in ("range=7d", "group=chain", "range=7d&group=chain"):
        assert api.get(f"/by-group?{query}").headers["x-cache"] == "MISS"
    assert api.with_key("sk_globex").get("/by-group").headers["x-cache"] == "MISS"


@pytest.mark.parametrize("asked", ["2h", "24H", "", "90d", "all", "1h,24h"])
def test_invalid_range(traffic: Traffic, asked: str) -> None:
    reply = traffic.api().get(f"/by-group?range={asked}")
    assert (reply.status, reply.code, reply.json["param"]) == (400, "invalid_range", "range")


@pytest.mark.parametrize("asked", ["", "project", "Method", "org", "latency", "method,chain"])
def test_invalid_group(traffic: Traffic, asked: str) -> None:
    reply = traffic.api().get(f"/by-group?group={asked}")
    assert (reply.status, reply.code, reply.json["param"]) == (400, "invalid_group", "group")


def test_a_session_may_stand_for_the_account(traffic: Traffic) -> None:
    def by_session(environ: dict[str, str]) -> Viewer | None:
        return Viewer.organization("acme") if environ.get("HTTP_COOKIE") == "session=s1" else None

    api = traffic.api(None, by_session)
    assert api.get("/by-group", cookie="session=s1").status == 200
    assert (api.get("/by-group").status, api.get("/by-group").code) == (401, "unauthenticated")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_any_method_but_get(traffic: Traffic, method: str) -> None:
    reply = traffic.api().call(method, "/by-group")
    assert (reply.status, reply.code) == (405, "method_not_allowed")


def test_csv_is_the_buckets(traffic: Traffic) -> None:
    traffic.calls("2026-11-20T13:00:00Z", method="=cmd()", ms=2.5)
    traffic.reach()
    assert traffic.api().get("/by-group?format=csv").body == b"bucket,calls,errors,avg_ms\r\n'=cmd(),1,0,2.5\r\n"
