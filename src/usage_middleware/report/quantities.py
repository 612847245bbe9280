"""How much each key used of what has a price, in a billing period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind
from usage_middleware.periods import Slot, cover
from usage_middleware.plans import units
from usage_middleware.plans.billing import Period
from usage_middleware.plans.plan import Price
from usage_middleware.plans.statement import UNALLOCATED
from usage_middleware.report.context import ReportContext
from usage_middleware.report.kept import Kept
from usage_middleware.report.keys_used import KeysUsed
from usage_middleware.report.known_boards import KnownBoards
from usage_middleware.report.metrics import Measures, summed
from usage_middleware.report.named_periods import Edges
from usage_middleware.report.period_sums import PeriodReads
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


def key_quantities(context: ReportContext, org: str, period: Period, prices: Sequence[Price]) -> KeyQuantities | None:
    """What each key used in a period by now, of what these prices are of; None where that is not kept any more.

    Raises:
        QueryError: `window_too_wide` for too many keys.
    """
    slots = cover(period.start, period.end, now=context.now, layers=context.settings.layers)
    if all(price.of == units.CALLS and price.billable == "all" for price in prices) and _is_kept(context, period, "board"):
        return _told_by_boards(context, org, slots)
    return _key_by_key(context, org, period, slots, prices) if _is_kept(context, period, "key") else None


def _is_kept(context: ReportContext, period: Period, kind: CounterKind) -> bool:
    return Kept(context.settings, ("series", kind), context.now).gap(Edges(*period)) is None


def _told_by_boards(context: ReportContext, org: str, slots: Sequence[Slot]) -> KeyQuantities:
    """Boards tell the calls of all keys at once."""
    batch = context.batch(org)
    boards, whole = KnownBoards(context, org, batch, slots), batch.series(slots, None, (CALLS,))
    batch.read()
    calls = boards.calls()
    if len(calls) > MOST_KEYS:
        raise _too_many(len(calls))
    return KeyQuantities(summed(whole.value.values()), {key: {CALLS: number} for key, number in calls.items()})


def _key_by_key(
    context: ReportContext, org: str, period: Period, slots: Sequence[Slot], prices: Sequence[Price]
) -> KeyQuantities:
    """The same, of anything."""
    measures = _measures(context, org, slots, prices)
    # Where no call was successful there is nothing to ask for.
    keys = KeysUsed(context, org, slots, measures).of(_seen(context, org, period)) if measures else {}
    # The whole is read last: what comes in meanwhile is unallocated, and no key has more than there is.
    batch = context.batch(org)
    whole = batch.series(slots, None, measures)
    batch.read()
    return KeyQuantities(summed(whole.value.values()), keys)


def _measures(context: ReportContext, org: str, slots: Sequence[Slot], prices: Sequence[Price]) -> Sequence[str]:
    """What has to be read of each key: of successful calls those statuses that the organisation's calls had."""
    found = {measure for price in prices for measure in units.fields(price.of, price.billable) or ()}
    if any(price.billable == "successful" for price in prices):
        batch = context.batch(org)
        every = batch.series(slots)
        batch.read()
        found |= {measure for sums in every.value.values() for measure in sums if units.is_successful(measure)}
    return tuple(sorted(found))


def whole_quantities(context: ReportContext, org: str, periods: Sequence[Period]) -> list[Measures | None]:
    """What the organisation used in each of these periods; None where that is not kept any more."""
    reads = PeriodReads(context, org)
    later = [reads.ask(None, period, "", days=False) for period in periods]
    reads.read()
    return [None if (sums := read()) is None else sums.total for read in later]


def _seen(context: ReportContext, org: str, period: Period) -> dict[str, int]:
    """The keys that were used since a period began, and when they were used last, milliseconds since the epoch."""
    batch = context.batch(org)
    seen = batch.seen("key")
    batch.read()
    found = {key: last for key, last in seen.value.items() if last >= period.start * 1000}
    if len(found) > MOST_KEYS:
        raise _too_many(len(found))
    return found


def _too_many(keys: int) -> QueryError:
    return QueryError("window_too_wide", f"There are {keys:,} keys; what a period costs is divided by {MOST_KEYS:,} at most.")
