"""What each key costs, in the by-key view: in a window that is exactly one billing period."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple, TypeVar

import msgspec

from usage_middleware.periods import rfc3339
from usage_middleware.plans.money import rounded
from usage_middleware.report.billing_period import CURRENT, PREVIOUS, billing_period
from usage_middleware.report.context import ReportContext, ReportScope
from usage_middleware.report.parameters import Parameters
from usage_middleware.report.parts import Parts, Unavailable
from usage_middleware.report.statements import Biller
from usage_middleware.report.window import Window

P = TypeVar("P", bound=Parameters)


class KeyCost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An amount of money: exact, as text."""

    amount: str
    currency: str


def cost_cells(cost: KeyCost | None) -> tuple[Decimal | None, str | None]:
    """Its amount and its currency in a table: a number, since one below 0 as text might be a formula."""
    return (None, None) if cost is None else (Decimal(cost.amount), cost.currency)


class KeyCosts(NamedTuple):
    """What keys cost.

    Attributes:
        currency: None where nothing has a price, or it is not known what it comes to.
        amounts: of those that cost something.
        total: of all of them; None for who may not see it.
    """

    currency: str | None = None
    amounts: Mapping[str, Decimal] = {}
    total: Decimal | None = None

    def of(self, key: str) -> KeyCost | None:
        """What a key costs."""
        if self.currency is None:
            return None
        return KeyCost(amount=str(rounded(self.amounts.get(key, Decimal(0)), self.currency)), currency=self.currency)

    def share(self, key: str) -> float | None:
        """Which part of everything it costs; None where everything costs nothing."""
        if self.currency is None or not self.total:
            return None
        return float(self.amounts.get(key, Decimal(0)) / self.total)


def in_billing_period(context: ReportContext, scope: ReportScope, params: P, period: str) -> P:
    """The parameters with the edges of the billing period, where `period` is one."""
    if period not in (CURRENT, PREVIOUS) or params.start is not None:
        return params
    found = billing_period(context.plans.of(scope.org).history, period, context.now)
    end = None if found.end > context.now else found.end
    return msgspec.structs.replace(params, start=found.start, end=end)


def key_costs(context: ReportContext, scope: ReportScope, window: Window, parts: Parts) -> KeyCosts:
    """What each key costs in the window; where that is not one billing period, the fields are noted as unavailable."""
    if not context.plans.declared.is_on:
        return KeyCosts()
    plans = context.plans.of(scope.org)
    period = plans.history.period(window.start)
    plan = plans.declared.plan(plans.history.priced(period))
    if plan is None or not plan.prices:
        return KeyCosts()
    end = context.now if period.end > context.now else period.end
    cost = Biller(context, scope.org, plans).cost(period) if (window.start, window.end) == (period.start, end) else None
    if cost is None or cost.statement is None:
        running = plans.history.period(context.now)
        message = "A cost is that of one billing period: ask for period=current or period=previous."
        found = Unavailable(code="no_billing_period", message=message, since=rfc3339(running.start))
        parts.unavailable |= {"cost": found, "share": found}
        return KeyCosts()
    bill = cost.statement
    return KeyCosts(bill.currency, bill.by_key, bill.total() if context.viewer.key_id is None else None)
