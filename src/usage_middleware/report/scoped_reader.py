"""The counters of what is looked at, the same questions whether that is an organisation or one key of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from usage_middleware.options import NONE, CounterKind
from usage_middleware.periods import Slot, rfc3339
from usage_middleware.report.labels import by_label
from usage_middleware.report.metrics import Measures, board_measures
from usage_middleware.report.viewer import ReportScope
from usage_middleware.store.read_batch import Deferred, ReadBatch
from usage_middleware.store.reader import Reader
from usage_middleware.store.replies import KeyBoard
from usage_middleware.store.schema import BOARD_MEASURES, DROPPED

Members = dict[str, dict[str, int]]
Series = dict[Slot, dict[str, int]]


def kinds(scope: ReportScope) -> tuple[CounterKind, ...]:
    """The counters that a breakdown of this scope needs: their retention bounds its window."""
    return ("board", "series") if scope.key is None else ("key_board", "key")


def complete_through(reader: Reader, now: int) -> str | None:
    """Every call that finished before it is in, on workers that are alive; None without workers."""
    through = reader.complete_through(now)
    return None if through is None else rfc3339(through / 1000)


def dropped_calls(scope: ReportScope, series: Series) -> int | None:
    """Finished requests that could not be counted; None of one key, for which that is not kept."""
    return None if scope.key is not None else sum(measures.get(DROPPED, 0) for measures in series.values())


@dataclass
class ScopedReader:
    """Asks one sheet about one scope over the same slots."""

    reader: Reader
    scope: ReportScope
    slots: Sequence[Slot]
    now: int

    @cached_property
    def sheet(self) -> ReadBatch:
        """The sheet that all questions go on."""
        return self.reader.sheet(self.scope.org, self.now)

    def series(self, slots: Sequence[Slot] | None = None) -> Deferred[Series]:
        """How it went over time, slot by slot; `slots` where finer ones are wanted than for breakdowns."""
        wanted = self.slots if slots is None else slots
        return self.sheet.series(wanted, None if self.scope.key is None else ("key", self.scope.key))

    def members(self, dimension: str, measures: Sequence[str] = BOARD_MEASURES) -> Deferred[Members]:
        """Who did how much in one dimension; endpoints by the names they are stored under."""
        if self.scope.key is None:
            return self.sheet.board(self.slots, dimension, measures)
        return self._key_board.map(lambda board: board.members.get(dimension, {}))

    def endpoints(self) -> Deferred[Members]:
        """Who did how much by endpoint, under the labels that answers use."""
        return self.members("endpoint").map(lambda members: by_label(members, self.reader.settings))

    def tagged(self, dimension: str, series: Deferred[Series]) -> Deferred[Members]:
        """Who did how much in a declared dimension; calls from before it was declared have no value in it: `(none)`."""
        members = self.members(dimension)
        began = self.slots[0].start if self.slots else self.now
        if began >= self.reader.since([dimension]).get(dimension, began):
            return members
        return members.map(lambda found: _with_the_rest(found, series.value.values()))

    def latency(self) -> Deferred[dict[int, int]]:
        """The histogram."""
        if self.scope.key is None:
            return self.sheet.latency(self.slots)
        return self._key_board.map(lambda board: board.latency)

    @cached_property
    def _key_board(self) -> Deferred[KeyBoard]:
        assert self.scope.key is not None
        return self.sheet.key_board(self.slots, self.scope.key)

    def read(self) -> None:
        """Have everything answered."""
        self.sheet.read()


def _with_the_rest(members: Members, series: Iterable[Measures]) -> Members:
    """The members, and what no member has of the whole as `(none)`."""
    rest = board_measures(series)
    for measures in members.values():
        for measure, number in measures.items():
            rest[measure] = rest.get(measure, 0) - number
    none = {measure: rest[measure] + members.get(NONE, {}).get(measure, 0) for measure in rest}
    return {**members, NONE: none} if any(none.values()) else members
