"""How much each key used of what has a price, in a billing period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

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
from usage_middleware.report.period_sums import PeriodReads
from usage_middleware.store.history.names import months
from usage_middleware.store.schema import CALLS

#: So many keys can share what a period costs.
MOST_KEYS = 10_000
#: So many keys are read at once.
KEYS_AT_ONCE = 500


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


def key_quantities(context: ReportContext, org: str, period: Period, prices: Sequence[Price]) -> KeyQuantities | None:
    """What each key used in a period by now, of what these prices are of; None where that is not kept any more.

    Raises:
        QueryError: `window_too_wide` for too many keys.
    """
    fields = _fields(prices)
    told = _told_by_boards(context, org, period, prices)
    if told is not None:
        return told
    name, asked_at = (org, period, fields), context.plans.quantities.generation
    mark = _mark(context, org, period, fields)
    known = context.plans.quantities.known([name]).get(name)
    if known is not None and known[0] == mark:
        return cast(KeyQuantities, known[1])
    found = _key_by_key(context, org, period, fields)
    if found is not None:
        context.plans.quantities.keep({name: (mark, found)}, asked_at)
    return found


def _mark(context: ReportContext, org: str, period: Period, fields: Sequence[str] | None) -> object:
    """What is different once any key has used more. It is read before the keys are."""
    slots = cover(period.start, period.end, now=context.now, layers=context.settings.layers)
    batch = context.batch(org)
    sums = batch.series(slots, None, fields)
    corrections = batch.corrections(months(period.start, min(period.end, context.now)))
    batch.read()
    return sums.value, corrections.value


def _key_by_key(context: ReportContext, org: str, period: Period, fields: Sequence[str] | None) -> KeyQuantities | None:
    """The same, of anything. Some keys at a time, so that other clients of Redis don't wait for all of them."""
    names, by_key = _keys(context, org, period), dict[str, Measures]()
    for begin in range(0, len(names), KEYS_AT_ONCE):
        some = _sums(context, org, names[begin : begin + KEYS_AT_ONCE], period, fields)
        if some is None:
            return None
        by_key |= {key: sums for key, sums in some.items() if key is not None}
    # The whole is read last: what comes in meanwhile is unallocated, and no key has more than there is.
    whole = _sums(context, org, [None], period, fields)
    return None if whole is None else KeyQuantities(whole[None], by_key)


def _sums(
    context: ReportContext, org: str, keys: Sequence[str | None], period: Period, fields: Sequence[str] | None
) -> dict[str | None, Measures] | None:
    """What keys (None: the organisation) used; None where that is not kept any more."""
    reads = PeriodReads(context, org, fresh=True)
    later = {key: reads.ask(key, period, "", fields, days=False) for key in keys}
    reads.read()
    found = {key: sums.total for key, read in later.items() if (sums := read()) is not None}
    return found if len(found) == len(later) else None


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
