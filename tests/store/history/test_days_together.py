"""Where packing is behind, days of a small organisation are packed together: nothing is lost by it, and no day waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.report.world import Call, World, world
from tests.store.history.packing import NOW, everything, live_keys, pack, packer_of
from usage_middleware.periods import DAY
from usage_middleware.store.history import change, packer

FIRST = (NOW - 30 * DAY) // DAY * DAY
DAYS = 8


@contextmanager
def lived(redis_url: str, keys: int = 2, halves: int = 3, first: int = FIRST, until: float = NOW) -> Iterator[World]:
    """So many keys called in so many half-hours of each of eight days."""
    starts = [first + day * DAY + half * 1800 for day in range(DAYS) for half in range(halves)]
    some = [Call(at + 60 + key / 100, key=f"key_{key}", endpoint=f"GET /{key % 5}") for at in starts for key in range(keys)]
    with world(redis_url, first, history=True) as found:
        found.happen(some)
        found.clock.set(until)
        yield found


def days_of(found: World, now: float = NOW, first: int = FIRST) -> list[dict[str, Any]]:
    """What readers see of each day."""
    ago = int(now - now % DAY - first) // DAY
    return [everything(found, "acme", ago - day, ago - day - 1, now=int(now)) for day in range(DAYS)]


def todo_of(found: World) -> str:
    return f"{found.usage.settings.namespace}:{{acme}}:history:todo"


def left(found: World) -> list[str]:
    return [member.decode()[-5:] for member in found.usage.engine.client.zrange(todo_of(found), 0, -1) if member[:3] == b"30m"]


def refusals(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each script whether it was refused."""
    found: list[bool] = []
    commit = change.MonthChange.commit

    def told(self: change.MonthChange, *arguments: Any, **options: Any) -> bool:
        moved = commit(self, *arguments, **options)
        found.append(not moved)
        return moved

    monkeypatch.setattr(change.MonthChange, "commit", told)
    return found


@pytest.mark.parametrize("keys_a_script", [20, 100, 2_000])
def test_nothing_is_refused_where_nobody_else_writes(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, keys_a_script: int
) -> None:
    monkeypatch.setattr("usage_middleware.store.history.moving.MOST_KEYS", keys_a_script)
    monkeypatch.setattr("usage_middleware.store.history.moving.ENOUGH_KEYS", keys_a_script // 2)
    refused = refusals(monkeypatch)
    with lived(redis_url, keys=3, halves=10) as found:
        before = days_of(found)
        assert pack(found, ["acme"]) == DAYS
        assert left(found) == []
        assert days_of(found) == before
    assert not any(refused)
    if keys_a_script == 2_000:
        assert len(refused) == 2  # The first day of the month, and the others.


def test_days_of_one_series_are_moved_by_one_script(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with lived(redis_url) as found:
        before = days_of(found)
        pack(found, ["acme"])
        later = FIRST + (DAYS + 36) * DAY
        found.clock.set(later)
        refused = refusals(monkeypatch)
        assert pack(found, ["acme"]) == DAYS
        assert refused[:2] == [False, False]
        assert len(refused) < DAYS
        assert days_of(found, later) == before


def test_a_day_that_is_written_meanwhile_is_packed_in_the_same_round(redis_url: str) -> None:
    with lived(redis_url) as found:
        steps = packer_of(found).pack("acme")
        while len(left(found)) == DAYS:
            next(steps)
        next(steps)
        found.clock.set(FIRST + 3 * DAY + 60)
        found.record(Call(found.clock()))
        found.clock.set(NOW)
        assert found.usage.flush()
        before = days_of(found)
        for _ in steps:
            pass
        assert left(found) == []
        assert days_of(found) == before


def test_a_time_that_is_none_is_left_out_and_keeps_no_day_waiting(redis_url: str) -> None:
    with lived(redis_url) as found:
        (series,) = live_keys(found, "{acme}:series:30m:2029-11-17")
        client = found.usage.engine.client
        field = next(name for name in client.hkeys(series) if name.endswith(b"last_ms"))
        client.hset(series, field, -(2**63) + 1)
        assert pack(found, ["acme"]) == DAYS
        assert left(found) == []
        assert "last_ms" in str(found.usage.engine.damage)


@pytest.mark.parametrize("together", [1, 7])
def test_a_number_that_cannot_be_written_costs_its_day_alone(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(packer, "MOST_DAYS", together)
    monkeypatch.setattr("usage_middleware.store.history.live_counts._is_no_time", lambda *_: False)
    with lived(redis_url) as found:
        (series,) = live_keys(found, "{acme}:series:30m:2029-11-14")
        client = found.usage.engine.client
        field = next(name for name in client.hkeys(series) if name.endswith(b"last_ms"))
        client.hset(series, field, -(2**63) + 1)
        for _ in range(2):
            pack(found, ["acme"])
            assert left(found) == ["11-14"]
        assert "too large" in str(found.usage.engine.damage)


def test_a_day_that_no_month_has_is_left_alone(redis_url: str) -> None:
    first = FIRST - FIRST % DAY
    with lived(redis_url, first=first) as found:
        before = days_of(found)
        found.usage.engine.client.zadd(todo_of(found), {"30m 2029-10-32": 1, "30m 2029-11-31": 1, "30m 2029-02-30": 1})
        assert pack(found, ["acme"]) == DAYS
        assert sorted(left(found)) == ["02-30", "10-32", "11-31"]
        assert days_of(found) == before
