"""Packing moves what half-hours and days counted, and nobody who reads sees a difference."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.report.world import Call, World, world
from tests.store.history.packing import NOW, ORGS, calls, everything, live_keys, pack
from usage_middleware.periods import DAY, month_end

DAYS = 40


@pytest.fixture
def lived(redis_url: str) -> Iterator[World]:
    """Some weeks of calls, nothing packed."""
    some = calls(random.Random(3), 60, DAYS * DAY)
    with world(redis_url, min(call.at for call in some), history=True) as found:
        found.happen(some)
        found.clock.set(NOW)
        yield found


def test_readers_see_no_difference(lived: World) -> None:
    before = {org: everything(lived, org, DAYS + 1) for org in ORGS}
    assert pack(lived) > 0
    assert live_keys(lived, "*:history:????-??")
    assert {org: everything(lived, org, DAYS + 1) for org in ORGS} == before


def test_what_is_packed_is_live_no_more(lived: World) -> None:
    pack(lived)
    halves = live_keys(lived, "*:series:30m:*") + live_keys(lived, "*:board:30m:*")
    assert halves
    assert {key.split(":30m:")[1][:10] for key in halves} <= {"2029-12-12", "2029-12-11", "2029-12-10", "2029-12-09"}
    days = {key.split(":1d:")[1][:10] for key in live_keys(lived, "*:board:1d:*")}
    assert min(days) >= "2029-11-06"


def test_what_was_packed_is_not_packed_again(lived: World) -> None:
    assert pack(lived) > 0
    assert pack(lived) == 0


def test_what_is_unpacked_is_live_as_it_was(lived: World) -> None:
    before = dump(lived)
    usage = lived.usage
    usage.pack_history()
    assert dump(lived) != before
    assert usage.unpack_history() > 0
    assert dump(lived) == before


def test_a_month_lives_as_long_as_history_is_kept(redis_url: str) -> None:
    with world(redis_url, NOW - 40 * DAY, history=True, retention={"history": {"day": timedelta(days=400)}}) as lived:
        lived.happen([Call(NOW - 40 * DAY)])
        lived.clock.set(NOW)
        pack(lived)
        (month,) = live_keys(lived, "{acme}:history:????-??")
        lives = month_end(month[-7:]) + 400 * DAY - NOW
        assert lives - 60 < lived.usage.engine.client.ttl(month) <= lives


def dump(world: World) -> dict[str, object]:
    """All live half-hours and days."""
    client = world.usage.engine.client
    found: dict[str, object] = {}
    for key in [*live_keys(world, "*:series:*"), *live_keys(world, "*:board:*")]:
        if ":1m:" not in key:
            found[key] = client.hgetall(key) if ":series:" in key else client.zrange(key, 0, -1, withscores=True)
    return found
