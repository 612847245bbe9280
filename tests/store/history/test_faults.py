"""Whatever stops a packer, every number is there once, for a reader at any moment."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.report.world import World, world
from tests.store.history.packing import NOW, ORGS, calls, everything, live_keys, pack, packer_of
from tests.support import ServerProcess
from usage_middleware.errors import UsageUnavailable
from usage_middleware.periods import DAY, day_name
from usage_middleware.store.schema import Schema


@pytest.fixture
def lived(redis_url: str) -> Iterator[World]:
    """Some days of calls, 36 days ago."""
    some = calls(random.Random(5), 60, 3 * DAY, NOW - 36 * DAY)
    with world(redis_url, min(call.at for call in some), history=True) as found:
        found.happen(some)
        found.clock.set(NOW)
        yield found


def seen(lived: World) -> dict[str, Any]:
    return {org: everything(lived, org, 40, 35) for org in ORGS}


def test_a_packer_may_be_killed_after_any_step(lived: World) -> None:
    before = seen(lived)
    for stop in [*range(1, 60, 4), 10_000]:
        for org in ORGS:
            for done, _ in enumerate(packer_of(lived).pack(org)):
                if done == stop:
                    break
        if stop % 3 == 0:
            assert seen(lived) == before
    assert seen(lived) == before
    assert pack(lived) == 0
    assert live_keys(lived, "*:board:30m:*") == []


def test_small_moves_add_up(lived: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day with many counters is moved by many scripts: between any two of them readers see the same."""
    monkeypatch.setattr("usage_middleware.store.history.moving.MOST_KEYS", 5)
    monkeypatch.setattr("usage_middleware.store.history.moving.ENOUGH_KEYS", 5)
    before = seen(lived)
    for org in ORGS:
        for number, _ in enumerate(packer_of(lived).pack(org)):
            if number % 199 == 0:
                assert everything(lived, org, 40, 35) == before[org]
    assert seen(lived) == before


def test_sections_of_large_organisations_stand_alone(lived: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_middleware.store.history.month.MOST_TOGETHER", 2_000)
    before = seen(lived)
    pack(lived)
    (month,) = live_keys(lived, "{acme}:history:????-??")[-1:]
    assert lived.usage.engine.client.hlen(month) > 10
    assert seen(lived) == before


@pytest.mark.parametrize("keys", [5, 4_000])
def test_two_packers_at_once(lived: World, monkeypatch: pytest.MonkeyPatch, keys: int) -> None:
    """What one has read may be moved by the other, also when both move a day in many parts."""
    monkeypatch.setattr("usage_middleware.store.history.moving.MOST_KEYS", keys)
    monkeypatch.setattr("usage_middleware.store.history.moving.ENOUGH_KEYS", keys)
    before = seen(lived)
    for org in ORGS:
        steps = [packer_of(lived).pack(org) for _ in range(2)]
        dice = random.Random(7)
        while steps:
            one = dice.choice(steps)
            if next(one, "over") == "over":
                steps.remove(one)
    pack(lived)
    assert seen(lived) == before


def test_two_packers_that_count_keys_differently(lived: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into how many buckets keys are spread is settled by the first of them."""
    before = everything(lived, "acme", 40, 35)
    steps = packer_of(lived).pack("acme")
    for _ in range(6):
        next(steps)
    other = packer_of(lived)
    monkeypatch.setattr(other, "_buckets", lambda org: 7)
    for _ in other._pack_first("acme", other._due("acme")[-1:]):
        pass
    for _ in steps:
        pass
    assert everything(lived, "acme", 40, 35) == before
    assert pack(lived, ["acme"]) == 1
    assert everything(lived, "acme", 40, 35) == before


def test_what_is_no_day_stops_nothing(lived: World) -> None:
    todo = f"{lived.usage.settings.namespace}:{{acme}}:history:todo"
    lived.usage.engine.client.zadd(todo, {"30m 2029-02-31x": 1, "nonsense": 1, "30m 2029-99-99": 1})
    assert pack(lived, ["acme"]) > 0


def test_calls_that_come_while_a_day_is_packed(lived: World) -> None:
    """They are read as live, and moved with the next round."""
    day = NOW - 37 * DAY
    late = calls(random.Random(9), 30, 3 * DAY, NOW - 36 * DAY)
    before = seen(lived)
    for org in ("acme", "globex"):
        for number, _ in enumerate(packer_of(lived).pack(org)):
            if number % 9 == 0 and late:
                lived.clock.set(day)
                lived.record(late.pop()._replace(at=day))
                lived.clock.set(NOW)
                assert lived.usage.flush()
    after = seen(lived)
    assert after != before
    pack(lived)
    pack(lived)
    assert seen(lived) == after
    assert totals(after["acme"]) == len([call for call in lived.calls if call.org == "acme"])


def totals(found: dict[str, Any]) -> int:
    numbers = {sum(measures["calls"] for measures in found[name].values()) for name in ("30m series", "1d series")}
    (number,) = numbers
    assert isinstance(number, int)
    return number


def test_a_packer_in_a_loop_under_readers(lived: World) -> None:
    before, wrong = everything(lived, "acme", 38, 37), list[str]()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            found = everything(lived, "acme", 38, 37)
            wrong.extend(name for name in before if found[name] != before[name])

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(4):
        pack(lived, ["acme"])
        lived.usage.unpack_history("acme")
        remark(lived)
    over.set()
    for reader in readers:
        reader.join()
    assert not wrong


def remark(lived: World) -> None:
    """Have the days packed again that were unpacked."""
    client = lived.usage.engine.client
    todo = f"{lived.usage.settings.namespace}:{{acme}}:history:todo"
    for back in range(36, 41):
        day = day_name(NOW - back * DAY)
        client.zadd(todo, {f"30m {day}": 1, f"1d {day}": 1})


def test_a_damaged_section_costs_itself_alone(lived: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_middleware.store.history.month.MOST_TOGETHER", 0)
    before = everything(lived, "acme", 40, 35)
    pack(lived)
    month = live_keys(lived, "{acme}:history:????-??")[-1]
    client = lived.usage.engine.client
    name = next(field for field in client.hkeys(month) if field.endswith(b"day board project"))
    client.hset(month, name, b"\x01nonsense")
    after = everything(lived, "acme", 40, 35)
    assert {name for name in before if after[name] != before[name]} == {"1d board project"}
    assert f"{month} {name.decode()}" in str(lived.usage.engine.damage)


def test_a_damaged_section_is_not_replaced(lived: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes late for it stays live."""
    pack(lived)
    month = live_keys(lived, "{acme}:history:????-??")[-1]
    lived.usage.engine.client.hset(month, "small", b"\x01nonsense")
    at = NOW - 37 * DAY
    lived.clock.set(at)
    lived.record(calls(random.Random(1), 1, 1)[0]._replace(at=at, org="acme"))
    lived.clock.set(NOW)
    assert lived.usage.flush()
    pack(lived)
    assert lived.usage.engine.client.hget(month, "small") == b"\x01nonsense"
    assert live_keys(lived, "{acme}:board:30m:*")


def test_a_month_of_another_type_stops_nothing_else(lived: World) -> None:
    client = lived.usage.engine.client
    for month in ("2029-10", "2029-11"):
        client.set(f"{lived.usage.settings.namespace}:{{acme}}:history:{month}", "x")
    before = everything(lived, "globex", 40, 35)
    assert lived.usage.pack_history() > 0
    assert everything(lived, "globex", 40, 35) == before
    assert everything(lived, "acme", 40, 35)["1d series"]


@pytest.mark.slow
def test_a_full_memory_is_packed() -> None:
    """That makes room. What adds live counters is refused, wholly."""
    some = calls(random.Random(6), 30, 3 * DAY, NOW - 36 * DAY) + calls(random.Random(7), 9, 100)
    with (
        ServerProcess() as server,
        world(server.url, min(call.at for call in some), history=True) as found,
        server.client() as admin,
    ):
        found.happen(some)
        found.clock.set(NOW)
        before = seen(found)
        assert found.usage.pack_history("globex") > 0
        admin.config_set("maxmemory", 1)
        assert found.usage.pack_history() > 0
        assert not live_keys(found, "*:board:30m:2029-1[01]*")
        assert seen(found) == before
        with pytest.raises(UsageUnavailable):
            found.usage.unpack_history("acme")
        assert not live_keys(found, "*:board:30m:2029-1[01]*")
        assert due(found) == ["*", "acme"]
        admin.config_set("maxmemory", 0)
        assert seen(found) == before
        assert found.usage.pack_history() == 0
        assert due(found) == []


def due(lived: World) -> list[str]:
    schedule = Schema(lived.usage.settings).history_schedule
    return sorted(org.decode() for org in lived.usage.engine.client.zrangebyscore(schedule, 0, lived.clock.now))
