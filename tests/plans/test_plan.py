"""Plans are checked when they are made, with errors that name the field and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from decimal import Decimal
from typing import Any

import pytest

from usage_middleware.errors import ConfigurationError
from usage_middleware.plans import Limit, Plan, Price, Quota


def test_a_plan_is_what_was_declared() -> None:
    tiers = ((100_000, "0"), (None, "0.0004"))
    parts = Limit("requests", 600, per="minute", by="key"), Quota("records", 1_000_000, of="records", alerts=(120, 75, 75))
    plan = Plan("pro", *parts, prices=(Price("records", of="records", graduated=tiers),), currency="EUR")
    assert plan.limits == (parts[0],)
    assert plan.quotas == (parts[1],)
    assert plan.quotas[0].alerts == (75, 120)
    assert plan.prices[0].graduated == ((100_000, Decimal(0)), (None, Decimal("0.0004")))
    assert plan.amounts == {"requests": 600, "records": 1_000_000}


def test_a_plan_can_not_be_changed() -> None:
    plan = Plan("free")
    with pytest.raises(FrozenInstanceError):
        plan.name = "pro"  # type: ignore[misc]


def test_a_unit_price_is_a_single_tier() -> None:
    assert Price("calls", unit="0.01") == Price("calls", graduated=((None, "0.01"),))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plan("Pro plan"), "name of Plan must be"),
        (lambda: Plan("pro", Price("calls", flat="1")), "prices stand in prices="),  # type: ignore[arg-type]
        (lambda: Plan("pro", Limit("calls", 1), Quota("calls", 2)), "'calls' stands there twice"),
        (lambda: Plan("pro", prices=(Price("calls", flat="1"),)), "needs a currency"),
        (lambda: Plan("pro", prices=(Price("calls", flat="1"),), currency="euro"), "three capital letters"),
        (lambda: Limit("calls", -1), "amount of Limit 'calls' must be a whole number"),
        (lambda: Limit("calls", 60, per="hour"), "per of Limit 'calls' must be 'minute', not 'hour'"),  # type: ignore[arg-type]
        (lambda: Limit("calls", 60, by="team"), "by of Limit 'calls' must be 'org' or 'key'"),  # type: ignore[arg-type]
        (lambda: Quota("calls", True), "amount of Quota 'calls'"),
        (lambda: Quota("calls", 1, per="hour"), "'day' or 'week' or 'month' or 'year'"),  # type: ignore[arg-type]
        (lambda: Quota("calls", 1, alerts=(80, 0)), "alerts of Quota 'calls' must be whole percents"),
        (lambda: Quota("calls", 1, alerts=range(1, 100)), "alerts of Quota 'calls'"),
        (lambda: Quota("out", 1, of="bytes", billable="successful"), "bytes is counted without a status"),
        (lambda: Price("calls", unit=0.01), "unit of Price 'calls' must be a str or a Decimal"),  # type: ignore[arg-type]
        (lambda: Price("calls", unit="much"), "must be a number"),
        (lambda: Price("calls", unit="-1"), "must be 0 or more"),
        (lambda: Price("calls", unit="NaN"), "must be 0 or more"),
        (lambda: Price("calls", unit="1e99"), "more digits"),
        (lambda: Price("calls"), "needs exactly one of flat, unit, graduated, volume, package"),
        (lambda: Price("calls", flat="1", unit="1"), "needs exactly one of"),
        (lambda: Price("calls", unit="1", included=-1), "included of Price 'calls'"),
        (lambda: Price("calls", graduated=((10, "1"),)), "needs a last tier with None"),
        (lambda: Price("calls", volume=((10, "1"), (10, "1"), (None, "1"))), "ascend from 1, not 10"),
        (lambda: Price("calls", volume=((None, "1"), (None, "1"))), "ascend from 1, not None"),
        (lambda: Price("calls", volume=((0, "1"), (None, "1"))), "ascend from 1, not 0"),
        (lambda: Price("calls", graduated=("cheap",)), "takes tiers such as"),  # type: ignore[arg-type]
        (lambda: Price("calls", package=(0, "1")), "needs a size"),
        (lambda: Price("calls", package="big"), "takes a size and an amount"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
        make()


def test_what_is_measured_must_be_declared() -> None:
    plan = Plan("pro", Quota("records", 10, of="records"))
    plan.check_units(("records",))
    with pytest.raises(ConfigurationError, match="of of Quota 'records' must be one of calls, bytes, rows, not 'records'"):
        plan.check_units(("rows",))
