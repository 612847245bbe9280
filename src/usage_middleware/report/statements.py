"""What a billing period costs now, or cost for good: open, provisional, final; and what later changes are carried on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from usage_middleware.plans import units
from usage_middleware.plans.billing import Period
from usage_middleware.plans.plan import Plan
from usage_middleware.plans.statement import Line, Statement, left_over, priced_line, statement
from usage_middleware.plans.statement_record import FinalStatement, decode, encode
from usage_middleware.report.context import ReportContext
from usage_middleware.report.plan_directory import CustomerPlans
from usage_middleware.report.quantities import key_quantities, whole_quantities

State = Literal["open", "provisional", "final"]
#: So many earlier periods are asked for what was added to them since they were final.
CARRIED_PERIODS = 12


class PeriodCost(NamedTuple):
    """What a billing period costs.

    Attributes:
        plan: the name of the plan whose prices hold.
        statement: None where there are no prices.
        corrected: what was added to a final period since: a line for each price.
        is_kept: False where the counters of the period are gone, and it has no final statement.
    """

    period: Period
    plan: str | None
    state: State
    statement: Statement | None
    corrected: Sequence[Line] = ()
    is_kept: bool = True


class Biller:
    """Makes the statements of an organisation."""

    def __init__(self, context: ReportContext, org: str, plans: CustomerPlans) -> None:
        self._context = context
        self._org = org
        self._plans = plans

    def cost(self, period: Period) -> PeriodCost:
        """What a period costs. A period that is final now is kept, and is the same for ever."""
        earlier = self._earlier(period)
        kept = {one.period.start: one for one in self._kept([*earlier, period])}
        final = kept.pop(period.start, None)
        if final is not None:
            corrected = self._left_over(final, list(kept.values()), always=True)
            return PeriodCost(final.period, final.plan, "final", final.statement, corrected)
        return self._made(period, list(kept.values()))

    def _made(self, period: Period, kept: Sequence[FinalStatement]) -> PeriodCost:
        assigned = self._plans.history.priced(period)
        plan = self._plans.declared.plan(assigned)
        name = None if assigned is None else assigned.plan
        state: State = "open" if period.end > self._context.now else "provisional"
        if state == "provisional" and self._context.is_final(period.end):
            state = "final"
        carried = self._carried(period, kept)
        if plan is None or not plan.prices:
            return PeriodCost(period, name, state, statement(Plan("none"), lambda _: {}, carried))
        found = key_quantities(self._context, self._org, period, plan.prices)
        if found is None:
            return PeriodCost(period, name, state, None, is_kept=False)
        made = statement(plan, found.of, carried)
        assert made is not None
        if state == "final":
            return self._finished(FinalStatement(period, name, plan.prices, made, self._context.now))
        return PeriodCost(period, name, state, made)

    def _finished(self, final: FinalStatement) -> PeriodCost:
        body = self._context.plans.statements.keep(self._org, final.period.start, encode(final))
        # Another process may have been quicker.
        found = None if body is None else decode(body)
        if found is None:
            return PeriodCost(final.period, final.plan, "provisional", final.statement)
        return PeriodCost(found.period, found.plan, "final", found.statement)

    def _earlier(self, period: Period) -> list[Period]:
        """The periods before, the latest first."""
        found, at = [], period.start
        for _ in range(CARRIED_PERIODS):
            before = self._plans.history.period(at - 1)
            found.append(before)
            at = before.start
        return found

    def _kept(self, periods: Sequence[Period]) -> list[FinalStatement]:
        bodies = self._context.plans.statements.read(self._org, [period.start for period in periods])
        return [final for body in bodies if body is not None and (final := decode(body)) is not None]

    def _carried(self, period: Period, kept: Sequence[FinalStatement]) -> list[Line]:
        """What earlier periods left over, and no period between has carried."""
        if not kept:
            return []
        latest = max(final.period.start for final in kept)
        return [
            line
            for final in sorted(kept, key=lambda one: one.period.start)
            for line in self._left_over(final, kept, always=final.period.start == latest)
        ]

    def _left_over(self, final: FinalStatement, kept: Sequence[FinalStatement], *, always: bool) -> list[Line]:
        """What was added to a final period since. Without `always` its keys are looked at only where its sums have changed."""
        if not always and not self._has_changed(final, kept):
            return []
        found = key_quantities(self._context, self._org, final.period, final.prices)
        if found is None:
            return []
        origin, lines = final.period.start, []
        before = {line.price: line for line in final.statement.own}
        for price in final.prices:
            carried = _carried_of(origin, price.name, kept)
            now = priced_line(price, found.of(price), before[price.name].currency)
            line = left_over(before[price.name], now, carried, origin)
            lines += [] if line is None else [line]
        return lines

    def _has_changed(self, final: FinalStatement, kept: Sequence[FinalStatement]) -> bool:
        (sums,) = whole_quantities(self._context, self._org, [final.period])
        if sums is None:
            return False
        before = {line.price: line.quantity for line in final.statement.own}
        for price in final.prices:
            carried = sum(line.quantity for line in _carried_of(final.period.start, price.name, kept))
            if units.quantity(sums, price.of, price.billable) != before[price.name] + carried:
                return True
        return False


def _carried_of(origin: int, price: str, kept: Sequence[FinalStatement]) -> list[Line]:
    lines = (line for final in kept for line in final.statement.lines)
    return [line for line in lines if line.origin == origin and line.price == price]
