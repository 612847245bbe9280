"""What a billing period costs: open, provisional, final; divided by key, owner and label; corrected and carried."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.seeds.traffic import Traffic, at
from tests.support import Clock
from usage_middleware import KeyInfo, Limit, Plan, Price, Quota, Usage, Viewer
from usage_middleware.errors import ConfigurationError, QueryError
from usage_middleware.plans.billing import Period
from usage_middleware.plans.plan import Price as PlanPrice
from usage_middleware.plans.statement import Line, Statement
from usage_middleware.plans.statement_record import FinalStatement, decode, encode

FREE = Plan("free", Limit("requests", 60), Quota("calls", 100))
PRO = Plan(
    "pro",
    Quota("calls", 1_000),
    prices=(Price("base", flat="10"), Price("calls", graduated=((100, "0"), (None, "0.013")))),
    currency="EUR",
)
DOLLARS = Plan("dollars", prices=(Price("calls", unit="1"),), currency="USD")
YEN = Plan("yen", prices=(Price("records", of="records", unit="0.5"),), currency="JPY")
OPTIONS: dict[str, Any] = {"plans": (FREE, PRO, DOLLARS, YEN), "counters": ("records",), "flush_interval": 3600}


@pytest.fixture
def usage(make_usage: Callable[..., Usage], clock: Clock) -> Usage:
    found = make_usage(**OPTIONS)
    # Statements are made when a test asks for them.
    found._alerting._is_on = False
    clock.set(at("2026-09-01T00:00:00Z"))
    found.keys.put("acme", KeyInfo("key_1", "Search", owner="ada", labels={"team": "search"}), secret="sk_acme")
    found.keys.put("acme", KeyInfo("key_2", "Maps", owner="bob", labels={"team": "maps"}))
    found.keys.put("acme", KeyInfo("key_3", "Tiles", owner="bob", labels={"team": "maps"}))
    found.plans.assign("acme", "pro")
    return found


@pytest.fixture
def traffic(usage: Usage, clock: Clock) -> Traffic:
    found = Traffic(usage, clock)
    found.calls("2026-09-10T12:00:00Z", times=100)
    found.calls("2026-09-11T12:00:00Z", times=300, key="key_2")
    found.calls("2026-09-12T12:00:00Z", times=33, key="key_3")
    return found


def cost(usage: Usage, period: str = "current", **asked: Any) -> Any:
    return usage.reader.cost(org="acme", period=period, **asked)


def amounts(report: Any) -> dict[str, str]:
    return {row.key_id or row.value: row.amount for row in report.rows}


def triples(lines: Iterable[Any]) -> list[tuple[str, int, str]]:
    return [(line.price, line.quantity, line.amount) for line in lines]


def test_a_period_that_runs(usage: Usage, traffic: Traffic) -> None:
    found = cost(usage)
    # 333 of 433 calls are beyond the first 100: 4.329.
    assert triples(found.lines) == [
        ("base", 433, "10.00"),
        ("calls", 433, "4.33"),
    ]
    assert (found.state, found.total, found.currency, found.plan, found.digest) == ("open", "14.33", "EUR", "pro", None)
    assert amounts(found) == {"key_2": "9.93", "key_1": "3.31", "key_3": "1.09"}
    assert sum(map(Decimal, amounts(found).values())) == Decimal(found.total)
    assert next((row.key_id, row.name, row.quantity) for row in found.rows) == ("key_2", "Maps", 300)


def test_a_chargeback(usage: Usage, traffic: Traffic) -> None:
    traffic.calls("2026-09-12T12:00:00Z", times=10, key="key_unknown")
    by_team, by_owner = cost(usage, by="label:team"), cost(usage, by="owner")
    assert list(amounts(by_team)) == ["maps", "search", "(unallocated)"]
    assert list(amounts(by_owner)) == ["bob", "ada", "(unallocated)"]
    assert sum(map(Decimal, amounts(by_team).values())) == Decimal(by_team.total)
    assert amounts(cost(usage, by="label:centre")) == {"(unallocated)": by_team.total}


def test_a_chargeback_that_can_be_added_up(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    clock.set(at("2026-10-15T00:00:00Z"))
    api = traffic.api()
    total = api.get("/cost?period=2026-09").json["total"]
    rows = list(csv.DictReader(api.get("/cost?period=2026-09&by=label:team&format=csv").body.decode().splitlines()))
    assert sum(Decimal(row["amount"]) for row in rows) == Decimal(total) == Decimal("14.33")
    assert {row["currency"] for row in rows} == {"EUR"}
    lines = list(csv.DictReader(api.get("/cost?period=2026-09&format=csv&table=lines").body.decode().splitlines()))
    assert sum(Decimal(line["amount"]) for line in lines) == Decimal(total)


def test_amounts_below_0_are_numbers_in_tables(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    """As text they would get a mark before them, as whatever might be a formula."""
    clock.set(at("2026-10-15T00:00:00Z"))
    assert cost(usage, "2026-09").state == "final"
    correct(usage, -100, "ticket-1")
    clock.advance(10)
    api = traffic.api()

    def cells(path: str, column: str) -> list[Decimal]:
        return [Decimal(row[column]) for row in csv.DictReader(api.get(f"{path}format=csv").body.decode().splitlines())]

    # Nobody has called in October, so no key carries its base price.
    for path, column, total in (
        ("/cost?", "amount", "8.70"),
        ("/cost?table=lines&", "amount", "8.70"),
        ("/by-key?period=current&", "cost", "-1.30"),
    ):
        found = cells(path, column)
        assert (sum(found), min(found) < 0) == (Decimal(total), True), path


def test_a_period_becomes_final_and_never_moves(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    clock.set(at("2026-10-09T00:00:01Z"))
    final = cost(usage, "previous")
    assert (final.state, final.total) == ("final", "14.33")
    assert final.digest is not None
    assert cost(usage, "2026-09") == cost(usage, "2026-09-01") == final
    correct(usage, -100, "ticket-1")
    clock.advance(10)
    again = cost(usage, "2026-09")
    assert (again.total, again.lines, again.rows, again.digest) == (final.total, final.lines, final.rows, final.digest)
    assert [(one.price, one.quantity, one.amount) for one in again.corrected] == [
        ("base", -100, "0.00"),
        ("calls", -100, "-1.30"),
    ]


def correct(usage: Usage, calls: int, id: str, **more: Any) -> None:
    usage.correct(
        "acme", id=id, at=datetime(2026, 9, 11, 12, tzinfo=UTC), key="key_2", endpoint="GET /v1/items", calls=calls,
        status=200, reason="our retry loop", **more,
    )  # fmt: skip


def test_what_is_corrected_later_is_carried_once(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    clock.set(at("2026-10-15T00:00:00Z"))
    assert cost(usage, "2026-09").state == "final"
    traffic.calls("2026-10-15T12:00:00Z", times=200)
    correct(usage, -100, "ticket-1")
    clock.advance(10)
    october = cost(usage)
    assert [(line.price, line.quantity, line.amount, line.carried_from) for line in october.lines] == [
        ("base", 200, "10.00", None),
        ("calls", 200, "1.30", None),
        ("base", -100, "0.00", "2026-09-01T00:00:00Z"),
        ("calls", -100, "-1.30", "2026-09-01T00:00:00Z"),
    ]
    assert october.total == "10.00"
    assert sum(map(Decimal, amounts(october).values())) == Decimal(october.total)
    clock.set(at("2026-11-09T00:00:00Z"))
    assert (cost(usage, "2026-10").total, cost(usage, "2026-10").state) == ("10.00", "final")
    assert [line.carried for line in cost(usage).lines] == [False, False]
    correct(usage, -33, "ticket-2")
    clock.advance(10)
    assert triples(line for line in cost(usage).lines if line.carried) == [
        ("base", -33, "0.00"),
        ("calls", -33, "-0.43"),
    ]


def test_what_is_paid_for_is_not_moved_by_a_first_assignment(make_usage: Callable[..., Usage], clock: Clock) -> None:
    """Billing periods of a default plan with prices are those that were there before."""
    usage = make_usage(**OPTIONS, default_plan="pro")
    Traffic(usage, clock).calls("2026-09-10T12:00:00Z", times=100)
    clock.set(at("2026-10-15T00:00:00Z"))
    september = cost(usage, "2026-09")
    assert (september.state, september.total) == ("final", "10.00")
    usage.plans.assign("acme", "dollars", anchor=date(2026, 1, 20))
    clock.advance(10)
    assert (cost(usage, "2026-09").digest, cost(usage).period.end) == (september.digest, "2026-11-01T00:00:00Z")
    assert (cost(usage).currency, cost(usage).state) == ("EUR", "open")
    clock.set(at("2026-11-02T00:00:00Z"))
    assert (cost(usage).currency, cost(usage).period.end) == ("USD", "2026-11-20T00:00:00Z")


def test_a_period_whose_statement_is_final_is_not_moved(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    clock.set(at("2026-10-15T00:00:00Z"))
    final = cost(usage, "2026-09")
    moved: dict[str, tuple[int, Any]] = {"now": (9, True), "anchor": (8, date(2026, 1, 15)), "timezone": (8, "Asia/Tokyo")}
    for name, (month, how) in moved.items():
        with pytest.raises(ConfigurationError, match="the billing period that began 2026-09-01T00:00:00Z, whose statement"):
            usage.plans.assign("acme", "pro", from_=datetime(2026, month, 10, tzinfo=UTC), **{name: how})
    usage.plans.assign("acme", "dollars", from_=datetime(2026, 9, 1, tzinfo=UTC))
    usage.plans.assign("acme", "pro", anchor=date(2026, 1, 20), from_=datetime(2026, 9, 10, tzinfo=UTC))
    clock.advance(10)
    assert cost(usage, "2026-09").digest == final.digest
    assert [cost(usage, period).period.start for period in ("2026-09", "2026-10")] == [
        "2026-09-01T00:00:00Z",
        "2026-10-01T00:00:00Z",
    ]


def test_a_period_is_named_by_the_days_of_its_own_zone(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    usage.plans.assign("acme", "pro", timezone="America/New_York")
    clock.advance(10)
    assert cost(usage, "2026-09").period.start == cost(usage, "2026-09-01").period.start == "2026-09-01T00:00:00Z"
    assert cost(usage).period.end == "2026-10-01T04:00:00Z"
    clock.set(at("2026-10-02T00:00:00Z"))
    assert cost(usage, "2026-10-01").period.start == cost(usage).period.start == "2026-10-01T04:00:00Z"
    assert cost(usage, "2026-09").period.end == "2026-10-01T04:00:00Z"


def test_a_currency_changes_at_the_start_of_a_period(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    clock.set(at("2026-10-15T00:00:00Z"))
    assert cost(usage, "2026-09").state == "final"
    correct(usage, 100, "ticket-1")
    usage.plans.assign("acme", "dollars", from_=date(2026, 10, 1))
    traffic.calls("2026-10-15T12:00:00Z", times=2)
    clock.advance(10)
    october = cost(usage)
    assert (october.currency, october.total) == ("USD", "2.00")
    assert [(other.currency, other.total) for other in october.other_totals] == [("EUR", "1.30")]


def test_prices_change_with_the_next_period(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    clock.set(at("2026-09-20T00:00:00Z"))
    usage.plans.assign("acme", "dollars")
    clock.advance(10)
    assert (cost(usage).currency, cost(usage).plan) == ("EUR", "pro")
    clock.set(at("2026-10-01T00:00:00Z"))
    assert (cost(usage).currency, cost(usage).plan) == ("USD", "dollars")


def test_where_no_call_was_successful_there_is_nothing_to_pay(make_usage: Callable[..., Usage], clock: Clock) -> None:
    good = Plan("good", prices=[Price("good", billable="successful", unit="1")], currency="EUR")
    usage = make_usage(plans=[good], default_plan="good", flush_interval=3600)
    traffic = Traffic(usage, clock)
    traffic.calls("2026-11-19T12:00:00Z", times=3, status=500)
    traffic.reach()
    assert triples(cost(usage).lines) == [("good", 0, "0.00")]
    traffic.calls("2026-11-20T13:45:20Z", times=2, status=204)
    clock.advance(10)
    assert triples(cost(usage).lines) == [("good", 2, "2.00")]


def test_yen_have_no_decimals(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    usage.plans.assign("acme", "yen", from_=date(2026, 10, 1))
    traffic.calls("2026-10-15T12:00:00Z", records=5)
    traffic.calls("2026-10-15T12:00:00Z", records=2, key="key_2")
    found = cost(usage)
    assert (found.total, amounts(found)) == ("4", {"key_1": "3", "key_2": "1"})


def test_a_period_is_provisional_while_a_worker_owes(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    traffic.calls("2026-09-30T23:00:00Z")
    clock.set(at("2026-10-01T00:00:01Z"))
    found = cost(usage, "previous")
    assert (found.state, found.digest, found.total) == ("provisional", None, "14.34")


def test_a_key_viewer_sees_its_own_alone(usage: Usage, traffic: Traffic) -> None:
    found = usage.reader.cost(Viewer.key("acme", "key_2"))
    assert (found.total, amounts(found)) == ("9.93", {"key_2": "9.93"})
    assert triples(found.lines) == [("base", 300, "6.93"), ("calls", 300, "3.00")]


def test_a_key_viewer_is_not_told_of_corrections_of_others(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    clock.set(at("2026-10-15T00:00:00Z"))
    assert cost(usage, "2026-09").state == "final"
    correct(usage, -100, "ticket-1")
    clock.advance(10)
    shown = {}
    for key in ("key_1", "key_2"):
        september, october = (usage.reader.cost(Viewer.key("acme", key), period=period) for period in ("2026-09", "current"))
        shown[key] = [triples(september.corrected), triples(line for line in october.lines if line.carried)]
    # Without the calls of key_2 a greater part of the flat price is the others'.
    assert shown["key_2"] == [[("base", -100, "-0.92"), ("calls", -100, "-1.18")]] * 2
    assert [name for name, *_ in shown["key_1"][0]] == ["base", "calls"]
    correct(usage, 100, "ticket-2")
    clock.advance(10)
    assert usage.reader.cost(Viewer.key("acme", "key_1"), period="2026-09").corrected == []


def test_without_prices(usage: Usage, traffic: Traffic) -> None:
    usage.plans.assign("globex", "free")
    found = usage.reader.cost(org="globex")
    assert (found.currency, found.total, found.lines, found.rows, found.plan) == (None, None, [], [], "free")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"period": "2026-13"}, "invalid_period"),
        ({"period": "october"}, "invalid_period"),
        ({"period": "2026-09-02"}, "invalid_period"),
        ({"period": "2027-09"}, "invalid_period"),
        ({"period": "2024-03"}, "not_retained"),
        ({"by": "team"}, "invalid_parameter"),
        ({"by": "label:Team"}, "invalid_parameter"),
    ],
)
def test_what_cannot_be_asked(usage: Usage, traffic: Traffic, clock: Clock, asked: dict[str, Any], code: str) -> None:
    usage.plans.assign("acme", "pro", from_=date(2024, 1, 1))
    clock.set(at("2026-11-01T12:00:00Z"))
    with pytest.raises(QueryError) as refused:
        cost(usage, **asked)
    assert refused.value.code == code
    with pytest.raises(QueryError, match="say which with org="):
        usage.reader.cost()


def test_several_periods_that_begin_in_a_month_are_named(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    clock.set(at("2026-09-20T10:10:00Z"))
    usage.plans.assign("acme", "pro", now=True)
    clock.advance(10)
    with pytest.raises(QueryError, match="2026-09-01, 2026-09-20"):
        cost(usage, "2026-09")
    assert (cost(usage, "2026-09-01").total, cost(usage, "2026-09-20").total) == ("14.33", "10.00")


def test_several_periods_that_begin_on_a_day_are_named_by_their_times(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    for hour in ("10", "14"):
        clock.set(at(f"2026-09-20T{hour}:10:00Z"))
        usage.plans.assign("acme", "pro", now=True)
        clock.advance(10)
    with pytest.raises(QueryError, match="2026-09-01, 2026-09-20T10:00:00Z, 2026-09-20T14:00:00Z"):
        cost(usage, "2026-09")
    with pytest.raises(QueryError, match="2026-09-20T10:00:00Z, 2026-09-20T14:00:00Z"):
        cost(usage, "2026-09-20")
    assert cost(usage, "2026-09-20T10:00:00Z").period.end == "2026-09-20T14:00:00Z"
    assert cost(usage, "2026-09-20T14:00:00Z").period.end == "2026-10-01T00:00:00Z"
    with pytest.raises(QueryError, match="No billing period begins then"):
        cost(usage, "2026-09-20T11:00:00Z")


def test_a_statement_is_kept_as_it_was() -> None:
    own = Line("calls", 3, Decimal("1.20"), {"a": Decimal("0.40"), "b": Decimal("0.80")}, {"a": 1, "b": 2}, "EUR")
    prices = (PlanPrice("calls", volume=((10, "0.4"), (None, "0.3"))), PlanPrice("pack", of="bytes", package=(1000, "5")))
    final = FinalStatement(Period(0, 10), "pro", prices, Statement("EUR", [own, msgspec.structs.replace(own, origin=-5)]), 12)
    body = encode(final)
    assert decode(body) == final
    assert decode(body.replace(b'"1.20"', b'"9.20"', 1)) is None
    assert decode(b"{") is None
