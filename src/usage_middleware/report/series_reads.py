"""Reads a series question: in which buckets its calls can be told apart, and what everything and each row came to in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import nsmallest
from typing import NamedTuple

from usage_middleware.gil import LIGHT, yielding
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import Slot, zone
from usage_middleware.report.cells import BucketReads, Cells
from usage_middleware.report.context import ReportContext
from usage_middleware.report.endpoint_sums import PrefixSums
from usage_middleware.report.kept import Gap
from usage_middleware.report.measure import Cell, Measure, Number
from usage_middleware.report.parts import Parts
from usage_middleware.report.rows import Rows, WholeWindow
from usage_middleware.report.series_question import Breakdown
from usage_middleware.report.timeline import (
    GRANULARITIES,
    Granularity,
    GranularityChooser,
    Timeline,
    first_day,
    timeline,
    too_wide,
)
from usage_middleware.report.window import Window
from usage_middleware.store.schema import DROPPED

#: The name of the only row where calls are not told apart.
EVERYTHING = "(all)"
#: How many points one answer may have.
MOST_POINTS = 100_000
#: What is null where the rows are not kept.
ROWS = ("series", "other")


class Coverage(NamedTuple):
    """What is read: over which window, in which buckets, of which counters.

    Attributes:
        line: the buckets; None where the slots are gone that tell them apart.
        kinds: the counters that everything is read from, and the rows where they are kept.
    """

    window: Window
    line: Timeline | None
    granularity: Granularity | None
    kinds: Sequence[CounterKind]

    def sums(self, settings: Settings) -> PrefixSums | None:
        """How buckets of days and more are added up from few slots; None where they can't be."""
        is_fine = self.granularity in ("minute", "hour")
        if is_fine or self.line is None or not PrefixSums.can(self.line, settings, self.kinds):
            return None
        return PrefixSums(self.line, settings)

    def reads(self, context: ReportContext, org: str, measure: Measure) -> BucketReads:
        """Reads of a measure in the buckets; in the window as a whole where there are none."""
        settings = context.settings
        slots = self.window.slots(settings.layers)
        until = slots[-1].end if slots else self.window.start

        def groups() -> Sequence[Sequence[Slot]]:
            return [slots] if self.line is None else self.line.grouped(self.line.slots(settings, until))

        return BucketReads(context.batch(org), groups, measure, self.sums(settings))

    def stamps(self) -> list[str]:
        """Where each bucket begins, RFC 3339 in the zone."""
        return [] if self.line is None else self.line.stamps(with_offset=False)


class Lines(NamedTuple):
    """What was read: the cells of everything and of each listed row, and how many rows are not listed.

    Attributes:
        listed: None where the rows or their buckets are not kept.
    """

    whole: Cells
    listed: Mapping[str, Cells] | None
    hidden: int
    dropped: int | None


def cover(window: Window, parts: Parts, asked: Breakdown, measure: Measure, wanted: Granularity | None) -> Coverage:
    """The buckets that everything and its rows can be told apart in; what can't be is noted in `parts`.

    Raises:
        QueryError: `invalid_granularity` where only wider buckets are kept; `unsupported_timezone` or `window_too_wide`.
    """
    kinds = [asked.subject.kind(measure)]
    if asked.parts is not None and parts.offers(asked.parts.kind(measure), *ROWS):
        kinds.append(asked.parts.kind(measure))
    # Those that are kept for the shortest time first: what an error says is then true of all.
    briefest = sorted(dict.fromkeys(kinds), key=lambda kind: asked.settings.kept(kind, asked.settings.layers.middle.rank))
    sizes = [_granularity(window, asked.settings, kind, wanted) for kind in briefest]
    found = [size for size in sizes if size is not None]
    if len(found) < len(sizes):
        parts.lack(_first_bucket(window, asked.settings, kinds), *ROWS)
        return Coverage(window, None, None, kinds)
    size = max(found, key=GRANULARITIES.index)
    return Coverage(window, timeline(window, size, zone(window.timezone)), size, kinds)


def cover_again(coverage: Coverage, window: Window, asked: Breakdown, measure: Measure) -> Coverage | Gap:
    """The buckets of another window, as wide as those of the first; or what is missing to tell them apart."""
    kind, size, tz = asked.subject.kind(measure), coverage.granularity, zone(window.timezone)
    if size is None:
        return first_day(window.now, asked.settings, kind)
    gap = GranularityChooser(window, tz, asked.settings, kind).gap(size)
    return gap or Coverage(window, timeline(window, size, tz), size, (kind,))


def _granularity(window: Window, settings: Settings, kind: CounterKind, wanted: Granularity | None) -> Granularity | None:
    chooser = GranularityChooser(window, zone(window.timezone), settings, kind)
    return chooser.kept(None) if wanted is None else chooser.choose(wanted)


def _first_bucket(window: Window, settings: Settings, kinds: Sequence[CounterKind]) -> Gap:
    return max((first_day(window.now, settings, kind) for kind in kinds), key=lambda gap: gap.since)


def read(context: ReportContext, asked: Breakdown, measure: Measure, coverage: Coverage, limit: int, *, rows: bool) -> Lines:
    """First which rows are the greatest, then these and everything, together: so that they agree. `rows`: whether any are."""
    whole = WholeWindow(context, asked.scope, coverage.window, measure)
    found = None if asked.parts is None or not rows else asked.parts.rows(whole)
    listed = [] if found is None else greatest(found.cells, measure, limit)
    _check_points(len(listed) + 2, coverage)
    reads = coverage.reads(context, asked.scope.org, measure)
    dropped = reads.batch.series(whole.slots, None, [DROPPED]) if asked.is_everything else None
    subjects = {} if found is None else found.subjects(listed)
    everything, *cells = reads.read([asked.subject, *subjects.values()])
    return Lines(
        everything,
        _listed(asked, rows, everything, dict(zip(subjects, cells, strict=True))),
        _hidden(found, listed),
        None if dropped is None else sum(measures.get(DROPPED, 0) for measures in dropped.value.values()),
    )


def _listed(asked: Breakdown, rows: bool, everything: Cells, found: Mapping[str, Cells]) -> Mapping[str, Cells] | None:
    if not rows:
        return None
    return {EVERYTHING: everything} if asked.parts is None else found


def _hidden(rows: Rows | None, listed: Sequence[str]) -> int:
    return 0 if rows is None else len(rows.cells) - len(listed)


def greatest(cells: Mapping[str, Cell], measure: Measure, limit: int) -> list[str]:
    """The rows with the greatest values, as many as `limit` allows; of equal ones the first by name."""
    # Not a sort of all: they may be 100,000, and in its midst no other thread could run.
    return nsmallest(limit, yielding(cells, LIGHT), key=lambda name: (*falling(measure.value(cells[name])), name))


def falling(total: Number | None) -> tuple[bool, Number]:
    """Sorts by total descending; what has none comes last."""
    return total is None, -(total or 0)


def _check_points(rows: int, coverage: Coverage) -> None:
    if coverage.line is not None and rows * len(coverage.line.starts) > MOST_POINTS:
        raise too_wide(f"that would be more than {MOST_POINTS} points")
