"""What was used in each minute that is still kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from usage_middleware.periods import MINUTE, Slot
from usage_middleware.plans import units
from usage_middleware.plans.billing import Period
from usage_middleware.report.context import ReportContext, Series
from usage_middleware.report.kept import oldest_kept
from usage_middleware.store.deferred import Deferred

_Question: TypeAlias = tuple[str, str, str | None, str, int]


class Minutes(NamedTuple):
    """The minutes in which something was used.

    Attributes:
        since: when the earliest minute begins that is kept, seconds since the epoch.
        used: how much was used, by the start of the minute.
        refused: how many calls were answered 429.
    """

    since: int
    used: Mapping[int, int]
    refused: int

    @property
    def peak(self) -> tuple[int | None, int]:
        """When the busiest minute began, the earliest of several, and how much was used then; (None, 0) without usage."""
        at = max(self.used, key=lambda start: (self.used[start], -start), default=None)
        return (None, 0) if at is None or self.used[at] <= 0 else (at, self.used[at])


class MinuteReads:
    """Reads minutes, all in one batch. What was read by this process some seconds ago is not read again."""

    def __init__(self, context: ReportContext, org: str) -> None:
        self._context = context
        self._org = org
        self._batch = context.batch(org)
        self._asked: dict[_Question, Deferred[Minutes]] = {}
        self._found: dict[_Question, Minutes] = {}

    def ask(self, key: str | None, of: str) -> Callable[[], Minutes]:
        """The minutes of a key, or of the organisation (None), known after `read`."""
        context = self._context
        minute = context.settings.layers.minute
        since = oldest_kept(minute, context.now, context.settings.kept("series" if key is None else "key", minute.rank))
        # By the minute: a minute later there is another one.
        question = ("minutes", self._org, key, of, minute.floor(context.now))
        known = context.plans.used.known([question])
        if question in known:
            self._found[question] = known[question]
        elif question not in self._asked:
            slots = [Slot(minute, at) for at in range(since, context.now + 1, MINUTE)]
            series = self._batch.series(slots, None if key is None else ("key", key), (units.field(of), units.REFUSED))
            self._asked[question] = series.map(lambda found: _minutes(found, of, since))
        return lambda: self._found[question]

    def ask_now(self, key: str | None, of: str, minute: Period) -> Callable[[], int]:
        """How much was used in one minute, known after `read`."""
        slot, measure = Slot(self._context.settings.layers.minute, minute.start), units.field(of)
        series = self._batch.series([slot], None if key is None else ("key", key), (measure,))
        return lambda: series.value.get(slot, {}).get(measure, 0)

    def read(self) -> None:
        """Read everything that was asked."""
        used = self._context.plans.used
        asked_at = used.generation
        self._batch.read()
        found = {question: minutes.value for question, minutes in self._asked.items()}
        used.keep(found, asked_at)
        self._found |= found
        self._asked = {}


def _minutes(series: Series, of: str, since: int) -> Minutes:
    used = {slot.start: units.quantity(measures, of) for slot, measures in series.items()}
    return Minutes(since, used, sum(measures.get(units.REFUSED, 0) for measures in series.values()))
