"""Corrections: every number that calls are in changes, once for each id, and none falls below 0."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support import START, Clock, ServerProcess, record_call
from usage_middleware import KeyInfo, Usage
from usage_middleware.errors import RowRefused, UsageUnavailable
from usage_middleware.record import once
from usage_middleware.store.schema import Schema

MakeUsage = Callable[..., Usage]
OPTIONS: dict[str, Any] = {"dimensions": ("project",), "counters": ("records",)}
CALL: dict[str, Any] = {
    "id": "c1", "at": START, "reason": "a loop of ours", "key": "key_1", "endpoint": "GET /a", "status": 200, "calls": -1
}  # fmt: skip


@pytest.fixture
def usage(make_usage: MakeUsage) -> Usage:
    made = make_usage(**OPTIONS)
    for status in (200, 200, 404):
        record_call(made.recorder, ("acme", "key_1"), "GET /a", ("search",), status, 1000, 50, (3,))
    assert made.flush()
    return made


def correct(usage: Usage, org: str = "acme", **changes: Any) -> bool:
    return usage.correct(org, **{**CALL, "tags": {"project": "search"}, **changes})


def stored(usage: Usage) -> dict[str, dict[bytes, Any]]:
    """All series, boards and registries of the namespace."""
    client, found = usage.engine.client, {}
    for name in client.scan_iter(f"{usage.settings.namespace}:*", count=10_000):
        kind = name.split(b"}:", 1)[1].split(b":")[0]
        if kind == b"series":
            found[name.decode()] = client.hgetall(name)
        elif kind in (b"board", b"seen"):
            found[name.decode()] = dict(client.zrange(name, 0, -1, withscores=True))
    return found


def agrees(usage: Usage) -> bool:
    differences = [one for org in (None, "acme", "globex") for one in usage.reconcile(org).differences]
    assert not differences, [str(one) for one in differences]
    return True


def totals(usage: Usage, **asked: Any) -> tuple[int, int]:
    found = usage.reader.summary(period="24h", **asked)
    return found.total_calls, found.successful_calls


def test_calls_are_taken_away_everywhere(usage: Usage) -> None:
    assert correct(usage, bytes=-50, counts={"records": -3}, latency_ms=-1)
    assert totals(usage) == totals(usage, org="acme") == (2, 1)
    by_key = usage.reader.by_key(org="acme").keys
    assert [(key.key_id, key.request_count, key.error_count) for key in by_key] == [("key_1", 2, 1)]
    (endpoint,) = usage.reader.endpoints(org="acme").endpoints
    assert (endpoint.total_requests, endpoint.counters["records"]) == (2, 6)
    (project,) = usage.reader.summary(org="acme").by_dimension["project"]
    assert project.calls == 2
    assert agrees(usage)
