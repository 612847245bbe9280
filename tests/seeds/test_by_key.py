"""Every field and order that `by-key-edgedns.txt` documents, and what api.md adds to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.seeds.traffic import NOW, Traffic, column
from tests.support import Clock
from usage_middleware import KeyInfo
from usage_middleware.report import by_key
from usage_middleware.store.members import ANONYMOUS

if TYPE_CHECKING:
    from usage_middleware import Usage

DOCUMENTED = {
    "key_id",
    "name",
    "environment",
    "request_count",
    "endpoint_distribution",
    "error_count",
    "last_activity",
}


@pytest.fixture
def traffic(make_usage: Callable[..., Usage], clock: Clock) -> Traffic:
    usage = make_usage()
    keys = {"k_web": "Web", "k_app": "App", "k_ci": "CI", "k_idle": "Idle"}
    for key_id, name in keys.items():
        environment = "test" if key_id == "k_ci" else "live"
        usage.keys.put("acme", KeyInfo(id=key_id, name=name, environment=environment), secret=f"sk_{key_id}")
    usage.keys.put("acme", KeyInfo(id="k_old", name="Old"), secret="sk_old")
    usage.keys.revoke("acme", "k_old")
    usage.keys.put("globex", KeyInfo(id="k_theirs", name="Theirs"), secret="sk_globex")
    traffic = Traffic(usage, clock)
    traffic.calls("2026-11-18T10:00:00Z", "GET /dns", 4, key="k_web")
    traffic.calls("2026-11-19T10:00:00Z", "GET /whois", 2, key="k_web", status=404)
    traffic.calls("2026-11-19T11:00:00.250Z", "GET /dns", 2, key="k_app")
    traffic.calls("2026-11-19T12:00:00Z", "GET /dns", 2, key="k_ci", status=500)
    traffic.calls("2026-11-19T13:00:00Z", "GET /dns", 9, key="k_old")
    traffic.calls("2026-11-19T13:00:00Z", "GET /dns", 50, org="globex", key="k_theirs")
    traffic.reach()
    return traffic


def keys(traffic: Traffic, query: str = "") -> list[dict[str, Any]]:
    reply = traffic.api("sk_k_web").get(f"/by-key?{query}")
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json["keys"]
    return found


def test_the_documents_own_request(traffic: Traffic) -> None:
    found = traffic.api(None).get("/by-key", authorization="Bearer sk_k_web").json
    assert all(set(row) >= DOCUMENTED for row in found["keys"])
    assert found["keys"][0] == {
        "key_id": "k_web",
        "name": "Web",
        "environment": "live",
        "request_count": 6,
        "endpoint_distribution": {"GET /dns": 4, "GET /whois": 2},
        "error_count": 2,
        "last_activity": "2026-11-19T10:00:00Z",
        "revoked_at": None,
        "created_at": NOW,
        "owner": None,
        "labels": {},
        "cost": None,
        "share": None,
    }
    assert found["total_keys"] == 4


def test_keys_are_ordered_by_requests_then_name(traffic: Traffic) -> None:
    assert column(keys(traffic), "key_id", "request_count") == [("k_web", 6), ("k_app", 2), ("k_ci", 2), ("k_idle", 0)]


def test_keys_without_a_request_are_there(traffic: Traffic) -> None:
    idle = keys(traffic)[-1]
    assert (idle["name"], idle["request_count"], idle["error_count"]) == ("Idle", 0, 0)
    assert idle["endpoint_distribution"] == {}
    assert idle["last_activity"] is None


def test_environments(traffic: Traffic) -> None:
    assert dict(column(keys(traffic), "key_id", "environment"))["k_ci"] == "test"
    assert column(keys(traffic, "environment=test"), "key_id") == ["k_ci"]
    assert column(keys(traffic, "environment=staging"), "key_id") == []
    assert traffic.api("sk_k_web").get("/by-key?environment=test").json["total_keys"] == 4


def test_revoked_keys_are_listed_on_demand_and_never_counted(traffic: Traffic) -> None:
    assert "k_old" not in column(keys(traffic), "key_id")
    found = traffic.api("sk_k_web").get("/by-key?include_revoked=true").json
    assert column(found["keys"], "key_id", "request_count")[0] == ("k_old", 9)
    assert found["keys"][0]["revoked_at"] is not None
    assert found["total_keys"] == 4


def test_what_is_not_listed_reconciles(traffic: Traffic) -> None:
    found = traffic.api("sk_k_web").get("/by-key").json
    listed = sum(column(found["keys"], "request_count"))
    assert found["totals"] == {"request_count": 19, "error_count": 4}
    assert found["other"]["request_count"] == 19 - listed == 9


def test_keys_that_nobody_knows_have_no_name(traffic: Traffic) -> None:
    traffic.calls("2026-11-20T10:00:00Z", times=7, key="k_gone")
    traffic.calls("2026-11-20T10:00:00Z", times=1, key=ANONYMOUS, status=401)
    traffic.reach()
    found = {row["key_id"]: row for row in keys(traffic)}
    assert (found["k_gone"]["name"], found["k_gone"]["request_count"]) == (None, 7)
    assert found[ANONYMOUS]["error_count"] == 1
    assert traffic.api("sk_k_web").get("/by-key?limit=1").json["total_keys"] == 4


def test_last_activity_is_ever(traffic: Traffic) -> None:
    row = next(row for row in keys(traffic, "period=24h") if row["key_id"] == "k_app")
    assert row["request_count"] == 0
    assert row["last_activity"] == "2026-11-19T11:00:00.250Z"


@pytest.mark.parametrize(("period", "requests"), [("24h", 0), ("7d", 6), ("30d", 6), ("90d", 6)])
def test_periods(traffic: Traffic, period: str, requests: int) -> None:
    assert {row["key_id"]: row["request_count"] for row in keys(traffic, f"period={period}")}["k_web"] == requests


def test_custom_windows(traffic: Traffic) -> None:
    found = traffic.api("sk_k_web").get("/by-key?start=2026-11-18&end=2026-11-19").json
    assert found["window"]["label"] == "custom"
    assert dict(column(found["keys"], "key_id", "request_count"))["k_web"] == 4


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("sort_by=name", ["k_app", "k_ci", "k_idle", "k_web"]),
        ("sort_by=name&sort_order=asc", ["k_app", "k_ci", "k_idle", "k_web"]),
        ("sort_by=error_count", ["k_ci", "k_web", "k_app", "k_idle"]),
        ("sort_by=last_activity", ["k_ci", "k_app", "k_web", "k_idle"]),
        ("sort_by=request_count&sort_order=asc", ["k_idle", "k_app", "k_ci", "k_web"]),
    ],
)
def test_sorting(traffic: Traffic, query: str, order: list[str]) -> None:
    found = column(keys(traffic, query), "key_id")
    assert found == (order[::-1] if query == "sort_by=name" else order)


def test_pages(traffic: Traffic) -> None:
    found = traffic.api("sk_k_web").get("/by-key?limit=2&offset=1").json
    assert column(found["keys"], "key_id") == ["k_app", "k_ci"]
    assert found["pagination"] == {"total": 4, "limit": 2, "offset": 1, "has_more": True}
    assert found["other"]["request_count"] == 19 - 4
    assert found["totals"]["request_count"] == 19
    assert found["total_keys"] == 4
    assert traffic.api("sk_k_web").get("/by-key").json["pagination"] is None


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("period=1h", 400, "invalid_period"),
        ("limit=0", 422, "invalid_parameter"),
        ("limit=1001", 422, "invalid_parameter"),
        ("sort_by=requests", 422, "invalid_parameter"),
        ("key_id=k_web", 422, "unknown_parameter"),
    ],
)
def test_errors(traffic: Traffic, query: str, status: int, code: str) -> None:
    reply = traffic.api("sk_k_web").get(f"/by-key?{query}")
    assert (reply.status, reply.code) == (status, code)


def test_too_many_keys_are_to_be_paged(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic.calls("2026-11-20T10:00:00Z", key=ANONYMOUS)
    traffic.reach()
    api = traffic.api("sk_k_web", cache_seconds=0)
    listed = column(api.get("/by-key").json["keys"], "key_id")
    assert ANONYMOUS in listed
    monkeypatch.setattr(by_key, "UNPAGED", len(listed) - 1)  # what is no key does not count
    assert column(api.get("/by-key").json["keys"], "key_id") == listed
    monkeypatch.setattr(by_key, "UNPAGED", len(listed) - 2)
    reply = api.get("/by-key")
    assert (reply.status, reply.code) == (422, "window_too_wide")
    assert "limit=" in reply.json["message"]
    assert len(api.get("/by-key?limit=1000").json["keys"]) == len(listed)


def test_csv_is_the_keys(traffic: Traffic) -> None:
    lines = traffic.api("sk_k_web").get("/by-key?format=csv").body.split(b"\r\n")
    assert lines[0] == b"key_id,name,environment,request_count,error_count,last_activity,owner,cost,currency"
    assert lines[1] == b"k_web,Web,live,6,2,2026-11-19T10:00:00Z,,,"
    assert len(lines) == 6


def test_a_revoked_key_is_401(traffic: Traffic) -> None:
    assert traffic.api("sk_old").get("/by-key").status == 401
