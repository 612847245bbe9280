"""Reconciliation: what agrees is said to agree, and one call more in any one place is named."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from tests.support import START, Clock, ServerProcess, record_call
from usage_middleware import Usage
from usage_middleware.errors import QueryError
from usage_middleware.options import Settings
from usage_middleware.report.reconcile import MOST_DAYS, MOST_MEMBERS, Reconciliation
from usage_middleware.store.schema import Schema

MakeUsage = Callable[..., Usage]
NOW = int(START)
HOUR = 3600


def record(usage: Usage, times: int = 1) -> None:
    """Calls of two organisations, of several keys, endpoints and statuses."""
    for number in range(times):
        for org, key, status in (("acme", "key_1", 200), ("acme", "calls", 404), ("globex", "key_1", 500)):
            endpoint = f"GET /{'ab'[number % 2]}/{{id}}"
            record_call(usage.recorder, (org, key), endpoint, ("search",), status, 1000 * (1 + number), 5, (3,))


@pytest.fixture
def usage(make_usage: MakeUsage) -> Usage:
    made = make_usage(dimensions=("project",), counters=("records",))
    record(made, 2)
    assert made.flush()
    return made


def report_of(usage: Usage, *orgs: str | None) -> list[str]:
    """The differences, as text."""
    return [str(one) for org in orgs or (None, "acme", "globex") for one in usage.reconcile(org, start=NOW).differences]


def test_what_was_counted_agrees(usage: Usage, clock: Clock) -> None:
    for _ in range(5):
        clock.advance(5 * HOUR + 17)
        record(usage)
        assert usage.flush()
    found = usage.reconcile("acme", start=date(2026, 11, 20))
    assert found.agrees
    assert (found.start, found.end, found.left_out) == ("2026-11-20T00:00:00Z", "2026-11-22T00:00:00Z", {})
    assert found.compared > 200
    assert report_of(usage) == []


def test_one_call_more_in_any_place_is_named(usage: Usage, server: ServerProcess, namespace: str) -> None:
    with server.client() as client:
        names = sorted([*client.keys(f"{namespace}:*:series:*"), *client.keys(f"{namespace}:*:board:*")])
        # The first and the last of those that differ in numbers alone.
        some = {re.sub(rb"\d+", end, name): name for end, all_of in ((b"<", names[::-1]), (b">", names)) for name in all_of}
        assert len(some) > 100
        for name in some.values():
            org = re.search(r"\{(.*?)\}", name.decode())
            assert org is not None
            one_more(client, name, 1)
            assert report_of(usage, None if org[1] == "*" else org[1]), name
            one_more(client, name, -1)
        assert report_of(usage) == []


def one_more(client: Any, name: bytes, amount: int) -> None:
    """Change one number of a Redis key."""
    if client.type(name) == b"hash":
        client.hincrby(name, next(field for field in sorted(client.hkeys(name)) if field.endswith(b" calls")), amount)
    else:
        client.zincrby(name, amount, sorted(client.zrange(name, 0, -1))[0])


def test_it_says_where_and_how_much(usage: Usage, server: ServerProcess, namespace: str) -> None:
    schema = Schema(Settings(namespace=namespace))
    with server.client() as client:
        client.hincrby(schema.series_of("acme", "1d", "2026-11", "key", "key_1"), "20 calls", 2)
    (found,) = usage.reconcile("acme").differences
    assert str(found) == "2026-11-20 1d calls of key key_1: series 4, board key 2"
    assert (found.about, found.places, found.amounts) == ("key key_1", ("series", "board key"), (4, 2))


def test_members_that_are_left_out_are_in_the_sums(usage: Usage, server: ServerProcess, namespace: str) -> None:
    schema = Schema(Settings(namespace=namespace))
    found = usage.reconcile("acme", members=1)
    assert found.agrees
    assert found.left_out == {"endpoint": 1, "key": 1}
    with server.client() as client:
        client.zincrby(schema.board("acme", "1d", "2026-11-20", "key", "calls"), 1, "key_1")
    assert not usage.reconcile("acme", members=0).agrees


def test_the_operators_tree_is_compared_with_each_organisation(usage: Usage, server: ServerProcess, namespace: str) -> None:
    schema = Schema(Settings(namespace=namespace))
    with server.client() as client:
        client.delete(schema.series("globex", "1d", "2026-11"))
    assert "2026-11-20 1d calls of org globex: series of its own 0, board org 2" in report_of(usage, None)
    assert usage.reconcile("acme").agrees


def test_what_is_past_its_retention_is_not_compared(usage: Usage, clock: Clock, server: ServerProcess, namespace: str) -> None:
    """Redis deletes it at different times. Here it is gone before the clock says so."""
    clock.advance(4 * HOUR)
    with server.client() as client:
        client.delete(*client.keys(f"{namespace}:*:board:1m:*"))
    assert report_of(usage) == []


def test_a_dimension_that_was_declared_later(make_usage: MakeUsage, clock: Clock) -> None:
    before = make_usage()
    record_call(before.recorder)
    assert before.flush()
    clock.advance(60)
    after = make_usage(dimensions=("project",))
    record_call(after.recorder, tags=("search",))
    assert after.flush()
    assert report_of(after, "acme", None) == []


def test_without_the_operators_tree(make_usage: MakeUsage) -> None:
    usage = make_usage(operator_tree=False)
    record_call(usage.recorder)
    assert usage.flush()
    assert usage.reconcile("acme").agrees
    with pytest.raises(QueryError, match="which one with org="):
        usage.reconcile()


def test_sharded_boards(make_usage: MakeUsage) -> None:
    usage = make_usage(shards={"key": 4})
    for number in range(20):
        record_call(usage.recorder, ("acme", f"key_{number}"))
    assert usage.flush()
    assert report_of(usage, "acme", None) == []


def test_it_is_bounded(usage: Usage) -> None:
    for options in (
        {"start": NOW - MOST_DAYS * 86_400},
        {"start": NOW + 86_400},
        {"members": MOST_MEMBERS + 1},
        {"members": -1},
    ):
        with pytest.raises(QueryError):
            usage.reconcile("acme", **options)
    assert usage.reconcile("acme", start=NOW - (MOST_DAYS - 1) * 86_400).agrees


def test_calls_that_come_in_meanwhile_do_not_disturb_it(make_usage: MakeUsage) -> None:
    """An organisation's own counters are read in one transaction, and a chunk is written in one step."""
    usage = make_usage(flush_interval=60, dimensions=("project",), counters=("records",))
    stopped = threading.Event()

    def go_on() -> None:
        while not stopped.is_set():
            record(usage)
            usage.flush()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        found: list[Reconciliation] = [usage.reconcile("acme") for _ in range(5)]
    finally:
        stopped.set()
        thread.join(20)
    assert [str(one) for report in found for one in report.differences if not one.about.startswith("org ")] == []
    assert found[-1].compared > 20
