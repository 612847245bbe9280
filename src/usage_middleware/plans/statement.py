"""What a billing period costs: a line for each price, a total, and each key's share, to the cent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from usage_middleware.plans.money import divided, rounded
from usage_middleware.plans.plan import Plan, Price
from usage_middleware.plans.pricing import amount

#: What no key carries: calls of nobody, and what is flat in a period without usage.
UNALLOCATED = "(unallocated)"
#: Members of the views that are no key.
_NOBODY = frozenset({"(anonymous)", "(other)", "(none)", "(unknown)"})

#: The quantity of a price: by key.
Quantities = Callable[[Price], Mapping[str, int]]


class Line(NamedTuple):
    """What one price costs.

    Attributes:
        amount: rounded to what the currency can pay.
        shares: what of it each key carries; they add up to it.
        carried: whether it was left over by an earlier period.
    """

    price: str
    quantity: int
    amount: Decimal
    shares: Mapping[str, Decimal]
    quantities: Mapping[str, int]
    carried: bool = False


class Statement(NamedTuple):
    """What a billing period costs."""

    currency: str
    lines: Sequence[Line]

    @property
    def total(self) -> Decimal:
        """The sum of the lines."""
        return sum((line.amount for line in self.lines), Decimal(0))

    @property
    def by_key(self) -> dict[str, Decimal]:
        """What each key carries; the sum is the total."""
        found: dict[str, Decimal] = {}
        for line in self.lines:
            for key, part in line.shares.items():
                found[key] = found.get(key, Decimal(0)) + part
        return found

    @property
    def digest(self) -> str:
        """A hash of all lines: SHA-256, hexadecimal."""
        rows = [f"{line.price}\t{line.quantity}\t{line.amount}\t{line.carried}" for line in self.lines]
        rows += [f"{line.price}\t{key}\t{part}" for line in self.lines for key, part in sorted(line.shares.items())]
        return hashlib.sha256("\n".join([self.currency, *rows]).encode()).hexdigest()


def statement(plan: Plan, quantities: Quantities, carried: Sequence[Line] = ()) -> Statement | None:
    """The statement of a plan with prices; None if it has none.

    Args:
        quantities: how much of a price's unit each key used.
        carried: lines that an earlier period left over, in the same currency.
    """
    if plan.currency is None:
        return None
    lines = [priced_line(price, quantities(price), plan.currency) for price in plan.prices]
    return Statement(plan.currency, [*lines, *carried])


def priced_line(price: Price, quantities: Mapping[str, int], currency: str) -> Line:
    """The line of one price. Keys share it by quantity."""
    by_key: dict[str, int] = {}
    for key, quantity in quantities.items():
        name = UNALLOCATED if key in _NOBODY else key
        by_key[name] = by_key.get(name, 0) + quantity
    total = sum(by_key.values())
    cost = rounded(amount(price, total), currency)
    shares = divided(cost, currency, by_key) or ({UNALLOCATED: cost} if cost else {})
    return Line(price.name, total, cost, shares, by_key)
