"""Exact amounts of money: from text, rounded to what a currency can pay, and divided without losing a cent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext

from usage_middleware.errors import ConfigurationError

#: Currencies whose smallest unit is not a hundredth, by ISO 4217: how many decimals they have.
_DECIMALS = {
    currency: decimals
    for decimals, currencies in (
        (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
        (3, "BHD IQD JOD KWD LYD OMR TND"),
        (4, "CLF UYW"),
    )
    for currency in currencies.split()
}
#: No amount or quantity of a year needs more digits.
_DIGITS = 60


def check_currency(field: str, name: object) -> str:
    """A currency's code.

    Raises:
        ConfigurationError: it is not three capital letters.
    """
    if not isinstance(name, str) or not re.fullmatch("[A-Z]{3}", name):
        raise ConfigurationError(f"{field} must be a currency's code of three capital letters, such as 'EUR', not {name!r}")
    return name


def parse_amount(field: str, value: object) -> Decimal:
    """An amount of money, as `str`, `int` or `Decimal`.

    Raises:
        ConfigurationError: it is a float, which has no exact cents, or no finite number, or negative.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ConfigurationError(f"{field} must be a str or a Decimal, such as '0.0004', not {value!r}")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ConfigurationError(f"{field} must be a number, such as '0.0004', not {value!r}") from None
    if not amount.is_finite() or amount < 0:
        raise ConfigurationError(f"{field} must be 0 or more, not {value!r}")
    if len(amount.as_tuple().digits) > _DIGITS // 2 or not -_DIGITS // 2 < amount.adjusted() < _DIGITS // 2:
        raise ConfigurationError(f"{field} has more digits than an amount of money needs: {value!r}")
    return amount


def multiplied(amount: Decimal, times: int) -> Decimal:
    """An amount so many times, exactly."""
    with localcontext() as context:
        context.prec = _DIGITS
        return amount * times


def rounded(amount: Decimal, currency: str) -> Decimal:
    """An amount in the currency's smallest unit; halves go up.

    >>> rounded(Decimal("0.125"), "EUR"), rounded(Decimal("12.5"), "JPY")
    (Decimal('0.13'), Decimal('13'))
    """
    with localcontext() as context:
        context.prec = _DIGITS
        return amount.quantize(smallest_unit(currency), rounding=ROUND_HALF_UP)


def smallest_unit(currency: str) -> Decimal:
    """The smallest amount that a currency can pay."""
    return Decimal(1).scaleb(-_DECIMALS.get(currency, 2))


def divided(amount: Decimal, currency: str, weights: Mapping[str, int]) -> dict[str, Decimal]:
    """A rounded amount, divided in proportion to the weights. The parts add up to it.

    Each part is rounded down to the smallest unit; the units that are left go to the largest remainders, by name where
    those are equal. Weights below 0 count as 0. Without any weight, nobody has a part.

    >>> divided(Decimal("1.00"), "EUR", {"a": 1, "b": 1, "c": 1})
    {'a': Decimal('0.34'), 'b': Decimal('0.33'), 'c': Decimal('0.33')}
    """
    positive = {name: weight for name, weight in weights.items() if weight > 0}
    total = sum(positive.values())
    if not total:
        return {}
    unit = smallest_unit(currency)
    units = int(amount / unit)
    # Exact in integers: quotient and remainder of each name's share.
    shares = {name: divmod(abs(units) * weight, total) for name, weight in positive.items()}
    left = abs(units) - sum(whole for whole, _ in shares.values())
    first = sorted(shares, key=lambda name: (-shares[name][1], name))[:left]
    more = dict.fromkeys(first, 1)
    sign = -1 if units < 0 else 1
    return {name: unit * sign * (whole + more.get(name, 0)) for name, (whole, _) in shares.items()}
