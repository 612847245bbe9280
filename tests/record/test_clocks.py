"""Clocks that jump, disagree, or are a century off: calls land in the slots of their worker's clock, and no key lives on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.record.conftest import MakeRecorder
from tests.support import START, Clock, ClusterProcess, ServerProcess, record_call
from usage_middleware.record.recorder import Recorder

DAY = 86_400
LONGEST = 800 * DAY + 64 * DAY


def add(recorder: Recorder, n: int = 1) -> None:
    for _ in range(n):
        record_call(recorder, ("acme", "key_7"), "GET /a", (), 200, 1000, 50, ())


def days(client: Any, namespace: str) -> dict[str, int]:
    """Calls by day."""
    found = {}
    for key in client.scan_iter(f"{namespace}:{{acme}}:series:1d:????-??", count=10_000):
        for field, value in client.hgetall(key).items():
            if field.endswith(b" calls"):
                found[key.decode()[-7:] + "-" + field.decode()[:2]] = int(value)
    return found


@pytest.mark.parametrize("seconds", [-1, -3600, -40 * DAY, 3600, 40 * DAY, 36_500 * DAY])
def test_a_clock_that_jumps(make_recorder: MakeRecorder, client: Any, namespace: str, clock: Clock, seconds: float) -> None:
    recorder = make_recorder()
    add(recorder)
    assert recorder.flush()
    clock.advance(seconds)
    add(recorder, 2)
    assert recorder.flush()
    clock.set(START)
    add(recorder, 4)
    assert recorder.flush()
    assert sum(days(client, namespace).values()) == 7
    assert recorder.stats().dropped == {}


@pytest.mark.parametrize("seconds", [60, 2 * DAY, 36_500 * DAY])
def test_a_jump_between_a_call_and_its_flush(
    make_recorder: MakeRecorder, client: Any, namespace: str, clock: Clock, seconds: float
) -> None:
    recorder = make_recorder()
    clock.advance(seconds)
    add(recorder, 3)
    clock.set(START)
    add(recorder)
    assert recorder.flush()
    assert sum(days(client, namespace).values()) == 4
    ends = [client.ttl(key) for key in client.scan_iter(f"{namespace}:{{acme}}:*", count=10_000)]
    assert min(ends) > 0
    assert max(ends) < LONGEST


def test_a_clock_a_century_ahead_makes_no_keys_that_live_as_long(
    make_recorder: MakeRecorder, client: Any, namespace: str, clock: Clock
) -> None:
    clock.advance(36_500 * DAY)
    recorder = make_recorder()
    add(recorder)
    assert recorder.flush()
    assert list(days(client, namespace)) == ["2126-10-27"]
    assert max(client.ttl(key) for key in client.scan_iter(f"{namespace}:*", count=10_000)) < LONGEST


def test_workers_that_disagree(make_recorder: MakeRecorder, client: Any, namespace: str) -> None:
    for seconds in (0, -7 * 60, 12 * 60):
        recorder = make_recorder(clock=Clock(START + seconds))
        add(recorder)
        assert recorder.flush()
    minutes = client.hgetall(f"{namespace}:{{acme}}:series:1m:2026-11-20T13:30")
    assert {field for field in minutes if field.endswith(b" calls")} == {b"45 calls", b"38 calls", b"57 calls"}


@pytest.mark.parametrize("ahead", [0.0, 90.0, -90.0])
def test_the_skew_against_redis_is_measured(make_recorder: MakeRecorder, client: Any, namespace: str, ahead: float) -> None:
    recorder = make_recorder(clock=lambda: time.time() + ahead)
    assert recorder.stats().skew_ms is None
    add(recorder)
    assert recorder.flush()
    skew = recorder.stats().skew_ms
    assert skew is not None
    assert abs(skew - ahead * 1000) < 1000
    assert int(client.hget(f"{namespace}:{{*}}:worker:{recorder.stats().worker}", "skew_ms")) == skew


def test_in_a_cluster(cluster: ClusterProcess, make_recorder: MakeRecorder) -> None:
    client = cluster.client()
    recorder = make_recorder(client=client, clock=time.time)
    add(recorder)
    assert recorder.flush()
    skew = recorder.stats().skew_ms
    assert skew is not None
    assert abs(skew) < 1000
    recorder.close()
    client.close()


def test_a_redis_that_does_not_tell_the_time(server: ServerProcess, make_recorder: MakeRecorder, client: Any, namespace: str,
                                             counted: Callable[..., int]) -> None:  # fmt: skip
    client.execute_command("ACL", "SETUSER", namespace, "on", "nopass", "~*", "+@all", "-time")
    with server.client(username=namespace, password="x") as own:
        recorder = make_recorder(client=own)
        add(recorder)
        assert recorder.flush()
        assert recorder.stats().skew_ms is None
        assert recorder.close()
    client.execute_command("ACL", "DELUSER", namespace)
    assert counted() == 1
