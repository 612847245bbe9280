"""What was used in each minute that is still kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from usage_middleware.periods import cover
from usage_middleware.plans import units
from usage_middleware.plans.billing import Period
from usage_middleware.report.context import ReportContext
from usage_middleware.report.kept import oldest_kept

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


class MinutesOf:
    """Reads minutes, all in one batch. What was read by this process some seconds ago is not read again."""

    def __init__(self, context: ReportContext, org: str) -> None:
        self._context = context
        self._org = org
        self._batch = context.batch(org)
        self._minutes = context.reader.minutes(org, context.charge)
        self._asked: dict[_Question, Callable[[], Minutes]] = {}
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
            self._asked[question] = self._read_later(key, of, since)
        return lambda: self._found[question]

    def _read_later(self, key: str | None, of: str, since: int) -> Callable[[], Minutes]:
        now, layers = self._context.now, self._context.settings.layers
        used = self._minutes.ask(key, units.field(of), since, layers.minute.ceil(now + 1))
        # Their sum is in half-hours, too.
        slots = cover(since, now, now=now, layers=layers)
        refused = self._batch.series(slots, None if key is None else ("key", key), (units.REFUSED,))
        return lambda: Minutes(since, used, sum(sums.get(units.REFUSED, 0) for sums in refused.value.values()))

    def ask_now(self, key: str | None, of: str, minute: Period) -> Callable[[], int]:
        """How much was used in one minute, known after `read`."""
        found = self._minutes.ask(key, units.field(of), minute.start, minute.end)
        return lambda: found.get(minute.start, 0)

    def read(self) -> None:
        """Read everything that was asked."""
        used = self._context.plans.used
        asked_at = used.generation
        self._batch.read()
        self._minutes.read()
        found = {question: minutes() for question, minutes in self._asked.items()}
        used.keep(found, asked_at)
        self._found |= found
        self._asked = {}
