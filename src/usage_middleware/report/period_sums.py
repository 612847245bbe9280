"""What an organisation or a key used in a billing period: the same counters, over the same slots, as in every view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from usage_middleware.periods import Slot, cover, midnight, zone
from usage_middleware.plans.billing import Period
from usage_middleware.plans.projection import DAYS
from usage_middleware.report.context import ReportContext
from usage_middleware.report.kept import Kept
from usage_middleware.report.metrics import Measures, summed
from usage_middleware.report.named_periods import Edges
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.read_batch import ReadBatch

#: What was asked of a period: the organisation, its key, the period, the zone of its days, the measures.
_Question: TypeAlias = tuple[str, str | None, Period, str, Sequence[str] | None]


class PeriodSums(NamedTuple):
    """What was used in a period.

    Attributes:
        total: the measures of all of it, until now.
        days: those of its latest whole local days, at most seven, the earliest first.
    """

    total: Measures
    days: Sequence[Measures] = ()


class PeriodReads:
    """Reads what was used in periods, all in one batch. What was read by this process some seconds ago is not read again.

    `fresh`: it is. `batch`: one that others ask, too.
    """

    def __init__(self, context: ReportContext, org: str, *, fresh: bool = False, batch: ReadBatch | None = None) -> None:
        self._fresh = fresh
        self._context = context
        self._org = org
        self._batch = context.batch(org) if batch is None else batch
        self._asked_at = context.plans.used.generation
        self._asked: dict[_Question, Deferred[PeriodSums]] = {}
        self._found: dict[_Question, PeriodSums] = {}
        #: What is the same for all keys: whether a period is kept, and its slots. Of one list a batch works out the names once.
        self._gaps: dict[tuple[Period, bool], bool] = {}
        self._slots: dict[tuple[Period, str], tuple[Sequence[int], Sequence[Slot]]] = {}

    def ask(
        self, key: str | None, period: Period, timezone: str, fields: Sequence[str] | None = None, *, days: bool = True
    ) -> Callable[[], PeriodSums | None]:
        """What a key used (None: all of the organisation), known after `read`; None where it can't be exact any more.

        `days`: also each of the latest days. `fields`: of which measures; None: all.
        """
        context = self._context
        if not self._is_kept(period, of_key=key is not None):
            return lambda: None
        question = (self._org, key, period, timezone if days else "", fields)
        known = {} if self._fresh else context.plans.used.known([question])
        if question in known:
            self._found[question] = known[question]
        elif question not in self._asked:
            self._asked[question] = self._read_later(question)
        return lambda: self._found[question]

    def read(self) -> None:
        """Read everything that was asked."""
        if self._asked:
            self._batch.read()
            self.keep()

    def keep(self) -> None:
        """Take what was asked from the batch, which was read."""
        found = {question: sums.value for question, sums in self._asked.items()}
        self._context.plans.used.keep(found, self._asked_at)
        self._found |= found
        self._asked = {}

    def _is_kept(self, period: Period, *, of_key: bool) -> bool:
        if (period, of_key) not in self._gaps:
            kept = Kept(self._context.settings, ("key" if of_key else "series",), self._context.now)
            self._gaps[period, of_key] = kept.gap(Edges(*period)) is None
        return self._gaps[period, of_key]

    def _slots_of(self, period: Period, timezone: str) -> tuple[Sequence[int], Sequence[Slot]]:
        """Where the latest days begin, and the slots of the period."""
        if (period, timezone) not in self._slots:
            now, layers = self._context.now, self._context.settings.layers
            midnights = _midnights(period, timezone, now) if timezone else []
            slots = cover(period.start, period.end, now=now, layers=layers, cuts=midnights)
            self._slots[period, timezone] = midnights, slots
        return self._slots[period, timezone]

    def _read_later(self, question: _Question) -> Deferred[PeriodSums]:
        _, key, period, timezone, fields = question
        midnights, slots = self._slots_of(period, timezone)
        series = self._batch.series(slots, None if key is None else ("key", key), fields)
        return series.map(lambda found: PeriodSums(summed(found.values()), _by_day(found, midnights)))


def _midnights(period: Period, timezone: str, now: int) -> list[int]:
    """Where each of the latest whole days begins, and where the last of them ends."""
    tz = zone(timezone)
    at = min(now, period.end)
    last = datetime.fromtimestamp(at, tz).date()
    found = [midnight(last - timedelta(back), tz) for back in range(DAYS, -1, -1)]
    return [start for start in found if period.start <= start <= at]


def _by_day(series: Mapping[Slot, Measures], midnights: Sequence[int]) -> list[Measures]:
    days: list[list[Measures]] = [[] for _ in midnights[1:]]
    for slot, measures in series.items():
        for number, begin in enumerate(midnights[1:]):
            if midnights[number] <= slot.start < begin:
                days[number].append(measures)
    return [summed(day) for day in days]
