"""Sums between the edges of buckets from few slots: whole UTC days, and of a day with an edge only what lies before it.

A local day of New York is no sum of UTC days, but of what ran up to its end less what ran up to its start: the UTC days
before, and the slots between midnight UTC and the edge, or the day less those behind the edge where they are fewer. That reads
ten half-hours a day instead of 48. Greatest values can't be subtracted: `last_ms` is read otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from usage_middleware.options import Settings
from usage_middleware.periods import Slot
from usage_middleware.report.timeline import Timeline
from usage_middleware.store.read_batch import Deferred, ReadBatch

Sums = dict[str, int]


class PrefixSums:
    """The slots that tell what ran up to each edge of a timeline, and how they add up."""

    def __init__(self, line: Timeline, settings: Settings) -> None:
        self._layers = settings.layers
        window = line.window
        self._edges = [max(window.start, line.starts[0]), *line.cuts, window.end]
        self._now = window.now
        self._first_day = self._layers.day.floor(self._edges[0])
        #: Days of which only the slots behind their first edge are read: what lies before is the day less these.
        self._backwards: dict[int, int] = {}
        self.slots = self._days() + self._parts()

    def _days(self) -> list[Slot]:
        end = self._layers.day.ceil(min(self._edges[-1], self._now + 1))
        return [Slot(self._layers.day, at) for at in range(self._first_day, end, self._layers.day.seconds)]

    def _parts(self) -> list[Slot]:
        inside: dict[int, list[int]] = {}
        for edge in self._edges:
            day = self._layers.day.floor(edge)
            if edge != day and edge < self._now:
                inside.setdefault(day, []).append(edge)
        for day, edges in inside.items():
            end = day + self._layers.day.seconds
            if end <= self._now and end - edges[0] < edges[-1] - day:
                self._backwards[day] = edges[0]
        return [slot for day, edges in inside.items() for slot in self._part(day, edges[-1])]

    def _part(self, day: int, last_edge: int) -> list[Slot]:
        """The slots of a day before its last edge; or those behind its first one, where they are fewer."""
        start, end = day, last_edge
        if day in self._backwards:
            start, end = self._backwards[day], day + self._layers.day.seconds
        middle = self._layers.middle
        return [Slot(middle, at) for at in range(start, end, middle.seconds)]

    def ask(self, sheet: ReadBatch, of: tuple[str, str] | None, measures: Sequence[str]) -> Deferred[dict[Slot, Sums]]:
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
        at, part = self._first_day - 1, Sums()
        for edge in self._edges:
            day = self._layers.day.floor(edge)
            if edge >= self._now or edge == day:
                run[edge] = everything if edge >= self._now else before[day]
                continue
            if at < day:
                at, part = self._entered(day, series)
            while at < edge:
                _add(part, series.get(Slot(middle, at)))
                at += middle.seconds
            run[edge] = _plus(before[day], part)
        return run

    def _entered(self, day: int, series: Mapping[Slot, Mapping[str, int]]) -> tuple[int, Sums]:
        """From where on a day is added up slot by slot, and what of it ran before."""
        if day not in self._backwards:
            return day, Sums()
        behind = Sums()
        for slot in self._part(day, day):
            _add(behind, series.get(slot))
        return self._backwards[day], _less(series.get(Slot(self._layers.day, day), {}), behind)

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
