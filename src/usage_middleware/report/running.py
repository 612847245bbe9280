"""Sums between the edges of buckets from few slots: whole UTC days, and of a day with an edge only what lies before it.

A local day of New York is no sum of UTC days, but of what ran up to its end less what ran up to its start: the UTC days
before, and the slots between midnight UTC and the edge. That reads ten half-hours a day instead of 48. Greatest values
can't be subtracted: `last_ms` is read otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from usage_middleware.periods import Slot
from usage_middleware.report.timeline import Timeline
from usage_middleware.settings import Settings
from usage_middleware.store.reader import Answer, Sheet

Sums = dict[str, int]


class RunningSums:
    """The slots that tell what ran up to each edge of a timeline, and how they add up."""

    def __init__(self, line: Timeline, settings: Settings) -> None:
        self._layers = settings.layers
        window = line.window
        self._edges = [max(window.start, line.starts[0]), *line.cuts, window.end]
        self._now = window.now
        self._first_day = self._layers.day.floor(self._edges[0])
        self.slots = self._days() + self._parts()

    def _days(self) -> list[Slot]:
        end = self._layers.day.ceil(min(self._edges[-1], self._now + 1))
        return [Slot(self._layers.day, at) for at in range(self._first_day, end, self._layers.day.seconds)]

    def _parts(self) -> list[Slot]:
        last: dict[int, int] = {}
        for edge in self._edges:
            day = self._layers.day.floor(edge)
            if edge != day and edge < self._now:
                last[day] = max(last.get(day, day), edge)
        middle = self._layers.middle
        return [Slot(middle, at) for day, edge in last.items() for at in range(day, edge, middle.seconds)]

    def ask(self, sheet: Sheet, of: tuple[str, str] | None, measures: Sequence[str]) -> Answer[dict[Slot, Sums]]:
        """Have the slots of one series read."""
        return sheet.series(self.slots, of, measures)

    def buckets(self, series: Mapping[Slot, Mapping[str, int]]) -> list[Sums]:
        """The sum of each bucket: what ran up to its end, less what ran up to its start."""
        run = self._run(series)
        return [_less(run[end], run[start]) for start, end in pairwise(self._edges)]

    def _run(self, series: Mapping[Slot, Mapping[str, int]]) -> dict[int, Sums]:
        """What ran from the first day to each edge; up to an edge that is not past yet, everything."""
        before, everything = self._before(series)
        middle = self._layers.middle
        run: dict[int, Sums] = {}
        at, part = self._first_day, Sums()
        for edge in self._edges:
            day = self._layers.day.floor(edge)
            if edge >= self._now:
                run[edge] = everything
                continue
            if at < day:
                at, part = day, Sums()
            while at < edge:
                _add(part, series.get(Slot(middle, at)))
                at += middle.seconds
            run[edge] = _plus(before[day], part)
        return run

    def _before(self, series: Mapping[Slot, Mapping[str, int]]) -> tuple[dict[int, Sums], Sums]:
        """What ran up to the start of each day, and in all of them."""
        total: Sums = {}
        before = {self._first_day: Sums()}
        for slot in self._days():
            _add(total, series.get(slot))
            before[slot.end] = dict(total)
        return before, total


def _add(total: Sums, more: Mapping[str, int] | None) -> None:
    for measure, number in (more or {}).items():
        total[measure] = total.get(measure, 0) + number


def _plus(one: Mapping[str, int], other: Mapping[str, int]) -> Sums:
    total = dict(one)
    _add(total, other)
    return total


def _less(end: Mapping[str, int], start: Mapping[str, int]) -> Sums:
    return {measure: number - start.get(measure, 0) for measure, number in end.items()}
