"""The days of boards are merged when their month is over: every number stays what it was, whatever comes in between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.report.world import Call, World, instant, world
from tests.store.history.packing import NOW, ORGS, calls, everything, pack, packer_of
from usage_middleware.periods import DAY
from usage_middleware.store.history.names import MERGED
from usage_middleware.store.history.packer import Packer
from usage_middleware.store.history.section import compressed
from usage_middleware.store.schema import Schema

#: 2029-10 is over and packed, of 2029-11 a few days are.
MONTH, NOT_OVER = "2029-10", "2029-11"
#: In days before now: what `everything` is asked for.
SINCE, UNTIL = 50, 36


@pytest.fixture(params=["apart", "together"])
def lived(redis_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Calls of some days before and after the end of a month; of a large organisation, or of a small one. Nothing is packed."""
    if request.param == "apart":
        monkeypatch.setattr("usage_middleware.store.history.month.MOST_TOGETHER", 0)
    some = calls(random.Random(3), 40, 12 * DAY, NOW - 37 * DAY)
    with world(redis_url, min(call.at for call in some), history=True) as found:
        found.happen(some)
        found.clock.set(NOW)
        yield found


def seen(world: World) -> dict[str, Any]:
    return {org: everything(world, org, SINCE, UNTIL) for org in ORGS}


def month(world: World, name: str = MONTH) -> tuple[str, dict[str, bytes]]:
    """The Redis key of a month of acme, and its fields."""
    usage = world.usage
    key = Schema(usage.settings).history("acme", name)
    return key, {field.decode(): value for field, value in usage.engine.client.hgetall(key).items()}


def boards_of_days(world: World) -> list[str]:
    return [name for name in month(world)[1] if name[2:7] == " day "]


def test_days_of_a_month_that_is_over_are_merged(lived: World) -> None:
    before = seen(lived)
    pack(lived)
    assert seen(lived) == before
    fields = month(lived)[1]
    assert MERGED in fields
    assert "small" in fields or {"days board key", "days latency", "days key_board 0"} <= set(fields)
    assert not boards_of_days(lived)
    assert MERGED not in month(lived, NOT_OVER)[1]


def test_what_comes_later_is_merged_too(lived: World) -> None:
    pack(lived)
    version = month(lived)[1]["v"]
    at = NOW - 45 * DAY
    lived.clock.set(at)
    lived.record(Call(at, key="key_late", project="billing"))
    lived.clock.set(NOW)
    assert lived.usage.flush()
    before = seen(lived)
    pack(lived)
    assert seen(lived) == before
    assert not boards_of_days(lived)
    assert month(lived)[1]["v"] != version


def test_it_may_be_killed_at_any_moment(lived: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(lived, "acme", SINCE, UNTIL)
    with monkeypatch.context() as earlier:
        earlier.setattr(Packer, "_merge", lambda *_: iter(()))
        pack(lived)
    day = lived.usage.settings.layers.day, int(instant(f"{MONTH}-31T00:00:00Z"))
    for steps in range(1, 10_000, 11):
        merging = packer_of(lived)._merge("acme", {day})
        is_over = any(next(merging, "over") == "over" for _ in range(steps))
        assert everything(lived, "acme", SINCE, UNTIL) == before
        if is_over:
            break
    assert MERGED in month(lived)[1]
    assert not boards_of_days(lived)


def test_a_month_that_was_packed_before_is_merged_with_the_next_day(lived: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(Packer, "_merge", lambda *_: iter(()))
        pack(lived)
    assert MERGED not in month(lived)[1]
    at = NOW - 37 * DAY
    lived.clock.set(at)
    lived.record(Call(at))
    lived.clock.set(NOW)
    assert lived.usage.flush()
    before = seen(lived)
    pack(lived)
    assert seen(lived) == before
    assert MERGED in month(lived)[1]
    assert not boards_of_days(lived)


def test_it_is_written_back(lived: World) -> None:
    before = seen(lived)
    pack(lived)
    assert lived.usage.unpack_history("acme", MONTH) > 0
    assert seen(lived) == before
    assert not [name for name in month(lived)[1] if " " in name]
    pack(lived)
    assert seen(lived) == before
    assert not boards_of_days(lived)


def test_a_correction_takes_from_merged_days(lived: World) -> None:
    at = NOW - 45 * DAY
    row: dict[str, Any] = {
        "at": at, "reason": "a test", "key": "key_1", "endpoint": "GET /a", "status": 200, "tags": {"project": "search"},
    }  # fmt: skip
    lived.usage.correct("acme", id="more", calls=5, **row)
    pack(lived)
    assert lived.usage.correct("acme", id="less", calls=-5, **row)
    before = seen(lived)
    pack(lived)
    assert seen(lived) == before
    assert not boards_of_days(lived)


def test_boards_that_are_too_large_stay_as_they_are(lived: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_middleware.store.history.merging.MOST_BYTES", 0)
    before = seen(lived)
    pack(lived)
    assert seen(lived) == before
    assert "small" in month(lived)[1] or boards_of_days(lived)


def test_a_damaged_day_stays_and_costs_itself_alone(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_middleware.store.history.month.MOST_TOGETHER", 0)
    monkeypatch.setattr("usage_middleware.store.history.merging.MOST_BYTES", 0)
    some = [Call(NOW - days * DAY) for days in (47, 46, 45)]
    with world(redis_url, some[0].at, history=True) as found:
        found.happen(some)
        found.clock.set(NOW)
        pack(found)
        key, damaged = month(found)[0], sorted(name for name in boards_of_days(found) if name.endswith("board key"))[1]
        found.usage.engine.client.hset(key, damaged, compressed(b"\xff" * 20))
        found.usage.engine.client.hdel(key, MERGED)
        monkeypatch.undo()
        late = Call(NOW - 45 * DAY)
        found.clock.set(late.at)
        found.record(late)
        found.clock.set(NOW)
        assert found.usage.flush()
        pack(found)
        assert damaged in month(found)[1]
        assert sum(one["calls"] for one in everything(found, "acme", 50, 43)["1d board key"].values()) == 3
        assert "days board endpoint" in month(found)[1]
