"""What `Usage(plans=...)` may be given, and which plans can be measured."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from usage_middleware import Assigned, Limit, Plan, Price, Quota
from usage_middleware.errors import ConfigurationError
from usage_middleware.options import Settings, retention
from usage_middleware.plans.assignment import Change, History
from usage_middleware.plans.declared import declared_plans
from usage_middleware.plans.reach import check_reach
from usage_middleware.plans.records import MOST_CHANGES, decode, encode, lasting, with_change

FREE = Plan("free", Limit("requests", 60), Quota("calls", 10_000))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"plans": FREE}, "plans must be a list or tuple of Plan"),
        ({"plans": "free"}, "plans must be a list or tuple of Plan"),
        ({"plans": ["free"]}, "'free' is none"),
        ({"plans": [FREE, FREE]}, "two of the name 'free'"),
        ({"plans": [Plan("p", Quota("records", 1, of="records"))]}, "of of Quota 'records' must be one of calls, bytes"),
        ({"plans": [FREE], "default_plan": "pro"}, "default_plan must be one of free, not 'pro'"),
        ({"plans": [], "default_plan": "pro"}, r"one of \(none is declared\)"),
        ({"plans": [FREE], "plan_of": "free"}, "plan_of must be a function"),
        ({"plans": [], "plan_of": lambda org: None}, "plan_of says who has which plan, and there is none"),
        ({"plans": [Plan("y", Quota("calls", 1, by="key", per="year"))], "default_plan": "y"}, None),
    ],
)
def test_what_may_be_declared(options: dict[str, Any], said: str | None) -> None:
    given: dict[str, Any] = {"default_plan": None, "plan_of": None, **options}
    if said is None:
        assert declared_plans(settings=Settings(), **given).is_on
    else:
        with pytest.raises(ConfigurationError, match=said):
            declared_plans(settings=Settings(), **given)


UNPACKED = Settings(history=False)
SHORT = replace(UNPACKED, retention=retention({"key": {"middle": timedelta(days=30)}, "series": {"day": timedelta(days=300)}}))


@pytest.mark.parametrize(
    ("plan", "timezone", "settings", "said"),
    [
        (Plan("p", Quota("calls", 1)), "Europe/Berlin", Settings(), None),
        (Plan("p", Quota("calls", 1, by="key")), "Europe/Berlin", Settings(), None),
        (Plan("p", prices=[Price("calls", unit="1")], currency="EUR"), "America/New_York", Settings(), None),
        (Plan("p", Quota("calls", 1)), "Asia/Kathmandu", Settings(), r"Usage\(slot_minutes=15\)"),
        (Plan("p", Quota("calls", 1)), "Asia/Kathmandu", Settings(slot_minutes=15), None),
        (Plan("p", Quota("calls", 1, by="key")), "UTC", SHORT, None),
        (
            Plan("p", Quota("calls", 1, by="key")),
            "Europe/Berlin",
            SHORT,
            r'Quota \'calls\' of plan \'p\' needs .* 41 days: set Usage\(retention=\{"key": \{"middle": timedelta\(days=41\)',
        ),
        (Plan("p", prices=[Price("calls", unit="1")], currency="EUR"), "Europe/Berlin", SHORT, "Price 'calls'"),
        (Plan("p", Quota("calls", 1, per="week", by="key")), "Europe/Berlin", SHORT, None),
        (Plan("p", Quota("calls", 1, per="year")), "UTC", SHORT, r'"series": \{"day": timedelta\(days=376\)'),
        (Plan("p", Quota("calls", 1, per="year")), "Europe/Berlin", UNPACKED, r'"series": \{"middle"'),
        (Plan("p", Quota("calls", 1, per="year")), "Europe/Berlin", Settings(), None),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(plan: Plan, timezone: str, settings: Settings, said: str | None) -> None:
    assigned = Assigned(plan="p", timezone=timezone)
    if said is None:
        check_reach(plan, assigned, settings)
    else:
        with pytest.raises(ConfigurationError, match=said):
            check_reach(plan, assigned, settings)


def test_a_history_is_kept_as_it_was() -> None:
    changes = [
        Change(0, Assigned(plan=None)),
        Change(100, Assigned(plan="pro", anchor=date(2026, 1, 31), timezone="Europe/Berlin", overrides={"calls": 9}), True),
    ]
    assert decode(encode(changes)) == changes


@pytest.mark.parametrize(
    "damaged", ["", "[", "{}", '[{"at": 1}]', encode([Change(0, Assigned(plan="p"))]).replace("UTC", "Moon")]
)
def test_a_damaged_history_is_none(damaged: str) -> None:
    assert decode(damaged) is None


def test_what_no_counter_reaches_back_to_is_forgotten() -> None:
    pro = Assigned(plan="pro")
    changes = [Change(at, pro) for at in (10, 20, 30, 40)]
    assert lasting(changes, 25) == changes[1:]
    assert lasting(changes, 5) == changes
    with pytest.raises(ConfigurationError, match="1,000 times"):
        lasting([Change(at, pro) for at in range(MOST_CHANGES + 1)], -1)


def test_a_change_takes_the_place_of_those_until_it_was_made() -> None:
    pro, free = Assigned(plan="pro"), Assigned(plan="free")
    changes = [Change(at, pro) for at in (10, 20, 30)]
    assert with_change(changes, Change(40, free), 40) == [*changes, Change(40, free)]
    assert with_change(changes, Change(30, free), 30) == [*changes[:2], Change(30, free)]
    assert with_change(changes, Change(15, free), 25) == [changes[0], Change(15, free), changes[2]]


def test_the_default_plan_holds_before_the_first_assignment() -> None:
    history = History([Change(100, Assigned(plan="pro", anchor=date(2026, 1, 15)))], "free")
    before, after = history.at(99), history.at(100)
    assert before is not None
    assert after is not None
    assert (before.plan, after.plan, before.anchor) == ("free", "pro", date(2026, 1, 15))
    assert History((), "free").at(0) == Assigned(plan="free")
    assert History(()).at(0) is None
