"""Which slots are kept, and so between which edges calls can be counted exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal, NamedTuple

from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import MINUTE, Resolution
from usage_middleware.report.named_periods import Edges

#: How an edge that nothing is cut at is moved: to the slot next to it, to the minute alone, or, where it is a time with
#: seconds, as far as a tenth of the window allows.
Alignment = Literal["nearest", "exact", "outward"]


class Gap(NamedTuple):
    """Slots that a window needs and that are gone: their layer, and since when it is kept."""

    layer: Resolution
    since: int


class Kept(NamedTuple):
    """The slots of some kinds of counters that are all kept now."""

    settings: Settings
    kinds: Sequence[CounterKind]
    now: int

    def oldest(self, layer: Resolution) -> int:
        """The start of the oldest slot of a layer."""
        return oldest_kept(layer, self.now, min(self.settings.kept(kind, layer.rank) for kind in self.kinds))

    def gap(self, edges: Edges) -> Gap | None:
        """What is missing to count the calls between two whole minutes exactly; None if nothing is.

        An end that is now or later needs nothing: open slots hold nothing of the future.
        """
        for layer, first in self._first_slots(edges):
            if first < (oldest := self.oldest(layer)):
                return Gap(layer, oldest)
        return None

    def _first_slots(self, edges: Edges) -> Iterator[tuple[Resolution, int]]:
        """The first slot of each layer that the window is made of, the widest layer first."""
        minute, middle, day = self.settings.layers
        start = edges.start
        end = edges.end if edges.end < self.now else day.ceil(min(edges.end, self.now + 1))
        first, last = middle.ceil(start), middle.floor(end)
        if day.ceil(first) < day.floor(last):
            yield day, day.ceil(first)
        if first < last and (first % day.seconds or last % day.seconds):
            yield middle, first if first % day.seconds else max(first, day.floor(last))
        if start < end and (start % middle.seconds or end % middle.seconds):
            yield minute, start if start % middle.seconds else max(start, last)

    def aligned(self, asked: Edges, alignment: Alignment) -> Edges | None:
        """The exact window for one that was asked for, no narrower; None if it would be more than a tenth longer.

        To move an edge to its own minute is always possible while minutes are kept.
        """
        minute = self.settings.layers.minute
        own = Edges(minute.floor(asked.start), self._end(minute.ceil(asked.end), asked))
        found = [own] if self.gap(own) is None else []
        if found == [asked]:
            return own
        if alignment != "exact":
            found += [one for one in self._outside(asked) if (one.length - asked.length) * 10 <= asked.length]
        return min(found, key=lambda one: _cost(asked, one, alignment), default=None)

    def nearest(self, asked: Edges) -> list[Edges]:
        """The longest exact window inside of one, and the shortest around it, of those that there are."""
        inside, outside = list(self._inside(asked)), list(self._outside(asked))
        found = [max(inside, key=lambda one: one.length)] if inside else []
        return [*found, min(outside, key=lambda one: one.length)] if outside else found

    def _outside(self, asked: Edges) -> Iterator[Edges]:
        for first, last in product(self.settings.layers, repeat=2):
            found = Edges(first.floor(asked.start), self._end(last.ceil(asked.end), asked))
            if self.gap(found) is None:
                yield found

    def _inside(self, asked: Edges) -> Iterator[Edges]:
        for first, last in product(self.settings.layers, repeat=2):
            start = max(first.ceil(asked.start), self.oldest(first))
            found = Edges(start, asked.end if asked.end >= self.now else last.floor(asked.end))
            if found.length > 0 and self.gap(found) is None:
                yield found

    def _end(self, end: int, asked: Edges) -> int:
        """An end that was moved, but never into the future."""
        return asked.end if asked.end >= self.now else min(end, self.now)


def _cost(asked: Edges, found: Edges, alignment: Alignment) -> int:
    """The less, the better: how far the edges were moved. One with seconds, which nobody means, moves as far as it may.

    That is what programs ask for: now less 30 days. At wide slots everything is kept for longer than at narrow ones.
    """
    start, end = asked.start - found.start, found.end - asked.end
    if alignment == "outward":
        start, end = (-start if asked.start % MINUTE else start), (-end if asked.end % MINUTE else end)
    return start + end


def oldest_kept(layer: Resolution, now: int, kept: int) -> int:
    """The start of the oldest slot of a layer that has not expired: it ended less than `kept` seconds ago."""
    return layer.floor(now - kept - layer.seconds) + layer.seconds
