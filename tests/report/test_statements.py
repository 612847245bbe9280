"""Final statements never move, whoever makes them; what changes later is carried once."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.seeds.traffic import Traffic, at
from tests.support import Clock, eventually, examples, record_call
from usage_middleware import Plan, Price, Usage, Viewer
from usage_middleware.periods import DAY
from usage_middleware.plans.billing import Period
from usage_middleware.report.statements import Biller

FREE, PRO = Plan("free"), Plan("pro", prices=(Price("calls", unit="0.01"),), currency="EUR")
OPTIONS: dict[str, Any] = {"plans": (FREE, PRO), "flush_interval": 3600}


@pytest.fixture
def usage(make_usage: Callable[..., Usage], clock: Clock) -> Usage:
    found = make_usage(**OPTIONS)
    # Statements are made when a test asks for them.
    found._alerting._is_on = False
    clock.set(at("2026-09-01T00:00:00Z"))
    found.plans.assign("acme", "pro")
    return found


@pytest.fixture
def traffic(usage: Usage, clock: Clock) -> Traffic:
    found = Traffic(usage, clock)
    found.calls("2026-09-10T12:00:00Z", times=100)
    return found


def cost(usage: Usage, period: str = "current", **asked: Any) -> Any:
    return usage.reader.cost(org="acme", period=period, **asked)


def correct(usage: Usage, month: int, calls: int, key: str = "key_1") -> None:
    usage.correct(
        "acme", id=secrets.token_hex(8), at=datetime(2026, month, 10, 12, tzinfo=UTC), key=key, endpoint="GET /v1/items",
        calls=calls, status=200, reason="not theirs",
    )  # fmt: skip


def lines(report: Any) -> list[tuple[str, int, bool]]:
    return [(line.amount, line.quantity, line.carried) for line in report.lines]


def test_what_is_left_over_is_shown_by_one_period(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    """September is final; October has ended, and may still get calls; November runs."""
    clock.set(at("2026-10-05T00:00:00Z"))
    assert cost(usage, "previous").state == "final"
    correct(usage, 9, -30)
    traffic.calls("2026-10-31T23:59:50Z")
    clock.set(at("2026-11-01T00:00:01Z"))
    assert (cost(usage, "previous").state, lines(cost(usage, "previous"))) == (
        "provisional",
        [("0.01", 1, False), ("-0.30", -30, True)],
    )
    assert lines(cost(usage)) == [("0.00", 0, False)]
    assert usage.flush()
    clock.advance(10)
    assert lines(cost(usage)) == [("0.00", 0, False)]
    assert cost(usage, "previous").state == "final"


def test_the_running_period_makes_those_before_it_final(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    """Nobody has asked for September. What changes after it was final is of October."""
    clock.set(at("2026-10-05T00:00:00Z"))
    assert lines(cost(usage)) == [("0.00", 0, False)]
    correct(usage, 9, -30)
    clock.advance(10)
    assert lines(cost(usage)) == [("0.00", 0, False), ("-0.30", -30, True)]
    assert (cost(usage, "previous").total, cost(usage, "previous").state) == ("1.00", "final")


def test_a_month_without_prices_carries_too_and_once(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    usage.plans.assign("acme", "free", from_=date(2026, 10, 1))
    clock.set(at("2026-10-05T00:00:00Z"))
    correct(usage, 9, -30)
    clock.advance(10)
    assert (cost(usage).total, lines(cost(usage))) == (None, [])
    assert cost(usage, "2026-09").total == "0.70"
    correct(usage, 9, -20)
    clock.advance(10)
    assert (cost(usage).total, lines(cost(usage))) == ("-0.20", [("-0.20", -20, True)])
    clock.set(at("2026-11-05T00:00:00Z"))
    october = cost(usage, "2026-10")
    assert (october.state, october.total, october.plan) == ("final", "-0.20", "free")
    correct(usage, 9, -10)
    clock.advance(10)
    assert (cost(usage, "2026-10").digest, lines(cost(usage, "2026-10"))) == (october.digest, lines(october))
    assert lines(cost(usage)) == [("-0.10", -10, True)]
    clock.set(at("2026-12-05T00:00:00Z"))
    assert lines(cost(usage, "2026-11")) == [("-0.10", -10, True)]
    assert lines(cost(usage)) == []


def test_a_month_that_carried_nothing_never_does(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    usage.plans.assign("acme", "free", from_=date(2026, 10, 1))
    clock.set(at("2026-11-05T00:00:00Z"))
    assert (cost(usage, "2026-10").state, cost(usage, "2026-10").total) == ("final", None)
    assert cost(usage, "2026-09").total == "1.00"
    clock.set(at("2026-12-05T00:00:00Z"))
    assert (cost(usage, "2026-11").state, cost(usage, "2026-11").total) == ("final", None)
    correct(usage, 9, -30)
    clock.advance(10)
    assert (cost(usage, "2026-11").state, cost(usage, "2026-11").total) == ("final", None)
    assert lines(cost(usage)) == [("-0.30", -30, True)]


def test_an_old_period_that_is_asked_for_late_carries_nothing_again(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    """October is asked for when November has carried what September left over."""
    clock.set(at("2026-10-05T00:00:00Z"))
    assert cost(usage, "previous").total == "1.00"
    clock.set(at("2026-11-20T00:00:00Z"))
    correct(usage, 9, -30)
    clock.set(at("2026-12-05T00:00:00Z"))
    assert lines(cost(usage, "2026-11")) == [("0.00", 0, False), ("-0.30", -30, True)]
    assert lines(cost(usage, "2026-10")) == [("0.00", 0, False)]


def test_what_makes_a_period_final_is_in_its_statement(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    """What was read for the provisional statement is still known, and lacks the last calls."""
    clock.set(at("2026-09-30T23:59:59Z"))
    assert usage.flush()
    for _ in range(20):
        record_call(usage.recorder, ("acme", "key_1"), "GET /v1/items", (), 200, 8000, 100, ())
    clock.set(at("2026-10-01T00:00:05Z"))
    assert (cost(usage, "previous").state, cost(usage, "previous").total) == ("provisional", "1.00")
    assert usage.flush()
    assert (cost(usage, "previous").state, cost(usage, "previous").total) == ("final", "1.20")


def test_a_plan_that_is_not_declared_any_more_is_never_final(
    usage: Usage, make_usage: Callable[..., Usage], traffic: Traffic, clock: Clock
) -> None:
    clock.set(at("2026-10-05T00:00:00Z"))
    other = make_usage(plans=(FREE,), flush_interval=3600)
    assert (cost(other, "previous").state, cost(other, "previous").plan, cost(other, "previous").total) == (
        "provisional",
        "pro",
        None,
    )
    assert (cost(usage, "previous").state, cost(usage, "previous").total) == ("final", "1.00")
    clock.advance(10)
    assert (cost(other, "previous").state, cost(other, "previous").total) == ("final", "1.00")


def test_a_key_viewer_gets_no_digest_of_what_others_pay(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    """With few keys and known prices it would tell what they use."""
    clock.set(at("2026-10-05T00:00:00Z"))
    assert cost(usage, "previous").digest is not None
    found = usage.reader.cost(Viewer.key("acme", "key_1"), period="previous")
    assert (found.state, found.digest, found.total) == ("final", None, "1.00")


def test_workers_that_make_it_together_make_one(
    usage: Usage, make_usage: Callable[..., Usage], traffic: Traffic, clock: Clock
) -> None:
    """Each has other numbers, for corrections come in meanwhile; all show the one that was kept first."""
    workers = [usage, *(make_usage(**OPTIONS) for _ in range(3))]
    clock.set(at("2026-10-05T00:00:00Z"))
    found: list[Any] = []

    def ask(worker: Usage) -> None:
        for _ in range(5):
            correct(worker, 9, -1)
            found.append(cost(worker, "previous"))

    threads = [threading.Thread(target=ask, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(one.state, one.total, one.digest) for one in found}) == 1
    clock.advance(10)
    (carried,) = [line for line in cost(usage).lines if line.carried]
    assert Decimal(found[0].total) + Decimal(carried.amount) == Decimal("0.80")


def test_what_moves_from_key_to_key_is_carried(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    """No sum changes, neither then nor when it is moved on; the shares do."""
    clock.set(at("2026-10-05T00:00:00Z"))
    assert (cost(usage, "2026-09").state, cost(usage, "2026-09").corrected) == ("final", [])
    for source, target in (("key_1", "key_2"), ("key_2", "key_3")):
        correct(usage, 9, -30, source)
        correct(usage, 9, 30, target)
        clock.advance(10)
    assert lines(cost(usage)) == [("0.00", 0, False), ("0.00", 0, True)]
    assert {row.key_id: row.amount for row in cost(usage).rows} == {"key_1": "-0.30", "key_3": "0.30"}
    assert [(line.quantity, line.amount) for line in cost(usage, "2026-09").corrected] == [(0, "0.00")]


steps = st.one_of(
    st.tuples(st.just("calls"), st.integers(0, 3), st.integers(1, 40)),
    st.tuples(st.just("correct"), st.integers(0, 3), st.integers(-20, 20).filter(bool)),
    st.tuples(st.just("plan"), st.integers(0, 3), st.sampled_from([0, 1])),
    st.tuples(st.just("time"), st.integers(0, 3), st.integers(1, 40)),
    st.tuples(st.just("ask"), st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.just("close"), st.integers(0, 3), st.just(0)),
)


@settings(deadline=None, max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, min_size=5, max_size=25))
def test_all_that_was_used_is_paid_for_once(make_usage: Callable[..., Usage], script: list[tuple[str, int, int]]) -> None:
    """Four workers count, correct, change the plan, and make statements at any time."""
    clock = Clock(at("2026-09-01T00:00:00Z"))
    options = {**OPTIONS, "clock": clock, "namespace": f"t{secrets.token_hex(6)}"}
    workers = [make_usage(**options) for _ in range(4)]
    workers[0].plans.assign("acme", "pro")
    finals: dict[str, Any] = {}
    for kind, number, much in script:
        _do(workers[number], clock, kind, number, much)
        clock.advance(10)
        for worker in workers:
            eventually(worker.flush)
        _remember(workers[number], clock, finals)
    _check_sums(workers[0], clock)
    for worker in workers:
        worker.close()


def _do(worker: Usage, clock: Clock, kind: str, number: int, much: int) -> None:
    context = worker.reader.context(Viewer.operator())
    plans = context.plans.of("acme")
    periods = _periods(worker, clock)
    if kind == "calls":
        now = datetime.fromtimestamp(clock(), UTC).isoformat()
        Traffic(worker, clock).calls(now, times=much, key=f"key_{number}")
    elif kind == "correct":
        worker.backfill(
            [
                {
                    "org": "acme", "id": secrets.token_hex(8), "key": f"key_{number}", "endpoint": "GET /v1/items",
                    "status": 200, "calls": abs(much), "at": datetime.fromtimestamp(periods[much % len(periods)].start, UTC),
                }
            ]
        )  # fmt: skip
    elif kind == "plan":
        worker.plans.assign("acme", ("free", "pro")[much])
    elif kind == "time":
        clock.advance(much * DAY / 2)
    elif kind == "close":
        Biller(context, "acme", plans).close()
    else:
        cost(worker, _day(periods[much % len(periods)].start))


def _periods(worker: Usage, clock: Clock) -> list[Period]:
    """The periods so far, the latest first."""
    history = worker.reader.plans.of("acme").history
    found = [history.period(int(clock()))]
    while found[-1].start > at("2026-09-01T00:00:00Z"):
        found.append(history.period(found[-1].start - 1))
    return found


def _remember(worker: Usage, clock: Clock, finals: dict[str, Any]) -> None:
    """What was final once is the same for ever."""
    for period in _periods(worker, clock):
        found = cost(worker, _day(period.start))
        shown = (found.total, found.lines, found.rows, found.digest, found.plan)
        if found.state == "final":
            assert finals.setdefault(_day(period.start), shown) == shown


def _check_sums(worker: Usage, clock: Clock) -> None:
    """Each month's own line and what others carried of it come to what was used in it."""
    paid: dict[str, Decimal] = {}
    reports = [cost(worker, _day(period.start)) for period in _periods(worker, clock)]
    for report in reports:
        assert sum((Decimal(row.amount) for row in report.rows), Decimal(0)) == Decimal(report.total or 0)
        for line in report.lines:
            origin = line.carried_from or report.period.start
            paid[origin] = paid.get(origin, Decimal(0)) + Decimal(line.amount)
    for report in reports:
        if report.period.start in paid and report.plan == "pro":
            start, end = (datetime.fromisoformat(edge) for edge in (report.period.start, report.period.end))
            used = worker.reader.by_key(org="acme", start=start, end=min(end, datetime.fromtimestamp(clock(), UTC)))
            assert paid[report.period.start] == used.totals.request_count * Decimal("0.01"), report.period


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
