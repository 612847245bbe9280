"""What a billing period costs now, or cost for good: open, provisional, final; and what later changes are carried on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from usage_middleware.periods import DAY
from usage_middleware.plans import units
from usage_middleware.plans.billing import Period
from usage_middleware.plans.plan import Plan
from usage_middleware.plans.reach import LATE_DAYS
from usage_middleware.plans.statement import Line, Statement, left_over, priced_line, statement
from usage_middleware.plans.statement_record import FinalStatement, decode, encode
from usage_middleware.report.context import ReportContext
from usage_middleware.report.plan_directory import CustomerPlans
from usage_middleware.report.quantities import NOTHING, key_quantities, whole_quantities
from usage_middleware.store.history.names import months

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
        #: The final statements that were looked for, by the begin of their periods; None: there is none.
        self._found: dict[int, FinalStatement | None] = {}

    def cost(self, period: Period) -> PeriodCost:
        """What a period costs. A period that is final now is kept, and is the same for ever."""
        self._read([*self._earlier(period), period, *self._later(period)])
        final = self._found[period.start]
        if final is not None:
            return _of(final, self._left_over(final, []))
        # What earlier periods left over depends on whether those between are final.
        due = [before for before in reversed(self._earlier(period)) if self._is_due(before)]
        if due:
            self._read(self._earlier(due[0]))
        for before in due:
            self._made(before)
        return self._made(period)

    def close(self) -> list[Period]:
        """Keep the statements that are final now. The periods that have ended lately, and are not final yet."""
        now = self._context.now
        running = self._plans.history.period(now)
        ended = [period for period in self._earlier(running) if now - period.end <= LATE_DAYS * DAY]
        if not ended:
            return []
        self._read([*self._earlier(ended[-1]), *ended])
        found = [(period, self._made(period)) for period in reversed(ended) if self._found[period.start] is None]
        return [period for period, cost in found if self._is_waiting(cost)]

    def _is_waiting(self, cost: PeriodCost) -> bool:
        """Whether a statement may become final later: calls may come in, or another process declares the plan."""
        if cost.state == "final":
            return False
        return cost.statement is not None or self._context.is_final(cost.period.end)

    def _is_due(self, period: Period) -> bool:
        """Whether a period that nobody has asked about is final, and was not long ago."""
        is_late = self._context.now - period.end > LATE_DAYS * DAY
        return self._found.get(period.start) is None and not is_late and self._context.is_final(period.end)

    def _made(self, period: Period) -> PeriodCost:
        assigned = self._plans.history.priced(period)
        plan = self._plans.declared.plan(assigned)
        name = None if assigned is None else assigned.plan
        state = self._state(period, is_known=name is None or plan is not None)
        prices = () if plan is None else plan.prices
        found = key_quantities(self._context, self._org, period, prices) if prices else NOTHING
        if found is None:
            return PeriodCost(period, name, state, None, is_kept=False)
        made = statement(plan or Plan("none"), found.of, self._carried(period))
        if state == "final" and (made is not None or self._may_be_carried(period)):
            made = made or Statement(self._last_currency(period), [])
            return self._finished(FinalStatement(period, name, prices, made, self._context.now))
        return PeriodCost(period, name, state, made)

    def _state(self, period: Period, *, is_known: bool) -> State:
        """How far a period is. One whose plan is not declared here (`is_known`) never becomes final: its prices are missing."""
        if period.end > self._context.now:
            return "open"
        return "final" if is_known and self._context.is_final(period.end) else "provisional"

    def _finished(self, final: FinalStatement) -> PeriodCost:
        body = self._context.plans.statements.keep(self._org, final.period.start, encode(final))
        # Another process may have been quicker.
        found = None if body is None else decode(body)
        if found is None:
            return PeriodCost(final.period, final.plan, "provisional", final.statement)
        self._found[found.period.start] = found
        return _of(found)

    def _earlier(self, period: Period) -> list[Period]:
        return self._plans.history.before(period, CARRIED_PERIODS)

    def _later(self, period: Period) -> list[Period]:
        """The periods after it that have ended: they may have carried what was left over."""
        found: list[Period] = []
        at = period.end
        while at < self._context.now and len(found) < CARRIED_PERIODS:
            after = self._plans.history.period(at)
            found.append(after)
            at = after.end
        return found

    def _read(self, periods: Sequence[Period]) -> None:
        """Read the final statements of these periods."""
        starts = [period.start for period in periods]
        bodies = self._context.plans.statements.read(self._org, starts)
        self._found |= {at: None if body is None else decode(body) for at, body in zip(starts, bodies, strict=True)}

    def _finals_before(self, period: Period) -> list[FinalStatement]:
        """The final statements of earlier periods, the earliest first."""
        found = (final for _, final in sorted(self._found.items()) if final is not None)
        return [final for final in found if final.period.start < period.start]

    def _carried(self, period: Period) -> list[Line]:
        """What earlier periods left over, and no other has carried. The first period that is not final carries it."""
        finals = self._finals_before(period)
        if not finals or not self._context.is_final(period.start):
            return []
        changed = [final for final in finals[:-1] if final.prices and self._has_changed(final, self._finals)]
        return [line for final in (*changed, finals[-1]) for line in self._left_over(final, self._finals)]

    def _may_be_carried(self, period: Period) -> bool:
        """Whether an earlier period may leave something over: then this one has to say that it carries nothing."""
        return any(final.prices for final in self._finals_before(period))

    def _last_currency(self, period: Period) -> str:
        return self._finals_before(period)[-1].statement.currency

    @property
    def _finals(self) -> list[FinalStatement]:
        return [final for final in self._found.values() if final is not None]

    def _left_over(self, final: FinalStatement, carriers: Sequence[FinalStatement]) -> list[Line]:
        """What was added to a final period since, less what others have carried of it."""
        if not final.prices or self._is_as_it_was(final, carriers):
            return []
        found = key_quantities(self._context, self._org, final.period, final.prices)
        if found is None:
            return []
        origin, lines = final.period.start, []
        before = {line.price: line for line in final.statement.own}
        for price in final.prices:
            now = priced_line(price, found.of(price), before[price.name].currency)
            line = left_over(before[price.name], now, _carried_of(origin, price.name, carriers), origin)
            lines += [] if line is None else [line]
        return lines

    def _is_as_it_was(self, final: FinalStatement, carriers: Sequence[FinalStatement]) -> bool:
        """Whether nothing was added since, but what others have carried.

        Where nothing was corrected numbers only grow, and so the sums tell it of every key.
        """
        if self._has_changed(final, carriers):
            return False
        start, end = final.period
        corrections = self._context.reader.corrections(self._org, list(months(start, end - 1)), 0)
        return corrections is not None

    def _has_changed(self, final: FinalStatement, carriers: Sequence[FinalStatement]) -> bool:
        """Whether its sums are others than those of its lines, and of what was carried. Its keys are not looked at."""
        (sums,) = whole_quantities(self._context, self._org, [final.period])
        if sums is None:
            return False
        before = {line.price: line.quantity for line in final.statement.own}
        for price in final.prices:
            carried = sum(line.quantity for line in _carried_of(final.period.start, price.name, carriers))
            if units.quantity(sums, price.of, price.billable) != before[price.name] + carried:
                return True
        return False


def _of(final: FinalStatement, corrected: Sequence[Line] = ()) -> PeriodCost:
    """The cost of a period that is final. Without lines it had no prices, and carried nothing."""
    made = final.statement if final.statement.lines else None
    return PeriodCost(final.period, final.plan, "final", made, corrected)


def _carried_of(origin: int, price: str, kept: Sequence[FinalStatement]) -> list[Line]:
    lines = (line for final in kept for line in final.statement.lines)
    return [line for line in lines if line.origin == origin and line.price == price]
