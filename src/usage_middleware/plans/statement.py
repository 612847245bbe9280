"""What a billing period costs: a line for each price, a total, and each key's share, to the cent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from usage_middleware.plans.money import divided, rounded
from usage_middleware.plans.plan import Plan, Price
from usage_middleware.plans.pricing import amount

#: What no key carries: calls of nobody, and what is flat in a period without usage.
UNALLOCATED = "(unallocated)"
#: Members of the views that are no key.
_NOBODY = frozenset({"(anonymous)", "(other)", "(none)", "(unknown)"})

#: The quantity of a price: by key.
Quantities = Callable[[Price], Mapping[str, int]]


class Holder(NamedTuple):
    """Who answers for a key, and its labels."""

    owner: str | None
    labels: Mapping[str, str]


class LineTotal(msgspec.Struct, frozen=True):
    """As `Line`, without its keys."""

    price: str
    quantity: int
    amount: Decimal
    currency: str
    origin: int | None = None


class Line(msgspec.Struct, frozen=True):
    """What one price costs.

    Attributes:
        amount: rounded to what the currency can pay.
        shares: what of it each key carries; they add up to it.
        quantities: how much of its unit each key used; they add up to `quantity`.
        origin: when the period began that left it over, seconds since the epoch; None of the period's own lines.
    """

    price: str
    quantity: int
    amount: Decimal
    shares: Mapping[str, Decimal]
    quantities: Mapping[str, int]
    currency: str
    origin: int | None = None


class Statement(NamedTuple):
    """What a billing period costs.

    Attributes:
        holders: who answered for the keys when it became final; before that it is not known.
    """

    currency: str
    lines: Sequence[Line]
    holders: Mapping[str, Holder] = {}

    @property
    def own(self) -> list[Line]:
        """The lines of the period itself."""
        return [line for line in self.lines if line.origin is None]

    def total(self, currency: str | None = None) -> Decimal:
        """The sum of the lines of a currency; None: of the statement's own."""
        wanted = currency or self.currency
        return sum((line.amount for line in self.lines if line.currency == wanted), Decimal(0))

    @property
    def by_key(self) -> dict[str, Decimal]:
        """What each key carries in the statement's currency; the sum is the total."""
        found: dict[str, Decimal] = {}
        for line in self.lines:
            for key, part in line.shares.items() if line.currency == self.currency else ():
                found[key] = found.get(key, Decimal(0)) + part
        return found

    @property
    def keys_digest(self) -> str:
        """A hash of what each key carries, and of who answered for it: SHA-256, hexadecimal."""
        lines = ((line.price, line.origin, sorted(line.shares.items()), sorted(line.quantities.items())) for line in self.lines)
        held = ((key, owner, sorted(labels.items())) for key, (owner, labels) in sorted(self.holders.items()))
        return _hash(msgspec.json.encode([list(lines), list(held)]))

    @property
    def digest(self) -> str:
        """A hash of all of it: SHA-256, hexadecimal."""
        return digest(self.currency, self.lines, self.keys_digest)


def digest(currency: str, lines: Iterable[Line | LineTotal], keys_digest: str) -> str:
    """The digest of a statement, by the totals of its lines and the hash of what its keys carry."""
    rows = [(line.price, line.quantity, line.amount, line.currency, line.origin) for line in lines]
    return _hash(msgspec.json.encode([currency, rows, keys_digest]))


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def statement(plan: Plan, quantities: Quantities, carried: Sequence[Line] = ()) -> Statement | None:
    """The statement of a plan with prices; None if it has none.

    Args:
        quantities: how much of a price's unit each key used.
        carried: lines that earlier periods left over.
    """
    if plan.currency is None or not plan.prices:
        return Statement(carried[0].currency, carried) if carried else None
    return Statement(
        plan.currency, [*(priced_line(price, quantities(price), plan.currency) for price in plan.prices), *carried]
    )


def priced_line(price: Price, quantities: Mapping[str, int], currency: str) -> Line:
    """The line of one price. Keys share it by quantity."""
    by_key: dict[str, int] = {}
    for key, quantity in quantities.items():
        name = UNALLOCATED if key in _NOBODY else key
        by_key[name] = by_key.get(name, 0) + quantity
    total = sum(by_key.values())
    cost = rounded(amount(price, total), currency)
    shares = divided(cost, currency, by_key) or ({UNALLOCATED: cost} if cost else {})
    return Line(price.name, total, cost, shares, by_key, currency)


def left_over(before: Line, now: Line, carried: Sequence[Line], origin: int) -> Line | None:
    """What a line came to since it was final, less what other periods have carried of it; None if that is nothing.

    Args:
        before: the line as it was final.
        now: the same line by what is counted now.
        carried: the lines of later periods that carried some of it.
        origin: when its period began.
    """
    done = [before, *carried]
    shares = {key: _part(now, key) - _sum(_part(line, key) for line in done) for key in _keys(now, done)}
    quantities = {
        key: now.quantities.get(key, 0) - sum(line.quantities.get(key, 0) for line in done) for key in _keys(now, done)
    }
    shares = {key: part for key, part in shares.items() if part}
    quantities = {key: count for key, count in quantities.items() if count}
    if not shares and not quantities:
        return None
    return Line(now.price, sum(quantities.values()), _sum(shares.values()), shares, quantities, now.currency, origin)


def _keys(now: Line, done: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(key for line in (now, *done) for key in (*line.shares, *line.quantities)))


def _part(line: Line, key: str) -> Decimal:
    return line.shares.get(key, Decimal(0))


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))
