"""Clocks that jump, and workers that disagree: every call lands in the slot of its own worker's clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.harness import Client, application, identify, put_keys
from tests.faults.ledger import Ledger, assert_equal
from tests.support import START, Clock, ServerProcess, eventually
from usage_middleware import Usage, UsageMiddleware

MakeUsage = Callable[..., Usage]
MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
CALLS = 40


async def call(usage: Usage, ledger: Ledger, seed: int = 1) -> None:
    client = Client(UsageMiddleware(application(), usage), ledger, seed)
    for _ in range(CALLS):
        await client.call()


def amounts(client: Any, pattern: str, measure: str = "calls") -> dict[str, int]:
    """What each slot has of a measure, in all hashes of that name."""
    found: dict[str, int] = {}
    for name in client.keys(pattern):
        for field, amount in client.hgetall(name).items():
            slot, what = field.decode().split(" ", 1)
            if what == measure:
                found[slot] = found.get(slot, 0) + int(amount)
    return found


@pytest.mark.parametrize("jump", [-HOUR, -MINUTE, -0.5, 0.5, MINUTE, HOUR])
async def test_the_clock_jumps(make_usage: MakeUsage, server: ServerProcess, namespace: str, jump: float) -> None:
    clock, ledger = Clock(), Ledger()
    usage = make_usage(clock=clock, identify=identify)
    put_keys(usage)
    for _ in range(3):
        await call(usage, ledger)
        clock.advance(jump)
        await call(usage, ledger)
        eventually(usage.flush)
        clock.advance(-jump)
        await call(usage, ledger)
    eventually(usage.flush)
    assert usage.recorder.stats().lost == usage.recorder.stats().dropped == {}
    with server.client() as client:
        assert_equal(client, namespace, ledger)
        assert min(amounts(client, f"{namespace}:*:series:*", "latency_us").values()) > 0


@pytest.mark.parametrize("jump", [-2 * DAY, 2 * DAY])
async def test_days_are_kept_when_the_clock_jumps_past_the_retention_of_minutes(
    make_usage: MakeUsage, server: ServerProcess, namespace: str, jump: float
) -> None:
    clock, ledger = Clock(), Ledger()
    usage = make_usage(clock=clock, identify=identify)
    put_keys(usage)
    for _ in range(2):
        await call(usage, ledger)
        clock.advance(jump)
        await call(usage, ledger)
        eventually(usage.flush)
        clock.advance(-jump)
    days = {"20", "22" if jump > 0 else "18"}
    with server.client() as client:
        found = amounts(client, f"{namespace}:{{\\*}}:series:1d:2026-11")
    assert found == dict.fromkeys(days, len(ledger) // 2)
    assert usage.recorder.stats().dropped == {}


async def test_workers_disagree_by_minutes(make_usage: MakeUsage, server: ServerProcess, namespace: str) -> None:
    ledger = Ledger()
    clocks = {"45": Clock(), "38": Clock(START - 7 * MINUTE), "52": Clock(START + 7 * MINUTE)}
    workers = {slot: make_usage(clock=clock, identify=identify) for slot, clock in clocks.items()}
    put_keys(workers["45"])
    for round_ in range(3):
        for usage in workers.values():
            await call(usage, ledger, seed=round_)
            eventually(usage.flush)
    with server.client() as client:
        assert_equal(client, namespace, ledger)
        found = amounts(client, f"{namespace}:{{\\*}}:series:1m:2026-11-20T13:30")
    assert found == dict.fromkeys(clocks, 3 * CALLS)


@pytest.mark.parametrize("history", [True, False])
async def test_ten_days_ahead_and_back(make_usage: MakeUsage, server: ServerProcess, namespace: str, *, history: bool) -> None:
    """What was delivered under the wrong clock is missing in boards that its half-hour has outlived by then, nowhere else."""
    clock, ledger = Clock(), Ledger()
    usage = make_usage(clock=clock, identify=identify, history=history)
    put_keys(usage)
    await call(usage, ledger)
    clock.advance(10 * DAY)
    eventually(usage.flush)
    clock.advance(-10 * DAY)
    await call(usage, ledger)
    eventually(usage.flush)
    with server.client() as client:
        days = amounts(client, f"{namespace}:{{\\*}}:series:1d:2026-11")
        halves = amounts(client, f"{namespace}:{{\\*}}:series:30m:2026-11-20")
        board = client.zrange(f"{namespace}:{{*}}:board:30m:2026-11-20T13:30:org:calls", 0, -1, withscores=True)
    assert (sum(days.values()), sum(halves.values())) == (2 * CALLS, 2 * CALLS)
    # With history, half-hours outlive ten days.
    assert sum(calls for _, calls in board) == (2 * CALLS if history else CALLS)
    assert usage.recorder.stats().dropped == {}
