"""Who is packed when, and what keeps packing from beginning."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.report.world import OPTIONS, Call, World, world
from tests.store.history.packing import NOW, ORGS, calls, everything, live_keys
from tests.support import ClusterProcess
from usage_middleware import KeyInfo, Usage, Viewer
from usage_middleware.errors import ConfigurationError, QueryError, UsageUnavailable
from usage_middleware.periods import DAY, HOUR
from usage_middleware.record.idle_packing import EVERY, RESTS, IdlePacking
from usage_middleware.report.health import health
from usage_middleware.store.history.packer import Packer
from usage_middleware.store.history.rounds import LATER, Rounds
from usage_middleware.store.history.schedule import NOTED_SECONDS
from usage_middleware.store.meta import HISTORY_SINCE
from usage_middleware.store.schema import Schema

MakeUsage = Callable[..., Usage]


@pytest.fixture
def lived(redis_url: str) -> Iterator[World]:
    """A call of each organisation, 40 days ago and today."""
    with world(redis_url, NOW - 40 * DAY, history=True) as found:
        for at in (NOW - 40 * DAY, NOW):
            found.happen(Call(at + second, org=org) for second, org in enumerate(("acme", "globex")))
        found.clock.set(NOW + 2)
        yield found


def schedule(world: World) -> dict[str, int]:
    settings = world.usage.settings
    found = world.usage.engine.client.zrange(Schema(settings).history_schedule, 0, -1, withscores=True)
    return {org.decode(): int(due) for org, due in found}


def due_after(at: int, days: int) -> int:
    return at - at % DAY + (days + 1) * DAY


def test_organisations_are_noted_when_they_are_counted(lived: World) -> None:
    assert schedule(lived) == dict.fromkeys(("acme", "globex", "*"), due_after(NOW - 40 * DAY, 2))


def test_after_a_round_they_are_due_when_the_next_day_is(lived: World) -> None:
    assert lived.usage.pack_history() == 6
    assert schedule(lived) == dict.fromkeys(("acme", "globex", "*"), due_after(NOW, 2))
    lived.clock.advance(3 * DAY)
    assert lived.usage.pack_history() == 3
    assert schedule(lived) == dict.fromkeys(("acme", "globex", "*"), due_after(NOW, 35))
    lived.clock.advance(35 * DAY)
    assert lived.usage.pack_history() == 3
    assert schedule(lived) == {}
    assert live_keys(lived, "*:board:30m:*") == live_keys(lived, "*:board:1d:*") == []


def test_an_organisation_that_was_idle_is_noted_again(lived: World) -> None:
    """The worker that counts it noted it weeks ago. Since then all of it was packed."""
    lived.clock.advance(40 * DAY)
    lived.usage.pack_history()
    assert schedule(lived) == {}
    now = int(lived.clock.now)
    lived.happen([Call(now)])
    assert schedule(lived) == dict.fromkeys(("acme", "*"), due_after(now, 2))
    lived.clock.advance(4 * DAY)
    assert lived.usage.pack_history() == 2


def test_an_organisation_that_redis_has_lost_is_noted_within_the_hour(lived: World) -> None:
    key = Schema(lived.usage.settings).history_schedule
    lived.usage.engine.client.delete(key)
    lived.happen([Call(lived.clock.now)])
    lived.clock.advance(NOTED_SECONDS)
    lived.happen([Call(lived.clock.now)])
    assert schedule(lived) == dict.fromkeys(("acme", "*"), due_after(int(lived.clock.now), 2))


def test_all_is_written_back_of_organisations_that_are_listed_nowhere_else(redis_url: str) -> None:
    """The key directory knows them, nobody counts them together, and nothing of them is left to pack."""
    with world(redis_url, NOW - 60 * DAY, history=True, operator_tree=False) as found:
        found.usage.keys.put("acme", KeyInfo(id="key_1", name="key_1"), secret="sk_1")
        found.happen([Call(NOW - 60 * DAY)])
        before = everything(found, "acme", 61, 58)
        found.clock.set(NOW)
        assert found.usage.pack_history() == 2
        assert schedule(found) == {}
        assert found.usage.unpack_history() > 0
        assert live_keys(found, "{acme}:series:30m:*") != []
        assert everything(found, "acme", 61, 58) == before


def test_one_organisation_may_be_packed(lived: World) -> None:
    assert lived.usage.pack_history("acme") == 2
    assert schedule(lived)["globex"] == due_after(NOW - 40 * DAY, 2)


def test_somebody_packs_an_organisation_already(lived: World) -> None:
    settings = lived.usage.settings
    lived.usage.engine.client.set(Schema(settings).history_lease("acme"), "another")
    assert lived.usage.pack_history() == 4
    assert schedule(lived)["acme"] == int(lived.clock.now) + LATER


def test_what_cannot_be_packed_now_waits(lived: World) -> None:
    client, settings = lived.usage.engine.client, lived.usage.settings
    todo = Schema(settings).history_todo("acme")
    client.delete(todo)
    client.set(todo, "x")
    assert lived.usage.pack_history() == 4
    assert schedule(lived)["acme"] == int(lived.clock.now) + LATER


def test_whoever_packs_one_organisation_is_told_what_fails(lived: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all are packed, it is logged."""

    def failing(packer: Packer, org: str) -> Iterator[None]:
        yield
        raise redis.ConnectionError("Connection refused")

    with monkeypatch.context() as away:
        away.setattr(Packer, "pack", failing)
        with pytest.raises(UsageUnavailable, match="refused"):
            lived.usage.pack_history("acme")
        assert lived.usage.pack_history() == 0
    assert lived.usage.pack_history("acme") == 2


def test_nothing_is_packed_beside_a_worker_without_history(lived: World, redis_url: str) -> None:
    """An older version does not note what it writes."""
    since = lived.usage.engine.client.hget(Schema(lived.usage.settings).meta, HISTORY_SINCE)
    options = {**OPTIONS, "namespace": lived.usage.settings.namespace, "clock": lived.clock}
    with Usage(redis_url, **options) as other:
        other.recorder._flusher.announce()
        with pytest.raises(UsageUnavailable, match="without history"):
            lived.usage.pack_history()
        assert {one.code for one in health(lived.usage.reader).warnings} >= {"history_waits", "history_behind"}
    later = lived.usage.engine.client.hget(Schema(lived.usage.settings).meta, HISTORY_SINCE)
    assert int(later) > lived.clock.now * 1000 > int(since)
    assert lived.usage.pack_history() == 6


def test_only_what_was_counted_since_is_kept_for_longer(make_usage: MakeUsage, clock: Any) -> None:
    """Before history began, half-hours ended after their own retention."""
    make_usage(**OPTIONS).flush()
    clock.advance(50 * DAY)
    usage = make_usage(**{**OPTIONS, "history": True})
    usage.flush()
    began = int(clock.now)
    clock.advance(20 * DAY)
    settings = usage.reader.context(Viewer.operator()).settings
    reaches = clock.now - settings.kept("key_board", 1)
    assert began <= reaches <= began + DAY + 1
    assert settings.kept("board", 1) == settings.kept("key_board", 1)
    assert settings.kept("series", 1) == 100 * DAY
    with pytest.raises(QueryError) as refused:
        usage.reader.summary(org="acme", start=began - 5 * DAY - HOUR, end=began + 3 * DAY, align="exact", timezone="UTC")
    assert refused.value.code in ("not_retained", "missing_org") or refused.value.code


def test_a_worker_without_history_ends_it(make_usage: MakeUsage, clock: Any) -> None:
    usage = make_usage(**{**OPTIONS, "history": True})
    usage.flush()
    context = usage.reader.context(Viewer.operator())
    assert context.settings.kept("board", 1) == 800 * DAY
    make_usage(**OPTIONS).flush()
    assert usage.reader.context(Viewer.operator()).settings.kept("board", 1) == 9 * DAY


def test_health_says_how_far_it_is(lived: World) -> None:
    found = health(lived.usage.reader)
    assert found.history is not None
    assert (found.history.since, found.history.organisations) == ("1970-01-01T00:00:00Z", 3)
    assert found.history.behind_seconds > 30 * DAY
    assert [one.level for one in found.warnings if one.code == "history_behind"] == ["failing"]
    lived.usage.pack_history()
    found = health(lived.usage.reader)
    assert found.history is not None
    assert found.history.behind_seconds == 0


def test_health_warns_of_packed_time_without_history(lived: World, redis_url: str) -> None:
    lived.usage.pack_history()
    options = {**OPTIONS, "namespace": lived.usage.settings.namespace, "clock": lived.clock}
    with Usage(redis_url, **options) as other:
        assert "history_off" in {one.code for one in health(other.reader).warnings}
        with pytest.raises(ConfigurationError, match="off"):
            other.pack_history()
        other.unpack_history()
        assert "history_off" not in {one.code for one in health(other.reader).warnings}


@pytest.mark.parametrize("month", ["2026", "2026-13", 5, "2026-11-01"])
def test_a_month_must_be_one(make_usage: MakeUsage, month: Any) -> None:
    with pytest.raises(ConfigurationError, match="month"):
        make_usage(history=True).unpack_history("acme", month)


def test_idle_packing_takes_a_hundredth_of_the_time(lived: World) -> None:
    now = [0.0]

    def monotonic() -> float:
        now[0] += 0.001
        return now[0]

    usage = lived.usage
    rounds = Rounds(lambda: usage.engine.client, Schema(usage.settings), lived.clock, usage.engine.damage)
    idle = IdlePacking(rounds, pytest.fail, monotonic)
    assert idle.rest > EVERY - 1
    steps = 0
    while rounds.packer.days < 6:
        rest = idle.rest
        assert rest <= EVERY + RESTS
        now[0] += rest
        idle.step()
        steps += 1
    assert steps > 6 * 10
    assert now[0] > steps * RESTS * 0.001


def test_idle_packing_without_history_rests(make_usage: MakeUsage) -> None:
    idle = IdlePacking(None, pytest.fail)
    idle.step()
    assert idle.rest == float("inf")


def test_whatever_fails_calls_go_on(lived: World) -> None:
    failed: list[str] = []
    idle = IdlePacking(Failing(), failed.append, lambda: 0.0)  # type: ignore[arg-type]
    idle._next = 0.0
    idle.step()
    assert failed == ["history"]
    assert idle.rest == EVERY


class Failing:
    def round(self) -> Iterator[None]:
        raise ValueError
        yield


def test_a_round_equals_brute_force(redis_url: str) -> None:
    some = calls(random.Random(2), 40, 20 * DAY)
    with world(redis_url, min(call.at for call in some), history=True, slot_minutes=15, shards={"key": 3}) as found:
        found.happen(some)
        found.clock.set(NOW)
        before = everything(found, "acme", 21)
        assert found.usage.pack_history() > 0
        assert everything(found, "acme", 21) == before


def test_a_cluster(cluster: ClusterProcess) -> None:
    some = calls(random.Random(4), 30, 3 * DAY, NOW - 36 * DAY)
    with world(cluster.url, min(call.at for call in some), history=True) as found:
        found.happen(some)
        found.clock.set(NOW)
        before = {org: everything(found, org, 40, 35) for org in ORGS}
        assert found.usage.pack_history() > 0
        assert {org: everything(found, org, 40, 35) for org in ORGS} == before
        assert found.usage.unpack_history() > 0
        assert {org: everything(found, org, 40, 35) for org in ORGS} == before
