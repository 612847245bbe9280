"""How much each key used of what has a price, in a billing period."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from usage_middleware.errors import QueryError
from usage_middleware.periods import cover
from usage_middleware.plans import units
from usage_middleware.plans.billing import Period
from usage_middleware.plans.plan import Price
from usage_middleware.plans.statement import UNALLOCATED
from usage_middleware.report.context import ReportContext
from usage_middleware.report.kept import Kept
from usage_middleware.report.metrics import Measures, summed
from usage_middleware.report.named_periods import Edges
from usage_middleware.report.period_sums import PeriodReads, PeriodSums
from usage_middleware.store.schema import CALLS

#: So many keys can share what a period costs.
MOST_KEYS = 10_000


class KeyQuantities(NamedTuple):
    """What was used in a period: by the whole organisation, and by each key."""

    whole: Measures
    keys: Mapping[str, Measures]

    def of(self, price: Price) -> dict[str, int]:
        """The quantity of each key. What no key has, such as what was counted without one, is unallocated."""
        found = {key: units.quantity(sums, price.of, price.billable) for key, sums in self.keys.items()}
        found = {key: quantity for key, quantity in found.items() if quantity}
        rest = units.quantity(self.whole, price.of, price.billable) - sum(found.values())
        return {**found, UNALLOCATED: found.get(UNALLOCATED, 0) + rest} if rest else found


#: What was used where nothing is measured.
NOTHING = KeyQuantities({}, {})


def key_quantities(
    context: ReportContext, org: str, period: Period, prices: Sequence[Price], *, fresh: bool = False
) -> KeyQuantities | None:
    """What each key used in a period, of what these prices are of; None where that is not kept any more.

    `fresh`: by what is counted now, not some seconds ago.

    Raises:
        QueryError: `window_too_wide` for too many keys.
    """
    fields = _fields(prices)
    told = _told_by_boards(context, org, period, prices)
    if told is not None:
        return told
    reads = PeriodReads(context, org, fresh=fresh)
    whole = reads.ask(None, period, "", fields, days=False)
    keys: dict[str, Callable[[], PeriodSums | None]] = {
        key: reads.ask(key, period, "", fields, days=False) for key in _keys(context, org, period)
    }
    reads.read()
    sums = whole()
    by_key = {key: found for key, read in keys.items() if (found := read()) is not None}
    if sums is None or len(by_key) < len(keys):
        return None
    return KeyQuantities(sums.total, {key: found.total for key, found in by_key.items()})


def _told_by_boards(context: ReportContext, org: str, period: Period, prices: Sequence[Price]) -> KeyQuantities | None:
    """The same of calls in whole UTC days, of which boards tell all keys at once; None of anything else."""
    slots = cover(period.start, period.end, now=context.now, layers=context.settings.layers)
    is_told = all(price.of == units.CALLS and price.billable == "all" for price in prices)
    if not is_told or any(slot.resolution != context.settings.layers.day for slot in slots):
        return None
    if Kept(context.settings, ("series", "board"), context.now).gap(Edges(*period)) is not None:
        return None
    batch = context.batch(org)
    keys, whole = batch.board(slots, "key", (CALLS,)), batch.series(slots, None, (CALLS,))
    batch.read()
    if len(keys.value) > MOST_KEYS:
        raise _too_many(len(keys.value))
    return KeyQuantities(summed(whole.value.values()), keys.value)


def whole_quantities(context: ReportContext, org: str, periods: Sequence[Period]) -> list[Measures | None]:
    """What the organisation used in each of these periods; None where that is not kept any more."""
    reads = PeriodReads(context, org)
    later = [reads.ask(None, period, "", days=False) for period in periods]
    reads.read()
    return [None if (sums := read()) is None else sums.total for read in later]


def _fields(prices: Sequence[Price]) -> Sequence[str] | None:
    found = [units.fields(price.of, price.billable) for price in prices]
    if any(fields is None for fields in found):
        return None
    return tuple(sorted({field for fields in found if fields is not None for field in fields}))


def _keys(context: ReportContext, org: str, period: Period) -> list[str]:
    batch = context.batch(org)
    seen = batch.seen("key")
    batch.read()
    found = [key for key, last in seen.value.items() if last >= period.start * 1000]
    if len(found) > MOST_KEYS:
        raise _too_many(len(found))
    return found


def _too_many(keys: int) -> QueryError:
    return QueryError("window_too_wide", f"There are {keys:,} keys; what a period costs is divided by {MOST_KEYS:,} at most.")
