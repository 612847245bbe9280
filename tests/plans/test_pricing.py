"""What a quantity costs, and who carries it: golden values of public documents, and sums to the cent."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usage_middleware.plans import Plan, Price
from usage_middleware.plans.money import divided, rounded, smallest_unit
from usage_middleware.plans.pricing import amount
from usage_middleware.plans.statement import UNALLOCATED, priced_line, statement

#: Figures of docs.stripe.com/subscriptions/pricing-models/tiered-pricing, read in November 2026.
FONTS = ((5, "7"), (10, "6.5"), (None, "6"))
#: Figures of getlago.com/docs/guide/plans/charges/charge-models (graduated, package, standard), read in November 2026.
API_CALLS = ((100, "1"), (200, "0.50"), (None, "0.10"))


@pytest.mark.parametrize(("quantity", "cost"), [(1, "7"), (5, "35"), (6, "39"), (20, "120"), (25, "150")])
def test_volume_prices_of_a_public_document(quantity: int, cost: str) -> None:
    assert amount(Price("fonts", volume=FONTS), quantity) == Decimal(cost)


@pytest.mark.parametrize(("quantity", "cost"), [(1, "7"), (5, "35"), (6, "41.5"), (20, "127.5"), (25, "157.5")])
def test_graduated_prices_of_a_public_document(quantity: int, cost: str) -> None:
    assert amount(Price("fonts", graduated=FONTS), quantity) == Decimal(cost)


@pytest.mark.parametrize(("quantity", "cost"), [(100, "100"), (101, "100.50"), (200, "150"), (250, "155")])
def test_graduated_prices_of_another_document(quantity: int, cost: str) -> None:
    assert amount(Price("calls", graduated=API_CALLS), quantity) == Decimal(cost)


@pytest.mark.parametrize(("quantity", "cost"), [(0, "0"), (100, "0"), (101, "5"), (200, "5"), (201, "10")])
def test_packages_with_free_units_of_a_public_document(quantity: int, cost: str) -> None:
    assert amount(Price("calls", package=(100, "5"), included=100), quantity) == Decimal(cost)


def test_a_price_for_each_unit_of_a_public_document() -> None:
    assert amount(Price("calls", unit="0.05"), 1_000) == 50


def test_a_flat_rate_of_a_public_document() -> None:
    """The basic level of docs.stripe.com/billing/subscriptions/usage-based/pricing-models, read in November 2026."""
    bill = statement(Plan("basic", prices=(Price("basic", flat="10"),), currency="USD"), lambda _: {"key_1": 5_000})
    assert bill is not None
    assert (bill.total(), bill.by_key) == (Decimal("10.00"), {"key_1": Decimal("10.00")})


@pytest.mark.parametrize("quantity", [-5, 0, 1, 10**9])
def test_a_flat_price_does_not_depend_on_usage(quantity: int) -> None:
    assert amount(Price("base", flat="49"), quantity) == 49


def test_corrections_below_zero_cost_nothing() -> None:
    for price in (Price("a", unit="1"), Price("a", volume=FONTS), Price("a", package=(10, "1"))):
        assert amount(price, -5) == 0


prices = st.decimals(0, 1000, places=6)
tiers = st.lists(st.integers(1, 10**6), unique=True, max_size=5).flatmap(
    lambda bounds: st.tuples(*(prices for _ in [*bounds, None])).map(
        lambda each: tuple(zip([*sorted(bounds), None], each, strict=True))
    )
)
any_price = st.one_of(
    st.builds(lambda found: Price("p", flat=found), prices),
    st.builds(lambda found, free: Price("p", graduated=found, included=free), tiers, st.integers(0, 1000)),
    st.builds(lambda found, free: Price("p", volume=found, included=free), tiers, st.integers(0, 1000)),
    st.builds(lambda size, each: Price("p", package=(size, each)), st.integers(1, 1000), prices),
)
currencies = st.sampled_from(["EUR", "JPY", "KWD", "CLF"])
weights = st.dictionaries(st.text(max_size=3), st.integers(-5, 10**9), max_size=8)


@settings(deadline=None)
@given(tiers, st.integers(0, 10**7))
def test_graduated_is_the_sum_of_each_unit(found: tuple[tuple[int | None, Decimal], ...], quantity: int) -> None:
    total, below = Decimal(0), 0
    for bound, each in found:
        top = quantity if bound is None else bound
        total += each * max(0, min(quantity, top) - below)
        below = top
    assert amount(Price("p", graduated=found), quantity) == total


@settings(deadline=None)
@given(st.lists(any_price, min_size=1, max_size=4), currencies, weights)
def test_keys_add_up_to_lines_and_lines_to_the_total(found: list[Price], currency: str, quantities: Mapping[str, int]) -> None:
    named = [Price(f"p{place}", **_fields(price)) for place, price in enumerate(found)]
    bill = statement(Plan("p", prices=named, currency=currency), lambda _: quantities)
    assert bill is not None
    for line in bill.lines:
        assert sum(line.shares.values()) == line.amount
        assert line.quantity == sum(quantities.values())
        assert line.amount % smallest_unit(currency) == 0
    assert sum(bill.by_key.values()) == bill.total()


def _fields(price: Price) -> dict[str, Any]:
    ways = {"flat": price.flat, "graduated": price.graduated, "volume": price.volume, "package": price.package}
    return {"included": price.included, **{name: value for name, value in ways.items() if value not in (None, ())}}


@settings(deadline=None)
@given(st.integers(-(10**9), 10**9), currencies, weights)
def test_what_is_divided_adds_up_and_no_part_is_a_unit_off(units: int, currency: str, found: Mapping[str, int]) -> None:
    whole = units * smallest_unit(currency)
    parts = divided(whole, currency, found)
    total = sum(weight for weight in found.values() if weight > 0)
    assert sum(parts.values()) == (whole if total else 0)
    for name, part in parts.items():
        assert abs(part - whole * found[name] / total) < smallest_unit(currency)


def test_equal_remainders_go_by_name() -> None:
    assert divided(Decimal("0.02"), "EUR", {"b": 1, "c": 1, "a": 1}) == {
        "a": Decimal("0.01"), "b": Decimal("0.01"), "c": Decimal("0.00"),
    }  # fmt: skip


def test_halves_go_up() -> None:
    assert [rounded(Decimal(each), "EUR") for each in ("0.005", "0.015", "0.0149")] == [
        Decimal("0.01"), Decimal("0.02"), Decimal("0.01"),
    ]  # fmt: skip


def test_what_no_key_carries_is_unallocated() -> None:
    line = priced_line(Price("calls", unit="1"), {"alpha": 2, "(anonymous)": 1, "(other)": 1}, "EUR")
    assert line.shares == {"alpha": Decimal("2.00"), UNALLOCATED: Decimal("2.00")}
    flat = priced_line(Price("base", flat="9"), {}, "EUR")
    assert flat.shares == {UNALLOCATED: Decimal("9.00")}


def test_a_digest_tells_statements_apart() -> None:
    plan = Plan("p", prices=(Price("calls", unit="1"),), currency="EUR")
    bills = [statement(plan, partial(_same, found)) for found in ({"a": 1}, {"a": 2}, {"b": 1})]
    assert len({bill.digest for bill in bills if bill}) == 3


def _same(found: Mapping[str, int], _: Price) -> Mapping[str, int]:
    return found


def test_a_plan_without_prices_has_no_statement() -> None:
    assert statement(Plan("free"), lambda _: {}) is None
    assert statement(Plan("free", currency="EUR"), lambda _: {}) is None
