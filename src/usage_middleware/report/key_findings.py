"""What is odd about API keys: reads their days, and has them judged. Days are those of UTC, which are kept for each key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple, Protocol

from usage_middleware.errors import QueryError
from usage_middleware.periods import DAY, Slot, rfc3339
from usage_middleware.plans.flags import COMPARED_DAYS, Day, KeyDays, KeyFlag, flags
from usage_middleware.report.context import ReportContext, ReportScope
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.keys import KeyInfo
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.store.replies import KeyBoard
from usage_middleware.store.schema import CALLS

#: So many keys are looked at in one answer.
MOST_KEYS = 1_000
_MEASURES = (CALLS, "4xx", "5xx")
ENVIRONMENT = "environment"


class Findings(NamedTuple):
    """What is told of a key, as fields of the by-key view."""

    flags: list[KeyFlag]
    first_activity: str | None
    previous_activity: str | None


class Row(Protocol):
    """A key, and what the directory knows of it."""

    @property
    def key(self) -> str:
        """The key, as a member."""

    @property
    def info(self) -> KeyInfo | None:
        """What the directory knows."""


def key_flags(context: ReportContext, scope: ReportScope, rows: Sequence[Row]) -> dict[str, Findings]:
    """What is odd about these keys.

    Raises:
        QueryError: `window_too_wide` for more than 1,000.
    """
    if len(rows) > MOST_KEYS:
        message = f"Flags are told of {MOST_KEYS:,} keys at most, and these are {len(rows):,}: ask for pages with limit=."
        raise QueryError("window_too_wide", message, "include_flags")
    return _Judge(context, scope).findings(rows)


class _Judge:
    """Reads the days of keys."""

    def __init__(self, context: ReportContext, scope: ReportScope) -> None:
        self._context = context
        self._org = scope.org
        self._day = context.settings.layers.day
        self._today = self._day.floor(context.now)

    def findings(self, rows: Sequence[Row]) -> dict[str, Findings]:
        names = [row.key for row in rows]
        batch = self._context.batch(self._org)
        days = self._read_days(batch, names)
        seen = batch.seen_of("key", names)
        boards = self._read_environments(batch, names)
        batch.read()
        by_key = {name: {at: _day_of(found.value.get(name, {})) for at, found in days.items()} for name in names}
        before = self._earlier(names, by_key, seen.value)
        return {row.key: self._of(row, by_key[row.key], before.get(row.key, []), boards.get(row.key)) for row in rows}

    def _read_days(self, batch: ReadBatch, names: Sequence[str]) -> dict[date, Deferred[dict[str, dict[str, int]]]]:
        starts = [self._today - back * DAY for back in range(COMPARED_DAYS + 1)]
        return {_date(start): batch.members([Slot(self._day, start)], "key", names, _MEASURES) for start in starts}

    def _read_environments(self, batch: ReadBatch, names: Sequence[str]) -> Mapping[str, Deferred[KeyBoard]]:
        if ENVIRONMENT not in self._context.settings.dimensions:
            return {}
        return {name: batch.key_board([Slot(self._day, self._today)], name) for name in names}

    def _earlier(
        self, names: Sequence[str], days: Mapping[str, Mapping[date, Day]], seen: Mapping[str, int]
    ) -> dict[str, list[date]]:
        """Days with calls before those that are compared, of keys that had none in those."""
        first = self._today - COMPARED_DAYS * DAY
        today = _date(self._today)
        quiet = [name for name in names if name in seen and not any(day.calls for at, day in days[name].items() if at < today)]
        kept = self._context.settings.kept("key", self._day.rank)
        slots = [Slot(self._day, at) for at in range(self._day.ceil(self._context.now - kept), first, DAY)]
        batch = self._context.batch(self._org)
        reads = {name: batch.series(slots, ("key", name), (CALLS,)) for name in quiet}
        batch.read()
        return {
            name: sorted(_date(slot.start) for slot, sums in series.value.items() if sums.get(CALLS, 0) > 0)
            for name, series in reads.items()
        }

    def _of(self, row: Row, days: Mapping[date, Day], before: Sequence[date], board: Deferred[KeyBoard] | None) -> Findings:
        today = _date(self._today)
        used = sorted(at for at, day in days.items() if day.calls)
        earlier = [*before, *(at for at in used if at < today)]
        created = None if row.info is None else row.info.created_at
        known_since = _date(created) if created is not None else next(iter([*earlier, *used]), None)
        judged = KeyDays(
            today=today,
            days={at: day for at, day in days.items() if day.calls},
            known_since=known_since,
            previous_activity=earlier[-1] if earlier else None,
            environment=None if row.info is None else row.info.environment,
            environments={} if board is None else _calls_by_environment(board.value),
        )
        first = None if known_since is None else known_since.isoformat()
        first = first if created is None else rfc3339(created)
        previous = judged.previous_activity
        return Findings(flags(judged), first, None if previous is None else previous.isoformat())


def _date(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()


def _day_of(measures: Mapping[str, int]) -> Day:
    return Day(measures.get(CALLS, 0), measures.get("4xx", 0) + measures.get("5xx", 0))


def _calls_by_environment(board: KeyBoard) -> dict[str, int]:
    return {name: measures.get(CALLS, 0) for name, measures in board.members.get(ENVIRONMENT, {}).items()}
