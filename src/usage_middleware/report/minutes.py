"""What was used in each minute that is still kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from usage_middleware.periods import Slot, cover
from usage_middleware.plans import units
from usage_middleware.plans.billing import Period
from usage_middleware.report.context import ReportContext
from usage_middleware.report.kept import oldest_kept
from usage_middleware.report.known_minutes import KnownMinutes
from usage_middleware.store.read_batch import ReadBatch

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
        most = max(self.used.values(), default=0)
        return (min(at for at, used in self.used.items() if used == most), most) if most > 0 else (None, 0)


class MinutesOf:
    """Asks for minutes in a batch. What was read by this process some seconds ago is not read again."""

    def __init__(self, context: ReportContext, org: str, batch: ReadBatch) -> None:
        self._context = context
        self._org = org
        self._batch = batch
        self._asked_at = context.plans.used.generation
        self._asked: dict[_Question, Callable[[], Minutes]] = {}
        self._found: dict[_Question, Minutes] = {}
        #: What is the same for all keys. Of one list a batch works out the names once.
        self._slots: dict[int, Sequence[Slot]] = {}

    def ask(self, key: str | None, of: str) -> Callable[[], Minutes]:
        """The minutes of a key, or of the organisation (None), known after the batch was read and `keep`."""
        context = self._context
        minute = context.settings.layers.minute
        since = oldest_kept(minute, context.now, context.settings.kept("series" if key is None else "key", minute.rank))
        # By the minute: a minute later there is another one.
        question = ("minutes", self._org, key, of, minute.floor(context.now))
        known = context.plans.used.known([question])
        if question in known:
            self._found[question] = known[question]
        elif question not in self._asked:
            self._asked[question] = self._read_later(key, of, since)
        return lambda: self._found[question]

    def _read_later(self, key: str | None, of: str, since: int) -> Callable[[], Minutes]:
        now, layers = self._context.now, self._context.settings.layers
        used = self._used(key, units.field(of), since, layers.minute.ceil(now + 1))
        if since not in self._slots:
            self._slots[since] = cover(since, now, now=now, layers=layers)
        # Their sum is in half-hours, too.
        refused = self._batch.series(self._slots[since], None if key is None else ("key", key), (units.REFUSED,))
        return lambda: Minutes(since, used(), sum(sums.get(units.REFUSED, 0) for sums in refused.value.values()))

    def _used(self, key: str | None, measure: str, start: int, end: int) -> Callable[[], Mapping[int, int]]:
        if key is None:
            return KnownMinutes(self._context, self._org, self._batch, measure, start, end).found
        found = self._batch.minutes(key, measure, start, end)
        return lambda: found.value

    def ask_now(self, key: str | None, of: str, minute: Period) -> Callable[[], int]:
        """How much was used in one minute, known after the batch was read."""
        found = self._batch.minutes(key, units.field(of), minute.start, minute.end)
        return lambda: found.value.get(minute.start, 0)

    def keep(self) -> None:
        """Take what was asked from the batch, which was read."""
        found = {question: minutes() for question, minutes in self._asked.items()}
        self._context.plans.used.keep(found, self._asked_at)
        self._found |= found
        self._asked = {}
