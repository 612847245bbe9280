"""What a quantity costs: an exact amount, not rounded."""

from __future__ import annotations

from decimal import Decimal

from usage_middleware.plans.money import multiplied
from usage_middleware.plans.plan import Price, Tier


def amount(price: Price, quantity: int) -> Decimal:
    """What a quantity of a billing period costs. A quantity below 0, which corrections may leave, costs as 0 does.

    >>> amount(Price("calls", graduated=((1_000, "0"), (None, "0.01"))), 1_500)
    Decimal('5.00')
    """
    if price.flat is not None:
        return price.flat
    units = max(0, quantity - price.included)
    if price.package is not None:
        size, each = price.package
        return multiplied(each, -(-units // size))
    if price.volume:
        return multiplied(_tier_of(price.volume, units), units)
    return _graduated(price.graduated, units)


def _tier_of(tiers: tuple[Tier, ...], units: int) -> Decimal:
    return next(each for bound, each in tiers if bound is None or units <= bound)


def _graduated(tiers: tuple[Tier, ...], units: int) -> Decimal:
    total, below = Decimal(0), 0
    for bound, each in tiers:
        top = units if bound is None else min(units, bound)
        total += multiplied(each, max(0, top - below))
        below = max(below, top)
    return total
