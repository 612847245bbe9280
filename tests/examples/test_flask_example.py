"""The Flask example behind a real gunicorn: what was called is what its customers see."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from examples.flask_app.app import seed
from tests.serving import Serving, counted, serving_example
from tests.support import ServerProcess, eventually
from usage_middleware import Usage

CRM, TEST, SEARCH, SCRAPER = "initech-live-crm", "initech-test-crm", "hooli-live-search", "hooli-live-scraper"
#: One server serves all tests of this module.
NAMESPACE = f"t{secrets.token_hex(6)}"


def as_key(key: str, project: str | None = None, **options: Any) -> dict[str, Any]:
    return {"headers": {"X-API-Key": key} | ({"X-Project": project} if project else {}), **options}


CALLS: list[tuple[int, tuple[str, str, dict[str, Any]]]] = [
    (5, ("GET", "/v1/companies/example.com", as_key(CRM, "leads"))),
    (2, ("GET", "/v1/companies/example.edu", as_key(CRM, "leads"))),
    (3, ("POST", "/v1/enrich", as_key(TEST, json={"domains": ["example.com", "example.edu"]}))),
    (1, ("GET", "/v1/export.csv", as_key(CRM))),
    (1, ("GET", "/v1/nothing", as_key(CRM))),
    (4, ("GET", "/v1/companies/example.net", as_key(SEARCH))),
    (2, ("GET", "/v1/companies/example.net", as_key(SCRAPER))),
    (2, ("GET", "/", {})),
]
OF_INITECH = 12


@pytest.fixture(scope="module")
def running(server: ServerProcess) -> Iterator[Serving]:
    usage = Usage(server.url, namespace=NAMESPACE)
    seed(usage)
    usage.close()
    with serving_example("gunicorn", (), server.url, NAMESPACE) as example:
        example.call_all([call for count, call in CALLS for _ in range(count)])
        with server.client() as client:
            eventually(lambda: example.is_counted(client, NAMESPACE, "initech", "hooli", "default"))
            assert counted(client, NAMESPACE, "initech") == OF_INITECH
        yield example


def test_views_show_a_customer_what_it_called(running: Serving) -> None:
    assert sorted(running.statuses) == [200] * 15 + [401] * 2 + [404] * 3
    check_summary(running.view("/usage/summary", CRM))
    check_by_key(running.view("/usage/by-key", CRM))
    assert running.view("/usage/by-group?group=project", CRM)["totals"]["calls"] == OF_INITECH
    assert running.view("/usage/summary", SEARCH)["total_calls"] == 6


def check_summary(summary: dict[str, Any]) -> None:
    assert (summary["org_id"], summary["total_calls"], summary["successful_calls"]) == ("initech", OF_INITECH, 9)
    assert {row["endpoint"]: (row["calls"], row["successful"]) for row in summary["by_endpoint"]} == {
        "GET /v1/companies/{domain}": (7, 5),
        "POST /v1/enrich": (3, 3),
        "GET /v1/export.csv": (1, 1),
        "GET (unmatched)": (1, 0),
    }
    assert {row["project_name"]: row["calls"] for row in summary["by_project"]} == {"leads": 7, "default": 5}


def check_by_key(by_key: dict[str, Any]) -> None:
    rows = {row["key_id"]: (row["name"], row["request_count"], row["error_count"]) for row in by_key["keys"]}
    assert rows == {
        "key_crm": ("CRM sync", 9, 3),
        "key_crm_test": ("CRM sync, test", 3, 0),
        "key_spare": ("Spare, not in use yet", 0, 0),
    }


def test_counters_are_in_redis(running: Serving, server: ServerProcess) -> None:
    with server.client() as client:
        (series,) = client.keys(f"{NAMESPACE}:{{initech}}:series:1d:????-??")
        fields = {name.decode().split(" ", 1)[1]: int(number) for name, number in client.hgetall(series).items()}
    assert (fields["c.records"], fields["c.matches"]) == (6, 3)


def test_a_chargeback_adds_up(running: Serving) -> None:
    bill = running.view("/usage/cost?by=label:team", CRM)
    assert (bill["plan"], bill["currency"], bill["total"], bill["state"]) == ("standard", "EUR", "10.00", "open")
    amounts = {row["value"]: Decimal(row["amount"]) for row in bill["rows"]}
    assert set(amounts) <= {"sales", "it", "(unallocated)"}
    assert sum(amounts.values()) == Decimal("10.00")
