"""What a billing period costs now, or cost for good: open, provisional, final; and what later changes are carried on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Literal, NamedTuple

from usage_middleware.periods import DAY
from usage_middleware.plans.billing import Period
from usage_middleware.plans.plan import Plan
from usage_middleware.plans.reach import LATE_DAYS
from usage_middleware.plans.statement import Holder, Line, Statement, statement
from usage_middleware.plans.statement_record import FinalHead, FinalStatement
from usage_middleware.report.context import ReportContext
from usage_middleware.report.kept_statements import KeptStatements
from usage_middleware.report.left_over import LeftOvers
from usage_middleware.report.plan_directory import CustomerPlans
from usage_middleware.report.quantities import NOTHING, key_quantities
from usage_middleware.store.members import key_member, org_name_of

State = Literal["open", "provisional", "final"]
#: Periods that have ended so long ago are not asked any more for what was added to them since they were final; and how many
#: are at most. Usually they are 12 months.
CARRIED_SECONDS, MOST_CARRIED = 366 * DAY, 60


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
        self._kept = KeptStatements(context, org)
        self._left = LeftOvers(context, org, self._kept)

    def cost(self, period: Period) -> PeriodCost:
        """What a period costs. A period that is final now is kept, and is the same for ever."""
        self._kept.look([*self._earlier(period), period, *self._later(period)])
        head = self._kept.head(period)
        final = None if head is None else self._kept.whole(period.start)
        if final is not None:
            return _of(final, self._left.of(final.head, []))
        # What earlier periods left over depends on whether those between are final.
        due = [before for before in reversed(self._earlier(period)) if self._is_due(before)]
        if due:
            self._kept.look(self._earlier(due[0]))
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
        self._kept.look([*self._earlier(ended[-1]), *ended])
        found = [(period, self._made(period)) for period in reversed(ended) if self._kept.head(period) is None]
        return [period for period, cost in found if self._is_waiting(cost)]

    def _is_waiting(self, cost: PeriodCost) -> bool:
        """Whether a statement may become final later: calls may come in, or another process declares the plan."""
        if cost.state == "final":
            return False
        return cost.statement is not None or self._context.is_final(cost.period.end)

    def _is_due(self, period: Period) -> bool:
        """Whether a period that nobody has asked about is final, and was not long ago."""
        is_late = self._context.now - period.end > LATE_DAYS * DAY
        return self._kept.head(period) is None and not is_late and self._context.is_final(period.end)

    def _made(self, period: Period) -> PeriodCost:
        assigned = self._plans.history.priced(period)
        plan = self._plans.declared.plan(assigned)
        name = None if assigned is None else assigned.plan
        state = self._state(period, is_known=name is None or plan is not None)
        prices = () if plan is None else plan.prices
        # Before the counters are read: what is corrected meanwhile is looked at again.
        corrections = self._left.corrections([period, *(final.period for final in self._finals_before(period))])
        found = key_quantities(self._context, self._org, period, prices) if prices else NOTHING
        if found is None:
            return PeriodCost(period, name, state, None, is_kept=False)
        made = statement(plan or Plan("none"), found.of, self._carried(period))
        if state == "final" and (made is not None or self._may_be_carried(period)):
            whole = self._with_holders(made or Statement(self._last_currency(period), []))
            return self._finished(FinalStatement(period, name, prices, whole, self._context.now, corrections))
        return PeriodCost(period, name, state, made)

    def _state(self, period: Period, *, is_known: bool) -> State:
        """How far a period is. One whose plan is not declared here (`is_known`) never becomes final: its prices are missing."""
        if period.end > self._context.now:
            return "open"
        return "final" if is_known and self._context.is_final(period.end) else "provisional"

    def _with_holders(self, made: Statement) -> Statement:
        """A statement with those who answer for its keys now."""
        keys = {key for line in made.lines for key in (*line.shares, *line.quantities)}
        infos = self._context.directory.list(org_name_of(self._org), include_revoked=True) if keys else []
        known = ((key_member(info.id), Holder(info.owner, info.labels)) for info in infos)
        return made._replace(holders={key: held for key, held in known if key in keys and (held.owner or held.labels)})

    def _finished(self, final: FinalStatement) -> PeriodCost:
        found = self._kept.keep(final)
        return PeriodCost(final.period, final.plan, "provisional", final.statement) if found is None else _of(found)

    def _earlier(self, period: Period) -> list[Period]:
        """The periods before it that it may carry something of, the latest first."""
        found = islice(self._before(period), MOST_CARRIED)
        return list(takewhile(lambda one: period.start - one.end < CARRIED_SECONDS, found))

    def _before(self, period: Period) -> Iterator[Period]:
        while True:
            period = self._plans.history.period(period.start - 1)
            yield period

    def _later(self, period: Period) -> list[Period]:
        """The periods after it that have ended: they may have carried what was left over."""
        found = islice(self._after(period), MOST_CARRIED)
        return list(takewhile(lambda one: one.start - period.end < CARRIED_SECONDS, found))

    def _after(self, period: Period) -> Iterator[Period]:
        at = period.end
        while at < self._context.now:
            after = self._plans.history.period(at)
            yield after
            at = after.end

    def _finals_before(self, period: Period) -> list[FinalHead]:
        """The final statements of earlier periods, the earliest first."""
        return [final for final in self._kept.heads if final.period.start < period.start]

    def _carried(self, period: Period) -> list[Line]:
        """What earlier periods left over, and no other has carried. The first period that is not final carries it."""
        if not self._context.is_final(period.start):
            return []
        return [line for final in self._finals_before(period) for line in self._left.of(final, self._kept.heads)]

    def _may_be_carried(self, period: Period) -> bool:
        """Whether an earlier period may leave something over: then this one has to say that it carries nothing."""
        return any(final.prices for final in self._finals_before(period))

    def _last_currency(self, period: Period) -> str:
        return self._finals_before(period)[-1].currency


def _of(final: FinalStatement, corrected: Sequence[Line] = ()) -> PeriodCost:
    """The cost of a period that is final. Without lines it had no prices, and carried nothing."""
    made = final.statement if final.statement.lines else None
    return PeriodCost(final.period, final.plan, "final", made, corrected)
