"""Other amounts of limits and quotas, given and taken back at any time: every place shows and compares the same ones."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from math import inf
from typing import Any, NamedTuple

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.alerts.bench import Bench, Told
from tests.seeds.traffic import Traffic, at
from tests.support import Clock, eventually, examples
from usage_middleware import Limit, Plan, Price, Quota, Usage
from usage_middleware.errors import ConfigurationError
from usage_middleware.periods import HOUR

START = at("2026-11-20T13:45:20Z")
PLANS = {
    "one": Plan(
        "one",
        Limit("requests", 5),
        Quota("calls", 40, alerts=(50, 100)),
        Quota("own", 10, by="key", alerts=(50, 100)),
        Quota("day", 15, per="day"),
        prices=(Price("calls", unit="0.01"),),
        currency="EUR",
    ),
    "two": Plan("two", Quota("calls", 60, alerts=(80,)), Limit("requests", 7), Quota("own", 20, by="key", alerts=(100,))),
}
KEYS = ("key_1", "key_2")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati")


class Assignment(NamedTuple):
    """From an instant on these amounts hold; `plan` None: none does."""

    at: float
    plan: str | None
    overrides: Mapping[str, int]

    def amounts(self, by: str) -> dict[str, int]:
        """The amounts of all limits and quotas of the organisation, or of a key."""
        parts = PLANS[self.plan].parts if self.plan else ()
        return {part.name: self.overrides.get(part.name, part.amount) for part in parts if part.by == by}


class Oracle:
    """What was assigned to the organisation (None) and to its keys."""

    def __init__(self) -> None:
        self._found: dict[str | None, list[Assignment]] = {None: [Assignment(0, "one", {})]}

    def add(self, key: str | None, new: Assignment, since: float) -> None:
        """It is to hold `since` then, and may begin with the half-hour: what was assigned in between holds no longer."""
        others = [one for one in self._found.get(key, []) if not new.at <= one.at <= since]
        self._found[key] = sorted([*others, new], key=lambda one: one.at)

    def _at(self, now: float, key: str | None) -> Assignment | None:
        return next((one for one in reversed(self._found.get(key, [])) if one.at <= now), None)

    def of_org(self, now: float) -> dict[str, int]:
        found = self._at(now, None)
        assert found is not None
        return found.amounts("org")

    def of_key(self, now: float, key: str) -> dict[str, int]:
        found = self._at(now, key) or self._at(now, None)
        assert found is not None
        return found.amounts("key")


def overrides(*names: str) -> st.SearchStrategy[dict[str, int]]:
    return st.dictionaries(st.sampled_from(names), st.integers(0, 80), max_size=len(names))


hours = st.none() | st.integers(-60, 60).map(lambda quarters: quarters * 900 + 7)
steps = st.one_of(
    st.tuples(
        st.just("assign"),
        st.sampled_from(list(PLANS)),
        overrides("calls", "own", "requests"),
        hours,
        st.sampled_from([None, date(2026, 1, 1), date(2026, 1, 15), date(2026, 1, 31)]),
        st.none() | st.sampled_from(ZONES),
        st.booleans(),
    ),
    st.tuples(st.just("key"), st.sampled_from(KEYS), st.sampled_from([*PLANS, None]), overrides("own"), hours),
    st.tuples(st.just("calls"), st.sampled_from(KEYS), st.integers(1, 30)),
    st.tuples(st.just("time"), st.integers(1, 90)),
)
#: A quota that is lowered for an hour, in the midst of a period, and then as it was.
LOWERED_AND_RAISED = [
    ("calls", "key_1", 12),
    ("assign", "one", {"calls": 10}, None, None, None, False),
    ("time", 1),
    ("assign", "one", {}, None, None, None, False),
    ("calls", "key_1", 9),
]


@settings(deadline=None, max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, min_size=3, max_size=10))
@example(LOWERED_AND_RAISED)
def test_amounts_are_the_same_wherever_they_are_told(make_usage: Callable[..., Usage], script: Sequence[Any]) -> None:
    clock, told, oracle = Clock(START), Told(), Oracle()
    usage = make_usage(
        plans=list(PLANS.values()), default_plan="one", flush_interval=3600, clock=clock, namespace=f"t{secrets.token_hex(6)}"
    )
    bench = Bench(usage, [told], clock)
    for step in script:
        _do(usage, clock, oracle, step)
        known = len(told.events)
        for _ in range(2):
            clock.advance(6)
            eventually(usage.flush)
            bench.look()
        _check_views(usage, bench, clock, oracle)
        _check_alerts(usage, told, known, clock, oracle)
    usage.close()


def _do(usage: Usage, clock: Clock, oracle: Oracle, step: Any) -> None:
    kind, *how = step
    if kind == "assign":
        _assign(usage, clock, oracle, *how)
    elif kind == "key":
        key, plan, amounts, shift = how
        amounts = amounts if plan else {}
        usage.plans.assign("acme", plan, key=key, overrides=amounts, from_=_time(clock, shift))
        since = math.floor(clock() + (shift or 0))
        oracle.add(key, Assignment(since, plan, amounts), since)
    elif kind == "calls":
        Traffic(usage, clock).calls(datetime.fromtimestamp(clock(), UTC).isoformat(), times=how[1], key=how[0])
    else:
        clock.advance(how[0] * HOUR)


def _assign(
    usage: Usage, clock: Clock, oracle: Oracle, plan: str, amounts: dict[str, int], shift: int | None, anchor: Any, zone: Any,
    now: bool,
) -> None:  # fmt: skip
    since = math.floor(clock() + (shift or 0))
    # What would move a period whose statement is final is refused, and changes nothing.
    with suppress(ConfigurationError):
        usage.plans.assign("acme", plan, overrides=amounts, from_=_time(clock, shift), anchor=anchor, timezone=zone, now=now)
        oracle.add(None, Assignment(since // 1800 * 1800 if now else since, plan, amounts), since)


def _time(clock: Clock, shift: int | None) -> datetime | None:
    return None if shift is None else datetime.fromtimestamp(math.floor(clock() + shift), UTC)


def _check_views(usage: Usage, bench: Bench, clock: Clock, oracle: Oracle) -> None:
    report = usage.reader.limits(org="acme")
    rows = {row.name: row for row in report.limits if row.scope == "org"}
    assert {name: row.limit for name, row in rows.items()} == oracle.of_org(clock())
    _check_remaining(bench, clock, rows)
    _check_group(usage, rows)
    details = usage.reader.details(org="acme").rate_limits
    assert [(row.name, row.key_id, row.limit) for row in details or []] == _told(report.limits)
    of_keys = [row for row in report.limits if row.scope == "key"]
    for key in KEYS:
        own = usage.reader.limits(org="acme", key_id=key).limits
        assert {row.name: row.limit for row in own} == oracle.of_key(clock(), key)
        assert {(row.used, row.limit) for row in of_keys if row.key_id == key} == {
            (row.used, row.limit) for row in own if row.used
        }
    bill = usage.reader.cost(org="acme")
    assert bill.period == report.period
    assert {line.quantity for line in bill.lines if not line.carried} <= {rows["calls"].used}


def _check_remaining(bench: Bench, clock: Clock, rows: Mapping[str, Any]) -> None:
    for name in rows:
        bench.alerting.remaining("acme", name)
    clock.advance(3)
    bench.alerting._known._read.clear()
    bench.step()
    for name, row in rows.items():
        left = bench.alerting.remaining("acme", name)
        assert left is not None
        assert left.limit == row.limit
        if row.kind == "quota":
            assert (left.used, left.over) == (row.used, row.over)


def _check_group(usage: Usage, rows: Mapping[str, Any]) -> None:
    group = usage.reader.by_group(org="acme")
    quotas = [row for row in rows.values() if row.kind == "quota"]
    # All are of calls: the one of which most was used is shown.
    ratio = max(inf if row.used_ratio is None else row.used_ratio for row in quotas)
    shown = group.quota
    assert shown is not None
    assert ratio == (inf if shown.used_ratio is None else shown.used_ratio)
    row = rows[shown.name]
    assert (shown.included, shown.used, shown.period_start, shown.period_end) == (
        row.limit,
        row.used,
        row.period_start,
        row.period_end,
    )
    assert group.over_quota is any(row.over for row in rows.values() if row.kind == "quota")


def _told(rows: Iterable[Any]) -> list[tuple[str, str | None, int]]:
    return [(row.name, row.key_id, row.limit) for row in rows]


def _check_alerts(usage: Usage, told: Told, known: int, clock: Clock, oracle: Oracle) -> None:
    """All that is reached was told, by the amounts that hold; and of new ones, no others are."""
    fired = {
        (one.data.limit, one.data.key_id, one.data.threshold_percent, one.data.period.start, one.data.limit_amount)
        for one in told.events
    }
    assert len(fired) == len(told.events)
    rows = [row for row in usage.reader.limits(org="acme").limits if row.kind == "quota"]
    for row in rows:
        for percent in _percents(oracle, row, clock):
            if row.used > 0 and row.used * 100 >= percent * row.limit:
                assert (row.name, row.key_id, percent, row.period_start, row.limit) in fired
    for event in told.events[known:]:
        until = at(event.data.period.end)
        then = clock() if until > clock() else until - 1
        key = event.data.key_id
        amounts = oracle.of_org(then) if key is None else oracle.of_key(then, key)
        assert event.data.limit_amount == amounts[event.data.limit], (event, amounts)


def _percents(oracle: Oracle, row: Any, clock: Clock) -> Sequence[int]:
    """The thresholds of a quota: those of the plan that holds."""
    found = oracle._at(clock(), row.key_id) or oracle._at(clock(), None)
    assert found is not None
    assert found.plan is not None
    return next(quota.alerts for quota in PLANS[found.plan].quotas if quota.name == row.name)
