"""The counters of what is looked at, the same questions whether that is an organisation or one key of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from usage_middleware.periods import Slot, rfc3339
from usage_middleware.report.labels import by_label
from usage_middleware.report.viewer import Scope
from usage_middleware.settings import Kind
from usage_middleware.store.reader import Answer, KeyBoard, Reader, Sheet
from usage_middleware.store.schema import BOARD_MEASURES, DROPPED

Members = dict[str, dict[str, int]]
Series = dict[Slot, dict[str, int]]


def kinds(scope: Scope) -> tuple[Kind, ...]:
    """The counters that a breakdown of this scope needs: their retention bounds its window."""
    return ("board", "series") if scope.key is None else ("key_board", "key")


def complete_through(reader: Reader, now: int) -> str | None:
    """Every call that finished before it is in, on workers that are alive; None without workers."""
    through = reader.complete_through(now)
    return None if through is None else rfc3339(through / 1000)


def dropped_calls(scope: Scope, series: Series) -> int | None:
    """Finished requests that could not be counted; None of one key, for which that is not kept."""
    return None if scope.key is not None else sum(measures.get(DROPPED, 0) for measures in series.values())


@dataclass
class Source:
    """Asks one sheet about one scope over the same slots."""

    reader: Reader
    scope: Scope
    slots: Sequence[Slot]
    now: int

    @cached_property
    def sheet(self) -> Sheet:
        """The sheet that all questions go on."""
        return self.reader.sheet(self.scope.org, self.now)

    def series(self, slots: Sequence[Slot] | None = None) -> Answer[Series]:
        """How it went over time, slot by slot; `slots` where finer ones are wanted than for breakdowns."""
        wanted = self.slots if slots is None else slots
        return self.sheet.series(wanted, None if self.scope.key is None else ("key", self.scope.key))

    def members(self, dimension: str, measures: Sequence[str] = BOARD_MEASURES) -> Answer[Members]:
        """Who did how much in one dimension; endpoints by the names they are stored under."""
        if self.scope.key is None:
            return self.sheet.board(self.slots, dimension, measures)
        return self._key_board.map(lambda board: board.members.get(dimension, {}))

    def endpoints(self) -> Answer[Members]:
        """Who did how much by endpoint, under the labels that answers use."""
        return self.members("endpoint").map(lambda members: by_label(members, self.reader.settings))

    def latency(self) -> Answer[dict[int, int]]:
        """The histogram."""
        if self.scope.key is None:
            return self.sheet.latency(self.slots)
        return self._key_board.map(lambda board: board.latency)

    @cached_property
    def _key_board(self) -> Answer[KeyBoard]:
        assert self.scope.key is not None
        return self.sheet.key_board(self.slots, self.scope.key)

    def read(self) -> None:
        """Have everything answered."""
        self.sheet.read()
