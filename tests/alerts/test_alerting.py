"""Thresholds fire once over all workers; alerts are delivered at least once; what is left is known from memory."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.alerts.bench import OPTIONS, Bench, Told, calls
from tests.seeds.traffic import Traffic, at
from tests.support import Clock, eventually, record_call
from usage_middleware import AlertEvent, KeyInfo, Limit, Plan, Quota, Usage, Viewer
from usage_middleware.alerts import alerting, delivery
from usage_middleware.alerts.delivery import GIVE_UP_SECONDS, LEASE_SECONDS, PAUSES
from usage_middleware.alerts.webhook import NotDelivered
from usage_middleware.errors import ConfigurationError


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    return make_usage(**OPTIONS)


def test_a_threshold_fires_once(bench: Bench, traffic: Traffic, told: Told, clock: Clock) -> None:
    calls(traffic, clock, 79)
    bench.look()
    assert told.reached == [("own", "key_1", 50)]
    calls(traffic, clock, 1)
    for _ in range(3):
        bench.look()
        clock.advance(5)
    assert told.reached == [("calls", None, 80), ("own", "key_1", 50)]
    calls(traffic, clock, 50, "key_2")
    bench.look()
    assert told.reached == [("calls", None, 100), ("calls", None, 80), ("own", "key_1", 50), ("own", "key_2", 50)]
    event = next(one for one in told.events if one.data.threshold_percent == 100)
    assert (event.data.used, event.data.limit_amount, event.data.org_id) == (130, 100, "acme")
    assert (event.data.period.start, event.data.period.end) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")


def test_each_period_fires_anew(bench: Bench, traffic: Traffic, told: Told, clock: Clock) -> None:
    calls(traffic, clock, 80)
    bench.look()
    clock.set(at("2026-12-01T00:00:10Z"))
    calls(traffic, clock, 1)
    bench.look()
    assert len(told.events) == 2
    calls(traffic, clock, 80)
    bench.look()
    assert len(told.events) == 4
    assert len({event.id for event in told.events}) == 4


def test_a_raised_quota_may_fire_anew(bench: Bench, traffic: Traffic, told: Told, clock: Clock) -> None:
    calls(traffic, clock, 80)
    bench.look()
    bench.usage.plans.assign("acme", "free", overrides={"calls": 200, "own": 1000})
    calls(traffic, clock, 79)
    bench.look()
    assert told.reached == [("calls", None, 80), ("own", "key_1", 50)]
    calls(traffic, clock, 1)
    bench.look()
    assert told.reached == [("calls", None, 80), ("calls", None, 80), ("own", "key_1", 50)]


def test_corrections_do_not_unfire(bench: Bench, traffic: Traffic, told: Told, clock: Clock) -> None:
    calls(traffic, clock, 80)
    bench.look()
    bench.usage.correct(
        "acme", id="t", at=datetime(2026, 11, 20, 13, 45, tzinfo=UTC), key="key_1", endpoint="GET /v1/items", status=200,
        calls=-50, reason="not theirs",
    )  # fmt: skip
    calls(traffic, clock, 50)
    bench.look()
    assert [one for one in told.reached if one[0] == "calls"] == [("calls", None, 80)]


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60), st.booleans()), min_size=1, max_size=8), st.integers(0, 10**9))
def test_it_fires_once_over_four_workers_that_are_killed(
    make_usage: Callable[..., Usage], steps: list[tuple[int, int, bool]], number: int
) -> None:
    """Workers count in any order; some are killed between the creation of an alert and its delivery."""
    clock, told = Clock(), Told()
    usages = [make_usage(**OPTIONS, clock=clock, namespace=f"t{number}{time.monotonic_ns()}") for _ in range(1)]
    usages += [make_usage(**OPTIONS, clock=clock, namespace=usages[0].settings.namespace) for _ in range(3)]
    benches = [Bench(usage, [told], clock) for usage in usages]
    total = 0
    for worker, times, is_killed in steps:
        calls(Traffic(usages[worker], clock), clock, times)
        total += times
        deliver = benches[worker].alerting._delivery
        if is_killed:
            benches[worker].alerting._delivery = None
        threads = [threading.Thread(target=bench.look) for bench in (benches[worker], benches[(worker + 1) % 4])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        benches[worker].alerting._delivery = deliver
    clock.advance(LEASE_SECONDS)
    benches[0].look()
    expected = [("calls", None, percent) for percent in (80, 100) if total >= percent] + [("own", "key_1", 50)] * (total >= 5)
    assert told.reached == sorted(expected, key=str)
    for usage in usages:
        usage.close()


def test_what_fails_is_tried_again(bench: Bench, traffic: Traffic, told: Told, clock: Clock) -> None:
    told.error = NotDelivered("500")
    calls(traffic, clock, 6)
    bench.look()
    for number, pause in enumerate(PAUSES[:3]):
        assert len(told.events) == number + 1
        clock.advance(pause - 0.1)
        bench.look()
        assert len(told.events) == number + 1
        clock.advance(pause)
        bench.look()
    assert len({event.id for event in told.events}) == 1
    told.error = None
    clock.advance(PAUSES[3] * 2)
    bench.look()
    clock.advance(PAUSES[-1] * 2)
    bench.look()
    assert len(told.events) == 5
    assert not bench.usage.engine.client.keys(f"{bench.usage.settings.namespace}:*outbox*")


@pytest.mark.parametrize("gone", [True, False])
def test_it_is_not_tried_for_ever(bench: Bench, traffic: Traffic, told: Told, clock: Clock, gone: bool) -> None:
    told.error = NotDelivered("no", is_final=gone)
    calls(traffic, clock, 6)
    bench.look()
    clock.advance(GIVE_UP_SECONDS)
    bench.look()
    assert len(told.events) == (1 if gone else 2)
    clock.advance(GIVE_UP_SECONDS)
    bench.look()
    assert len(told.events) == (1 if gone else 2)


def test_another_worker_delivers_what_a_killed_one_has_leased(
    bench: Bench, make_usage: Callable[..., Usage], traffic: Traffic, told: Told, clock: Clock
) -> None:
    killed = Told()
    other = Bench(make_usage(**OPTIONS), [killed], clock)
    killed.error = SystemExit()
    deliver = other.alerting._delivery
    assert deliver is not None
    deliver._outbox.settle = lambda *given: None  # type: ignore[method-assign]
    calls(traffic, clock, 6)
    other.look()
    bench.look()
    assert (len(killed.events), len(told.events)) == (1, 0)
    clock.advance(LEASE_SECONDS + 1)
    bench.look()
    assert [event.id for event in told.events] == [event.id for event in killed.events]


def test_each_of_several_targets_gets_it(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    one, two = Told(), Told()
    one.error = RuntimeError("one fails")
    bench = Bench(usage, [one, two], clock)
    calls(traffic, clock, 6)
    bench.look()
    assert (len(one.events), len(two.events)) == (1, 1)
    clock.advance(60)
    bench.look()
    assert (len(one.events), len(two.events)) == (2, 1)


def test_a_target_that_hangs_is_left(
    bench: Bench, traffic: Traffic, told: Told, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "TARGET_SECONDS", 0.05)
    release = threading.Event()
    waiting = Bench(bench.usage, [lambda event: release.wait(20)], clock)  # type: ignore[list-item]
    calls(traffic, clock, 6)
    waiting.look()
    release.set()
    clock.advance(60)
    bench.look()
    assert len(told.events) == 1


def test_a_slow_target_takes_no_time_from_redis(
    bench: Bench, traffic: Traffic, told: Told, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after it, such as noting that it was delivered, has its own time."""
    monkeypatch.setattr(alerting, "STEP_SECONDS", 0.05)

    class Slow(Told):
        def __call__(self, event: AlertEvent) -> None:
            threading.Event().wait(0.2)
            told(event)

    slow = Bench(bench.usage, [Slow()], clock)
    calls(traffic, clock, 6)
    slow.look()
    clock.advance(LEASE_SECONDS + 1)
    slow.look()
    assert len(told.events) == 1


def test_an_alert_that_is_created_meanwhile_is_not_overlooked(
    bench: Bench, make_usage: Callable[..., Usage], traffic: Traffic, told: Told, clock: Clock
) -> None:
    """One worker finds no alert that is due; before it says so, another one creates one."""
    other = Bench(make_usage(**OPTIONS), [told], clock)
    first, second = bench.alerting._delivery, other.alerting._delivery
    assert first is not None
    assert second is not None
    other.alerting._delivery = None
    look_again = first._outbox.look_again

    def later(org: str, was: float) -> None:
        calls(traffic, clock, 80)
        other.look()
        look_again(org, was)

    calls(traffic, clock, 6)
    first._outbox.orgs.enter("acme", int(clock() * 1000))
    monkey = pytest.MonkeyPatch()
    monkey.setattr(first._outbox, "look_again", later)
    first.deliver()
    monkey.undo()
    first.deliver()
    assert told.reached == [("calls", None, 80), ("own", "key_1", 50)]


def test_what_has_fired_stands_in_details(bench: Bench, traffic: Traffic, clock: Clock) -> None:
    calls(traffic, clock, 90)
    bench.look()
    clock.advance(5)
    found = bench.usage.reader.details(org="acme")
    assert [(one.code, one.severity, one.key_id, one.value, one.limit) for one in found.alerts] == [
        ("threshold_reached", "warning", None, 90, 100),
        ("threshold_reached", "warning", "key_1", 90, 10),
    ]
    assert [(one.code, one.key_id) for one in found.recommendations] == [("near_quota", None), ("raise_limit", "key_1")]
    own = bench.usage.reader.details(Viewer.key("acme", "key_1"))
    assert [(one.code, one.key_id) for one in own.alerts] == [("threshold_reached", "key_1")]
    other = bench.usage.reader.details(Viewer.key("acme", "key_2"))
    assert (list(other.alerts), list(other.recommendations)) == ([], [])
    clock.set(at("2026-12-01T00:00:10Z"))
    assert not bench.usage.reader.details(org="acme").alerts


def test_every_number_of_a_message_is_in_its_object(make_usage: Callable[..., Usage], clock: Clock) -> None:
    """Thresholds, what is near, over and beyond, and what is odd about keys."""
    plan = Plan("free", Limit("requests", 50), Quota("calls", 100), Quota("own", 10, by="key", alerts=(50,)))
    usage = make_usage(**{**OPTIONS, "plans": (plan,)})
    bench, traffic = Bench(usage, [Told()], clock), Traffic(usage, clock)
    for number, day in enumerate(range(2, 20)):
        traffic.calls(f"2026-11-{day:02}T10:00:00Z", times=number % 3)
    traffic.calls("2026-11-20T10:00:00Z", times=1, key="key_9")
    traffic.calls("2026-11-20T13:45:00Z", times=73, status=404)
    traffic.calls("2026-11-20T13:45:10Z", times=37, key="key_2")
    traffic.reach()
    seen: set[str] = set()
    for amount in (90, 140):
        usage.plans.assign("acme", "free", overrides={"calls": amount})
        clock.advance(5)
        bench.look()
        for key in (None, "key_1", "key_2", "key_9"):
            report = usage.reader.details(org="acme", key_id=key)
            for one in (*report.alerts, *report.recommendations):
                seen.add(one.code)
                told = {float(part.replace(",", "")) for part in re.findall(r"(?<![-:T])\b\d[\d,.]*\b(?![-:])", one.message)}
                known = {number for number in (one.value, one.limit, one.baseline) if number is not None}
                assert told <= known | {round(number * 100, 1) for number in known}, one
    assert seen >= {"threshold_reached", "near_quota", "raise_limit", "spike", "rotate_spiking", "high_404_rate"}


def test_recommendations_rest_on_numbers(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    usage.keys.put("acme", KeyInfo("key_9", "Idle", created_at=at("2026-01-01T00:00:00Z")))
    traffic.calls("2026-11-20T10:00:00Z", times=40)
    traffic.calls("2026-11-20T10:00:00Z", times=60, status=404)
    traffic.reach()
    (high,) = [one for one in usage.reader.details(org="acme").recommendations if one.code == "high_404_rate"]
    assert (high.value, high.baseline) == (0.6, 0.1)
    assert high.message.startswith("60.0% of the calls")
    (dormant,) = usage.reader.details(org="acme", key_id="key_9").recommendations
    assert (dormant.code, dormant.key_id, dormant.baseline) == ("revoke_dormant", "key_9", 30)
    assert f"{dormant.value:g}" in dormant.message


def test_alerts_come_by_themselves(make_usage: Callable[..., Usage], told: Told) -> None:
    usage = make_usage(**OPTIONS, on_alert=told)
    for _ in range(100):
        record_call(usage.recorder, ("acme", "key_1"), "GET /v1/items", (), 200, 8000, 100, ())
    assert usage.flush()
    eventually(lambda: len(told.events) == 3)
    assert told.reached == [("calls", None, 100), ("calls", None, 80), ("own", "key_1", 50)]


@pytest.mark.parametrize("wrong", [7, "https://hooks.example", [None]])
def test_what_can_be_told(make_usage: Callable[..., Usage], wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="on_alert must be"):
        make_usage(**OPTIONS, on_alert=wrong)


def test_what_is_left_is_known_soon(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    calls(traffic, clock, 6)
    eventually(lambda: usage.remaining("acme", "calls") is not None)
    found = usage.remaining("acme", "calls")
    assert found is not None
    assert (found.used, found.limit, found.over, found.as_of) == (6, 100, False, clock.now)
    assert usage.remaining("acme", "nothing") is None
    began = time.perf_counter()
    for _ in range(10_000):
        usage.remaining("acme", "calls")
    assert (time.perf_counter() - began) / 10_000 < 50e-6


def test_without_plans_nothing_is_left_and_no_thread_runs(make_usage: Callable[..., Usage]) -> None:
    usage = make_usage()
    assert usage.remaining("acme", "calls") is None
    record_call(usage.recorder)
    assert usage.flush()
    assert usage._alerting._thread is None
