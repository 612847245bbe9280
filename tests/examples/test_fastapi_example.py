"""The FastAPI example behind a real uvicorn: what was called is what its customers see."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from examples.demo import traffic
from examples.fastapi_app import receiver
from examples.fastapi_app.app import FREE, LIVE_KEYS, PRO, REVOKED_KEYS, seed
from tests.serving import Serving, counted, request, serving_example
from tests.support import ServerProcess, eventually
from usage_middleware import Usage, Webhook

STOREFRONT, STAGING, OLD_APP, MAPS = "acme-live-storefront", "acme-test-staging", "acme-live-old-app", "globex-live-maps"
#: One server serves all tests of this module.
NAMESPACE = f"t{secrets.token_hex(6)}"


def as_key(key: str, project: str | None = None, **options: Any) -> dict[str, Any]:
    return {"headers": {"X-API-Key": key} | ({"X-Project": project} if project else {}), **options}


CALLS: list[tuple[int, tuple[str, str, dict[str, Any]]]] = [
    (6, ("GET", "/v1/geocode?q=lis", as_key(STOREFRONT, "checkout"))),
    (3, ("GET", "/v1/places/ams", as_key(STOREFRONT, "store-finder"))),
    (2, ("GET", "/v1/places/eldorado", as_key(STAGING))),
    (1, ("GET", "/v1/geocode", as_key(STAGING))),
    (2, ("POST", "/v1/geocode/batch", as_key(STAGING, json={"queries": ["osaka", "atlantis", "lis"]}))),
    (1, ("GET", "/v1/distance/ams/rek", as_key(STOREFRONT, "checkout"))),
    (2, ("GET", "/v1/places/ams", as_key(OLD_APP))),
    (4, ("GET", "/v1/geocode?q=ams", as_key(MAPS))),
    (3, ("GET", "/", {})),
    (2, ("GET", "/wp-login.php", {})),
]
OF_ACME = 17


@pytest.fixture(scope="module")
def running(server: ServerProcess) -> Iterator[Serving]:
    usage = Usage(server.url, namespace=NAMESPACE, counters=("records", "matches"), plans=(FREE, PRO), default_plan="free")
    seed(usage)
    usage.close()
    with serving_example("uvicorn", (), server.url, NAMESPACE) as example:
        example.call_all([call for count, call in CALLS for _ in range(count)])
        with server.client() as client:
            eventually(lambda: example.is_counted(client, NAMESPACE, "acme", "globex", "default"))
            assert counted(client, NAMESPACE, "acme") == OF_ACME
        yield example


def test_views_show_a_customer_what_it_called(running: Serving) -> None:
    assert sorted(running.statuses) == [200] * 18 + [401] * 2 + [404] * 4 + [422, 503]
    check_summary(running.view("/usage/summary", STOREFRONT))
    check_by_key(running.view("/usage/by-key", STAGING))
    check_by_project(running.view("/usage/by-group?group=project", STOREFRONT))
    assert running.view("/usage/summary", MAPS)["total_calls"] == 4
    revoked = running.view("/usage/by-key?include_revoked=true", STOREFRONT)["keys"]
    assert ("key_old_app", 2) in [(row["key_id"], row["request_count"]) for row in revoked]


def check_summary(summary: dict[str, Any]) -> None:
    assert summary["org_id"] == "acme"
    assert (summary["total_calls"], summary["successful_calls"]) == (OF_ACME, 11)
    assert {row["endpoint"]: (row["calls"], row["successful"]) for row in summary["by_endpoint"]} == {
        "GET /v1/geocode": (7, 6),
        "GET /v1/places/{place_id}": (7, 3),
        "POST /v1/geocode/batch": (2, 2),
        "GET /v1/distance/{start}/{finish}": (1, 0),
    }
    assert {row["project_name"]: row["calls"] for row in summary["by_project"]} == {
        "checkout": 7,
        "store-finder": 3,
        "default": 7,
    }
    assert {row["status_class"]: row["calls"] for row in summary["by_status_class"]} == {200: 11, 400: 5, 500: 1}


def check_by_key(by_key: dict[str, Any]) -> None:
    rows = {row["key_id"]: (row["name"], row["request_count"], row["error_count"]) for row in by_key["keys"]}
    assert by_key["total_keys"] == 4
    assert rows["key_storefront"] == ("Storefront", 10, 1)
    assert rows["key_staging"] == ("Staging", 5, 3)
    assert rows["key_partner"] == ("Partner", 0, 0)


def check_by_project(by_group: dict[str, Any]) -> None:
    assert by_group["totals"]["calls"] == OF_ACME
    assert [(row["bucket"], row["calls"]) for row in by_group["buckets"]] == [
        ("checkout", 7),
        ("default", 7),
        ("store-finder", 3),
    ]


def test_counters_are_in_redis(running: Serving, server: ServerProcess) -> None:
    with server.client() as client:
        (series,) = client.keys(f"{NAMESPACE}:{{acme}}:series:1d:????-??")
        fields = {name.decode().split(" ", 1)[1]: int(number) for name, number in client.hgetall(series).items()}
    assert (fields["c.records"], fields["c.matches"]) == (6 + 2 * 3, 6 + 2 * 2)


@pytest.mark.parametrize("key", [None, OLD_APP, "a key nobody knows"])
def test_usage_is_for_active_keys_only(running: Serving, key: str | None) -> None:
    answer = request("GET", running.port, "/usage/summary", headers={"X-API-Key": key} if key else {})
    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers


def test_demo_calls_with_keys_that_the_example_has() -> None:
    assert {call.key for _, call in traffic.MIX if call.key} <= LIVE_KEYS.keys() | REVOKED_KEYS.keys()


def test_each_customer_has_a_plan(running: Serving) -> None:
    acme, globex = (running.view("/usage/limits", key) for key in (STOREFRONT, MAPS))
    assert (acme["plan"], globex["plan"]) == ("pro", "free")
    quota = next(row for row in globex["limits"] if row["kind"] == "quota")
    assert (quota["used"], quota["remaining"], globex["over_quota"]) == (4, 6, False)


def test_the_receiver_believes_what_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
    monkeypatch.setenv("USAGE_WEBHOOK_SECRET", secret)
    body, now = b'{"type": "usage.threshold_reached"}', int(time.time())
    signature = Webhook("https://hooks.example/usage", secret).signature("evt_1", now, body)
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(now), "webhook-signature": signature}
    client = TestClient(receiver.app)
    assert client.post("/hooks/usage", content=body, headers=headers).status_code == 204
    assert receiver.alerts == {"evt_1": {"type": "usage.threshold_reached"}}
    assert client.post("/hooks/usage", content=body + b" ", headers=headers).status_code == 401
    assert client.post("/hooks/usage", content=body, headers={**headers, "webhook-timestamp": "1"}).status_code == 400
