"""From counters of a version without history to packed ones, with workers of both for a while, and back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.report.world import OPTIONS, Call, World, world
from tests.store.history.packing import NOW, ORGS, calls, everything, live_keys, packer_of
from usage_middleware import Usage
from usage_middleware.errors import UsageUnavailable
from usage_middleware.periods import DAY
from usage_middleware.store.history.seeding import SEEDED, Seeding
from usage_middleware.store.meta import HISTORY_SINCE
from usage_middleware.store.schema import Schema

DAYS = 40


@pytest.fixture
def old(redis_url: str) -> Iterator[World]:
    """Some weeks of calls, counted without history; what has expired is gone."""
    some = [*calls(random.Random(8), 40, DAYS * DAY), Call(NOW - 6 * DAY), Call(NOW - 5 * DAY)]
    with world(redis_url, min(call.at for call in some), history=False) as found:
        found.happen(some)
        found.reach(NOW)
        yield found


@pytest.fixture
def new(old: World, redis_url: str) -> Iterator[World]:
    """A worker with history beside it, which has counted a call."""
    namespace = old.usage.settings.namespace
    with Usage(redis_url, namespace=namespace, clock=old.clock, flush_interval=3600, **{**OPTIONS, "history": True}) as usage:
        usage.recorder._rounds = None
        found = World(usage, old.clock)
        found.happen([Call(NOW)])
        yield found


def all_of(lived: World) -> dict[str, Any]:
    return {org: everything(lived, org, DAYS + 1) for org in ORGS}


def ended(worker: World) -> None:
    """It has delivered what it had, and is gone."""
    worker.usage.close()


def meta(lived: World, field: str) -> bytes | None:
    found: bytes | None = lived.usage.engine.client.hget(Schema(lived.usage.settings).meta, field)
    return found


def test_what_was_counted_before_is_packed_once_the_last_old_worker_ends(old: World, new: World) -> None:
    old.happen([Call(NOW + 1, org="globex"), Call(NOW + 1 - 3 * DAY)])
    before = all_of(new)
    with pytest.raises(UsageUnavailable, match="without history"):
        new.usage.pack_history()
    assert all_of(new) == before
    ended(old)
    assert new.usage.pack_history() > DAYS
    assert all_of(new) == before
    halves = live_keys(new, "*:series:30m:*") + live_keys(new, "*:board:30m:*")
    assert {key.split(":30m:")[1][:10] for key in halves} <= {"2029-12-12", "2029-12-11", "2029-12-10"}
    assert meta(new, SEEDED) == meta(new, HISTORY_SINCE)
    assert new.usage.pack_history() == 0


def test_one_organisation_may_be_packed_alone(old: World, new: World) -> None:
    ended(old)
    assert new.usage.pack_history("globex") > 10
    assert not [key for key in live_keys(new, "{globex}:board:30m:*") if ":2029-11-" in key]
    assert [key for key in live_keys(new, "{acme}:board:30m:*") if ":2029-12-0" in key]


def test_an_old_worker_that_comes_again_is_waited_for(old: World, new: World, redis_url: str) -> None:
    ended(old)
    new.usage.pack_history()
    began = meta(new, HISTORY_SINCE)
    options = {**OPTIONS, "namespace": new.usage.settings.namespace, "clock": new.clock, "history": False}
    with Usage(redis_url, **options) as again:
        World(again, new.clock).happen([Call(NOW - 4 * DAY), Call(NOW)])
        before = all_of(new)
        with pytest.raises(UsageUnavailable):
            new.usage.pack_history()
    assert new.usage.pack_history() > 0
    assert meta(new, HISTORY_SINCE) != began
    assert all_of(new) == before


@pytest.mark.parametrize("step", range(1, 20, 3))
@pytest.mark.parametrize("together", [1, 7])
def test_what_an_old_worker_writes_meanwhile_is_not_lost(
    old: World, new: World, monkeypatch: pytest.MonkeyPatch, together: int, step: int
) -> None:
    """It does not mark what it writes, and may begin while a day is read, or several that are packed together."""
    monkeypatch.setattr("usage_middleware.store.history.packer.MOST_DAYS", together)
    usage, todo = new.usage, f"{new.usage.settings.namespace}:{{acme}}:history:todo"
    for _ in Seeding(lambda: usage.engine.client, Schema(usage.settings), new.clock, usage.engine.damage).steps():
        pass
    late = Call(NOW - 5 * DAY)
    steps = packer_of(new).pack("acme")
    days = [f"30m 2029-12-{day:02}" for day in range(1, 8)]
    left = [day for day in days if usage.engine.client.zscore(todo, day) is not None]
    assert left[-2:] == days[-2:]
    # One by one, the last of them is read then; else all that follow the first one of the month.
    packed = left[-2 if together == 1 else 0]
    while usage.engine.client.zscore(todo, packed) is not None:
        next(steps)
    assert usage.engine.client.zscore(todo, "30m 2029-12-07") is not None
    for _ in range(step):
        next(steps)
    before = everything(new, "acme", 6, 3)
    new.clock.set(late.at)
    old.record(late)
    old.clock.set(NOW)
    assert old.usage.flush()
    counted = everything(new, "acme", 6, 3)
    assert counted != before
    for _ in steps:
        pass
    assert everything(new, "acme", 6, 3) == counted


def test_back_again(old: World, new: World, redis_url: str) -> None:
    before = all_of(old)
    ended(old)
    new.usage.pack_history()
    ended(new)
    options = {**OPTIONS, "namespace": new.usage.settings.namespace, "clock": new.clock, "history": False}
    with Usage(redis_url, **options) as again:
        lived = World(again, new.clock)
        assert all_of(lived) != before
        assert again.unpack_history() > 0
        assert all_of(lived) == before


def test_what_has_passed_its_retention_is_not_counted_as_written_back(redis_url: str) -> None:
    """Of 60 days ago only days are kept without history."""
    with world(redis_url, NOW - 60 * DAY, history=True) as found:
        found.happen([Call(NOW - 60 * DAY)])
        found.clock.set(NOW)
        found.usage.pack_history()
        options = {**OPTIONS, "namespace": found.usage.settings.namespace, "clock": found.clock, "history": False}
        with Usage(redis_url, **options) as again:
            client = again.engine.client
            client.delete(*live_keys(found, "*:1m:*"))
            assert live_keys(found, "*:board:*") + live_keys(found, "*:series:*") == []
            written = again.unpack_history()
            boards, series = live_keys(found, "*:board:*"), live_keys(found, "*:series:*")
            assert boards
            assert not [key for key in boards if ":30m:" in key]
            assert written == sum(map(client.zcard, boards)) + sum(map(client.hlen, series))
