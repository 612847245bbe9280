"""What happens though nobody calls: thresholds of periods that ended and of plans that changed, and statements."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from tests.alerts.bench import FREE, OPTIONS, Bench, Told, calls
from tests.seeds.traffic import Traffic, at
from tests.support import Clock, record_call
from usage_middleware import KeyInfo, Plan, Price, Quota, Usage
from usage_middleware.alerts.period_ends import (
    DELIVERED_SECONDS,
    FAILED_SECONDS,
    KNOWN_SECONDS,
    LEASE_SECONDS,
    SPREAD_SECONDS,
    PeriodEnds,
)
from usage_middleware.periods import HOUR
from usage_middleware.report.context import ReportContext

PRO = Plan("pro", prices=(Price("calls", unit="0.01"),), currency="EUR")
#: After it everybody has looked at a period that has ended.
AFTER = DELIVERED_SECONDS + SPREAD_SECONDS


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    return make_usage(**{**OPTIONS, "plans": (FREE, PRO)})


def due(usage: Usage) -> dict[str, float]:
    """When organisations are looked at next, seconds since the epoch."""
    found = usage.engine.client.zrange(f"{usage.settings.namespace}:{{*}}:period_ends", 0, -1, withscores=True)
    return {name.decode(): score / 1000 for name, score in found}


def test_the_last_calls_of_a_period_reach_its_thresholds(bench: Bench, traffic: Traffic, told: Told, clock: Clock) -> None:
    clock.set(at("2026-11-30T23:59:40Z"))
    calls(traffic, clock, 79)
    bench.look()
    record_call(bench.usage.recorder, ("acme", "key_2"), "GET /v1/items", (), 200, 8000, 100, ())
    clock.set(at("2026-12-01T00:00:03Z"))
    assert bench.usage.flush()
    bench.look()
    assert told.reached == [("own", "key_1", 50)]
    clock.advance(AFTER)
    bench.step()
    assert told.reached == [("calls", None, 80), ("own", "key_1", 50)]
    assert told.events[-1].data.period.end == "2026-12-01T00:00:00Z"
    clock.advance(KNOWN_SECONDS)
    calls(traffic, clock, 1)
    bench.look()
    clock.advance(AFTER)
    bench.step()
    assert len(told.events) == 2
    assert 0 <= due(bench.usage)["acme"] - at("2027-01-01T00:00:00Z") < AFTER


def test_calls_that_come_late_reach_the_thresholds_of_their_period(
    bench: Bench, make_usage: Callable[..., Usage], traffic: Traffic, told: Told, clock: Clock
) -> None:
    """A worker that Redis was away for delivers an hour after the period's end."""
    late = make_usage(**{**OPTIONS, "plans": (FREE, PRO)})
    late._alerting._is_on = False
    clock.set(at("2026-11-30T23:59:40Z"))
    calls(Traffic(late, clock), clock, 79)
    record_call(late.recorder, ("acme", "key_1"), "GET /v1/items", (), 200, 8000, 100, ())
    bench.look()
    clock.set(at("2026-12-01T00:00:00Z") + AFTER)
    assert bench.usage.flush()
    bench.step()
    assert told.reached == [("own", "key_1", 50)]
    clock.set(at("2026-12-01T01:00:00Z"))
    assert late.flush()
    clock.advance(3600)
    bench.step()
    assert told.reached == [("calls", None, 80), ("own", "key_1", 50)]


@pytest.mark.parametrize("from_", [None, datetime(2026, 11, 21, tzinfo=UTC)])
def test_a_lower_quota_is_reached_though_nobody_calls(
    bench: Bench, traffic: Traffic, told: Told, clock: Clock, from_: datetime | None
) -> None:
    calls(traffic, clock, 79)
    bench.look()
    bench.usage.plans.assign("acme", "free", overrides={"calls": 79, "own": 1000}, from_=from_)
    clock.advance(5)
    bench.step()
    assert len(told.events) == (1 if from_ else 3)
    clock.set(at("2026-11-21T00:00:05Z"))
    bench.step()
    assert told.reached == [("calls", None, 100), ("calls", None, 80), ("own", "key_1", 50)]


def test_one_worker_looks(
    bench: Bench, make_usage: Callable[..., Usage], traffic: Traffic, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [Bench(make_usage(**{**OPTIONS, "plans": (FREE, PRO)}), [], clock) for _ in range(3)]
    calls(traffic, clock, 1)
    bench.look()
    looked: list[str] = []
    looking = PeriodEnds._looked

    def look(self: PeriodEnds, context: ReportContext, org: str) -> int | None:
        looked.append(f"{context.settings.namespace} {org} {clock()}")
        return looking(self, context, org)

    monkeypatch.setattr(PeriodEnds, "_looked", look)
    clock.set(at("2026-12-01T00:00:00Z") + AFTER)
    assert bench.usage.flush()
    threads = [threading.Thread(target=one.step) for one in (bench, *others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert looked == [f"{bench.usage.settings.namespace} acme {clock()}"]


def test_another_worker_looks_if_one_is_killed_or_fails(
    bench: Bench, make_usage: Callable[..., Usage], traffic: Traffic, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Bench(make_usage(**{**OPTIONS, "plans": (FREE, PRO)}), [], clock)
    calls(traffic, clock, 1)
    bench.look()
    clock.set(at("2026-12-01T00:00:00Z") + AFTER)
    looked: list[str] = []
    ended: list[type[BaseException]] = [SystemExit, RuntimeError]

    def look(self: PeriodEnds, context: object, org: str) -> None:
        looked.append(org)
        if ended:
            raise ended.pop(0)

    monkeypatch.setattr(PeriodEnds, "_looked", look)
    with pytest.raises(SystemExit):
        bench.step()
    for one, seconds, times in (
        (other, 5, 1),
        (other, LEASE_SECONDS, 2),
        (bench, LEASE_SECONDS, 2),
        (bench, FAILED_SECONDS, 3),
    ):
        clock.advance(seconds)
        one.step()
        assert len(looked) == times
    assert not due(bench.usage)


def test_a_statement_becomes_final_though_nobody_asks(bench: Bench, traffic: Traffic, clock: Clock) -> None:
    usage = bench.usage
    usage.plans.assign("acme", "pro", from_=date(2026, 11, 1))
    calls(traffic, clock, 30)
    bench.look()
    clock.set(at("2026-12-01T00:00:00Z") + AFTER)
    assert usage.flush()
    bench.step()
    name = f"{usage.settings.namespace}:{{acme}}:statement:{at('2026-11-01T00:00:00Z'):.0f}"
    assert usage.engine.client.exists(name)
    usage.correct(
        "acme", id="t", at=datetime(2026, 11, 20, 13, 45, tzinfo=UTC), key="key_1", endpoint="GET /v1/items", status=200,
        calls=-10, reason="not theirs",
    )  # fmt: skip
    clock.advance(10)
    found = usage.reader.cost(org="acme", period="previous")
    assert (found.state, found.total) == ("final", "0.30")
    assert [line.amount for line in usage.reader.cost(org="acme").lines] == ["0.00", "-0.10"]


def test_a_statement_waits_for_a_worker_that_owes(
    bench: Bench, make_usage: Callable[..., Usage], traffic: Traffic, clock: Clock
) -> None:
    """A worker was killed before the period's end: its calls may come for a week."""
    usage = bench.usage
    usage.plans.assign("acme", "pro", from_=date(2026, 11, 1))
    killed = make_usage(**{**OPTIONS, "plans": (FREE, PRO)})
    killed._alerting._is_on = False
    calls(Traffic(killed, clock), clock, 30)
    bench.look()
    clock.set(at("2026-12-01T00:00:00Z") + AFTER)
    looks = 0
    while clock() < at("2026-12-12T00:00:00Z"):
        assert usage.flush()
        before = due(usage)["acme"]
        bench.step()
        looks += due(usage)["acme"] != before
        assert due(usage)["acme"] > clock()
        if usage.engine.client.exists(f"{usage.settings.namespace}:{{acme}}:statement:{at('2026-11-01T00:00:00Z'):.0f}"):
            break
        clock.set(due(usage)["acme"])
    assert at("2026-11-27T13:00:00Z") < clock() < at("2026-12-09T02:00:00Z")
    # Seldom, the longer it lasts.
    assert looks < 24 * 8 + 30


def test_who_does_not_call_any_more_is_forgotten(bench: Bench, traffic: Traffic, clock: Clock) -> None:
    """Else all that ever called with the default plan would be looked at for ever."""
    calls(traffic, clock, 5)
    bench.look()
    assert set(due(bench.usage)) == {"acme"}
    clock.set(at("2026-12-01T00:00:00Z") + AFTER)
    calls(traffic, clock, 1)
    bench.step()
    assert set(due(bench.usage)) == {"acme"}
    clock.set(at("2027-01-01T00:00:00Z") + AFTER)
    assert bench.usage.flush()
    bench.step()
    assert not due(bench.usage)
    calls(traffic, clock, 1)
    bench.look()
    assert set(due(bench.usage)) == {"acme"}


def test_without_thresholds_and_prices_nobody_is_looked_at(make_usage: Callable[..., Usage], told: Told, clock: Clock) -> None:
    usage = make_usage(plans=(Plan("free", Quota("calls", 10, alerts=())), PRO), default_plan="free", flush_interval=3600)
    usage.keys.put("acme", KeyInfo("key_1", "Search"))
    calls(Traffic(usage, clock), clock, 20)
    bench = Bench(usage, [told], clock)
    bench.look()
    assert not due(usage)
    assert not told.events
    usage.plans.assign("acme", "pro", now=True)
    clock.advance(5)
    bench.step()
    assert set(due(usage)) == {"acme"}
    clock.advance(HOUR)
    usage.plans.assign("acme", None, now=True)
    clock.advance(5)
    bench.step()
    assert set(due(usage)) == {"acme"}  # What it cost until then is not final yet.
