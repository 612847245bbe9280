"""What an application declares of its plans: limits, quotas and prices, checked when they are made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, get_args

from usage_middleware.errors import ConfigurationError
from usage_middleware.plans.money import check_currency, parse_amount

#: Whom a limit or a quota is for: the whole organisation, or each of its keys.
By = Literal["org", "key"]
#: After how long a quota begins anew. `month` is the billing period.
Per = Literal["day", "week", "month", "year"]
#: Which calls count: all; those answered 2xx; all but those answered 429.
Billable = Literal["all", "successful", "not_refused"]
#: A bound of a tier, inclusive, None for the last one; and the price of a unit in it.
Tier = tuple[int | None, Decimal]

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_MOST_ALERTS = 20
_HIGHEST_ALERT = 1_000


@dataclass(frozen=True, slots=True)
class Limit:
    """How many calls a minute an organisation, or each of its keys, may make. It is reported; the application enforces it.

    Attributes:
        name: what views call it.
        amount: how many a minute.
        of: `calls`, `bytes`, or a declared counter.

    Raises:
        ConfigurationError: naming the field and what is allowed.
    """

    name: str
    amount: int
    per: Literal["minute"] = "minute"
    by: By = "org"
    of: str = "calls"

    def __post_init__(self) -> None:
        _check_name("Limit", self.name)
        _check_amount(f"amount of Limit {self.name!r}", self.amount)
        _check_choice(f"per of Limit {self.name!r}", self.per, ("minute",))
        _check_choice(f"by of Limit {self.name!r}", self.by, get_args(By))


@dataclass(frozen=True, slots=True)
class Quota:
    """How much may be used in a period.

    Attributes:
        name: what views call it.
        amount: how much a period.
        of: `calls`, `bytes`, or a declared counter.
        alerts: when to alert, in percent of the amount; once each in a period.
        billable: which calls count; of calls alone, counters and bytes have no status.

    Raises:
        ConfigurationError: naming the field and what is allowed.
    """

    name: str
    amount: int
    of: str = "calls"
    by: By = "org"
    per: Per = "month"
    alerts: Sequence[int] = (80, 100)
    billable: Billable = "all"

    def __post_init__(self) -> None:
        _check_name("Quota", self.name)
        _check_amount(f"amount of Quota {self.name!r}", self.amount)
        _check_choice(f"by of Quota {self.name!r}", self.by, get_args(By))
        _check_choice(f"per of Quota {self.name!r}", self.per, get_args(Per))
        _check_billable(f"billable of Quota {self.name!r}", self.billable, self.of)
        object.__setattr__(self, "alerts", _checked_alerts(f"alerts of Quota {self.name!r}", self.alerts))


@dataclass(frozen=True, slots=True, init=False)
class Price:
    """What one thing costs in a billing period. Exactly one of `flat`, `unit`, `graduated`, `volume`, `package` is given.

    Attributes:
        flat: an amount for the period, however much is used.
        graduated: tiers: each unit costs what the tier says that it falls into.
        volume: tiers: all units cost what the tier says that the whole quantity falls into.
        package: (size, amount): each package that is begun costs the amount.
        included: so many units cost nothing.

    A single price for each unit, `unit`, is kept as a graduated one of a single tier.

    Raises:
        ConfigurationError: naming the field and what is allowed. A float is not allowed: it has no exact cents.
    """

    name: str
    of: str
    billable: Billable
    included: int
    flat: Decimal | None
    graduated: tuple[Tier, ...]
    volume: tuple[Tier, ...]
    package: tuple[int, Decimal] | None

    def __init__(
        self,
        name: str,
        *,
        of: str = "calls",
        billable: Billable = "all",
        included: int = 0,
        flat: str | Decimal | None = None,
        unit: str | Decimal | None = None,
        graduated: Iterable[tuple[int | None, str | Decimal]] = (),
        volume: Iterable[tuple[int | None, str | Decimal]] = (),
        package: tuple[int, str | Decimal] | None = None,
    ) -> None:
        _check_name("Price", name)
        where = f"of Price {name!r}"
        _check_billable(f"billable {where}", billable, of)
        if isinstance(included, bool) or not isinstance(included, int) or included < 0:
            raise ConfigurationError(f"included {where} must be a whole number, 0 or more, not {included!r}")
        steps, whole = _tiers(f"graduated {where}", graduated), _tiers(f"volume {where}", volume)
        given = [flat is not None, unit is not None, bool(steps), bool(whole), package is not None]
        if sum(given) != 1:
            raise ConfigurationError(f"Price {name!r} needs exactly one of flat, unit, graduated, volume, package")
        if unit is not None:
            steps = ((None, parse_amount(f"unit {where}", unit)),)
        self._set("name", name)
        self._set("of", of)
        self._set("billable", billable)
        self._set("included", included)
        self._set("flat", None if flat is None else parse_amount(f"flat {where}", flat))
        self._set("graduated", steps)
        self._set("volume", whole)
        self._set("package", None if package is None else _package(f"package {where}", package))

    def _set(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)


@dataclass(frozen=True, slots=True, init=False)
class Plan:
    """Limits, quotas and prices under one name.

    Raises:
        ConfigurationError: naming the field and what is allowed.
    """

    name: str
    limits: tuple[Limit, ...]
    quotas: tuple[Quota, ...]
    prices: tuple[Price, ...]
    currency: str | None

    def __init__(self, name: str, *parts: Limit | Quota, prices: Iterable[Price] = (), currency: str | None = None) -> None:
        _check_name("Plan", name)
        for part in parts:
            if not isinstance(part, Limit | Quota):
                raise ConfigurationError(f"Plan {name!r} takes Limit and Quota, not {part!r}; prices stand in prices=")
        costs = tuple(prices)
        for cost in costs:
            if not isinstance(cost, Price):
                raise ConfigurationError(f"prices of Plan {name!r} takes Price, not {cost!r}")
        _check_unique(f"Plan {name!r}: limits and quotas", [part.name for part in parts])
        _check_unique(f"Plan {name!r}: prices", [cost.name for cost in costs])
        if costs and currency is None:
            raise ConfigurationError(f"Plan {name!r} has prices, so it needs a currency, such as currency='EUR'")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "limits", tuple(part for part in parts if isinstance(part, Limit)))
        object.__setattr__(self, "quotas", tuple(part for part in parts if isinstance(part, Quota)))
        object.__setattr__(self, "prices", costs)
        found = None if currency is None else check_currency(f"currency of Plan {name!r}", currency)
        object.__setattr__(self, "currency", found)

    @property
    def parts(self) -> Sequence[Limit | Quota]:
        """Its limits and quotas."""
        return (*self.limits, *self.quotas)

    @property
    def amounts(self) -> dict[str, int]:
        """The amount of each limit and quota, by name: what an assignment may override."""
        return {part.name: part.amount for part in self.parts}

    def with_amounts(self, amounts: Mapping[str, int]) -> Plan:
        """The plan with other amounts of its limits and quotas, by their names."""
        if not amounts:
            return self
        changed = [replace(part, amount=amounts.get(part.name, part.amount)) for part in self.parts]
        return Plan(self.name, *changed, prices=self.prices, currency=self.currency)

    def check_units(self, counters: Iterable[str]) -> None:
        """Check that everything it measures is counted.

        Raises:
            ConfigurationError: naming what is measured and not declared.
        """
        known = ("calls", "bytes", *counters)
        parts: Sequence[Limit | Quota | Price] = (*self.limits, *self.quotas, *self.prices)
        for part in parts:
            if part.of not in known:
                kind = type(part).__name__
                raise ConfigurationError(f"of of {kind} {part.name!r} must be one of {', '.join(known)}, not {part.of!r}")


def _check_name(kind: str, name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"name of {kind} must be 1 to 64 of a-z, 0-9, '_', '.', '-', not {name!r}")


def _check_amount(field: str, amount: object) -> None:
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount < 1 << 53:
        raise ConfigurationError(f"{field} must be a whole number from 0 to 2**53 - 1, not {amount!r}")


def _check_choice(field: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{field} must be {' or '.join(repr(one) for one in allowed)}, not {value!r}")


def _check_billable(field: str, billable: object, of: str) -> None:
    _check_choice(field, billable, get_args(Billable))
    if billable != "all" and of != "calls":
        raise ConfigurationError(f"{field} is of calls alone: {of} is counted without a status")


def _checked_alerts(field: str, alerts: Any) -> tuple[int, ...]:
    found = tuple(alerts) if isinstance(alerts, list | tuple) else (alerts,)
    for percent in found:
        if isinstance(percent, bool) or not isinstance(percent, int) or not 1 <= percent <= _HIGHEST_ALERT:
            raise ConfigurationError(f"{field} must be whole percents from 1 to {_HIGHEST_ALERT:,}, not {percent!r}")
    if len(found) > _MOST_ALERTS:
        raise ConfigurationError(f"{field} may be {_MOST_ALERTS} at most")
    return tuple(sorted(set(found)))


def _check_unique(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"{what} need names of their own; {name!r} stands there twice")


def _tiers(field: str, given: Iterable[Any]) -> tuple[Tier, ...]:
    found: list[Tier] = []
    for tier in given:
        if not isinstance(tier, list | tuple) or len(tier) != 2:
            raise ConfigurationError(f"{field} takes tiers such as (100_000, '0.0004'), the last one with None, not {tier!r}")
        found.append((tier[0], parse_amount(field, tier[1])))
    bounds = [bound for bound, _ in found[:-1]]
    for before, bound in zip([0, *bounds], bounds, strict=False):
        if isinstance(bound, bool) or not isinstance(bound, int) or bound <= (before or 0):
            raise ConfigurationError(f"{field} needs bounds that are whole numbers and ascend from 1, not {bound!r}")
    if found and found[-1][0] is not None:
        raise ConfigurationError(f"{field} needs a last tier with None for its bound, not {found[-1][0]!r}")
    return tuple(found)


def _package(field: str, given: Any) -> tuple[int, Decimal]:
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise ConfigurationError(f"{field} takes a size and an amount, such as (1_000, '5.00'), not {given!r}")
    size, amount = given
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigurationError(f"{field} needs a size that is a whole number, 1 or more, not {size!r}")
    return size, parse_amount(field, amount)
