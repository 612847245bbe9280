"""What was added to final periods since they were final, and no other period has carried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from usage_middleware.plans import units
from usage_middleware.plans.billing import Period
from usage_middleware.plans.statement import Line, LineTotal, left_over, priced_line
from usage_middleware.plans.statement_record import FinalHead
from usage_middleware.report.context import ReportContext
from usage_middleware.report.kept_statements import KeptStatements
from usage_middleware.report.metrics import Measures
from usage_middleware.report.period_sums import PeriodReads
from usage_middleware.report.quantities import key_quantities
from usage_middleware.store.history.names import months


class LeftOvers:
    """Compares final statements with what is counted now. Keys are read only where the sums or the corrections tell why.

    Where nothing was corrected numbers only grow, and so the sums tell it of every key.
    """

    def __init__(self, context: ReportContext, org: str, kept: KeptStatements) -> None:
        self._context = context
        self._org = org
        self._kept = kept
        #: By the begin of the period: what the organisation used, None where that is not kept any more; and how many
        #: corrections there are.
        self._sums: dict[int, Measures | None] = {}
        self._corrections: dict[int, int] = {}

    def look(self, periods: Sequence[Period]) -> None:
        """Read what was used in these periods, and how many corrections there are, all at once."""
        wanted = [period for period in periods if period.start not in self._corrections]
        if not wanted:
            return
        batch = self._context.batch(self._org)
        reads = PeriodReads(self._context, self._org, batch=batch)
        sums = {start: reads.ask(None, Period(start, end), "", days=False) for start, end in wanted}
        corrections = {start: batch.corrections(months(start, end - 1)) for start, end in wanted}
        batch.read()
        reads.keep()
        self._sums |= {start: None if (found := read()) is None else found.total for start, read in sums.items()}
        self._corrections |= {start: sum(found.value) for start, found in corrections.items()}

    def corrections(self, periods: Sequence[Period]) -> Mapping[int, int]:
        """How many corrections there are of these periods, by the begin."""
        self.look(periods)
        return {period.start: self._corrections[period.start] for period in periods}

    def of(self, final: FinalHead, carriers: Sequence[FinalHead]) -> list[Line]:
        """What a final period has left over, less what these others have carried of it."""
        self.look([final.period])
        if not final.prices or not self._may_have_any(final, carriers):
            return []
        origin = final.period.start
        found, whole = key_quantities(self._context, self._org, final.period, final.prices), self._kept.whole(origin)
        if found is None or whole is None:
            return []
        carried = self._carried(origin, carriers)
        before = {line.price: line for line in whole.statement.own}
        now = (priced_line(price, found.of(price), before[price.name].currency) for price in final.prices)
        lines = (
            left_over(before[line.price], line, [one for one in carried if one.price == line.price], origin) for line in now
        )
        return [line for line in lines if line is not None]

    def _carried(self, origin: int, carriers: Sequence[FinalHead]) -> list[Line]:
        """The lines that others have carried of a period."""
        wholes = (self._kept.whole(one.period.start) for one in carriers if one.carries(origin))
        return [line for one in wholes if one is not None for line in one.statement.lines if line.origin == origin]

    def _may_have_any(self, final: FinalHead, carriers: Sequence[FinalHead]) -> bool:
        start = final.period.start
        known = max((one.corrections.get(start, 0) for one in (final, *carriers)), default=0)
        return self._corrections[start] != known or self._is_another_sum(final, carriers)

    def _is_another_sum(self, final: FinalHead, carriers: Sequence[FinalHead]) -> bool:
        """Whether the sums are others than those of its lines, and of what was carried."""
        sums = self._sums[final.period.start]
        if sums is None:
            return False
        own = [line for line in final.lines if line.origin is None]
        carried = [line for one in carriers for line in one.lines if line.origin == final.period.start]
        return any(
            units.quantity(sums, price.of, price.billable) != _quantity(price.name, [*own, *carried]) for price in final.prices
        )


def _quantity(price: str, lines: Sequence[LineTotal]) -> int:
    return sum(line.quantity for line in lines if line.price == price)
