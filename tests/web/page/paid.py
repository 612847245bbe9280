"""Customers with plans and prices, and calls of this billing period and the one before that a test counts itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from usage_middleware import KeyInfo, Limit, Plan, Price, Quota, Usage

FREE = Plan("free", Quota("calls", 100))
PRO = Plan(
    "pro",
    Limit("requests", 60),
    Quota("calls", 1_000),
    Quota("records", 5_000, of="records"),
    Quota("own", 720, by="key"),
    prices=(Price("base", flat="19.00"), Price("calls", unit="0.01", included=100)),
    currency="EUR",
)
OPTIONS: dict[str, Any] = {
    "namespace": "paid",
    "credentials": ("x-api-key",),
    "counters": ("records", "matches"),
    "rates": {"match_rate": ("matches", "records")},
    "plans": (FREE, PRO),
}


class Calls(NamedTuple):
    """Some calls of one key."""

    org: str
    key: str
    endpoint: str
    status: int
    calls: int
    records: int
    is_now: bool


CALLS = (
    Calls("acme", "key_1", "GET /v1/items", 200, 700, 4_600, True),
    Calls("acme", "key_2", "GET /v1/places", 200, 40, 0, True),
    Calls("acme", "key_2", "GET /v1/places", 404, 10, 0, True),
    Calls("acme", "key_1", "GET /v1/items", 200, 300, 100, False),
    Calls("acme", "key_2", "GET /v1/items", 200, 100, 0, False),
    Calls("over", "key_8", "GET /v1/items", 200, 150, 0, True),
    Calls("odd", "key_7", "GET /v1/items", 200, 140, 0, True),
    Calls("odd", "key_7", "GET /v1/items", 500, 60, 0, True),
    Calls("planless", "key_9", "GET /v1/items", 200, 5, 0, True),
)


def fill(usage: Usage) -> None:
    """Assign the plans, and count the calls."""
    begins, now = periods()
    for org, plan in (("acme", "pro"), ("over", "free"), ("odd", "free")):
        usage.plans.assign(org, plan, from_=(begins - timedelta(days=70)).date())
    for org, number, name in (
        ("acme", 1, "Shop"),
        ("acme", 2, "Depot"),
        ("over", 8, "Over"),
        ("odd", 7, "Odd"),
        ("planless", 9, "Planless"),
    ):
        usage.keys.put(org, KeyInfo(id=f"key_{number}", name=name), secret=f"sk_{name.lower()}")
    usage.backfill(rows(begins, now))


def periods() -> tuple[datetime, datetime]:
    """When the running billing period began, and a time of today that is over."""
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return today.replace(day=1), max(today, now - timedelta(minutes=5))


def rows(begins: datetime, now: datetime) -> Iterator[dict[str, Any]]:
    """The calls as rows of a backfill."""
    for number, one in enumerate(CALLS):
        yield {
            "org": one.org, "id": str(number), "at": now if one.is_now else begins - timedelta(days=10), "key": one.key,
            "endpoint": one.endpoint, "status": one.status, "calls": one.calls, "latency_ms": 10 * one.calls,
            "counts": {"records": one.records, "matches": one.records // 2},
        }  # fmt: skip


def counted(*, is_now: bool = True, **wanted: str) -> int:
    """How many calls there were in this period, or the one before; `wanted`: org, key, endpoint."""
    return sum(
        one.calls
        for one in CALLS
        if one.is_now == is_now and all(getattr(one, name) == value for name, value in wanted.items())
    )
