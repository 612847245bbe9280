"""The series view: any measure over time, by any group."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec

from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import zone
from usage_middleware.report.cells import BucketReads, Cells
from usage_middleware.report.context import ReportContext, report_scope
from usage_middleware.report.endpoint_sums import PrefixSums
from usage_middleware.report.measure import Cell, Measure, Number, measure_names
from usage_middleware.report.metrics import summed
from usage_middleware.report.parameters import Parameters, Period, Timezone, described
from usage_middleware.report.rows import WholeWindow
from usage_middleware.report.series_question import TOGETHER, Breakdown, allowed_groups, breakdown
from usage_middleware.report.timeline import (
    GRANULARITIES,
    Granularity,
    GranularityChooser,
    Timeline,
    edge_problem,
    timeline,
    too_wide,
)
from usage_middleware.report.view import Table, View
from usage_middleware.report.window import Window, WindowReport, WindowRequest, resolve
from usage_middleware.store.schema import CALLS, DROPPED

#: The name of the only row where calls are not told apart.
EVERYTHING = "(all)"
#: How many points one answer may have.
MOST_POINTS = 100_000


class SeriesParameters(Parameters, frozen=True, kw_only=True):
    """What the series view may be asked."""

    key_id: Annotated[str | None, described("Only this API key.", "key_7")] = None
    endpoint: Annotated[str | None, described("Only this endpoint, as answers call it.", "GET /v1/items")] = None
    measure: Annotated[str, described("What is followed.", "errors", code="unsupported_measure")] = CALLS
    group: Annotated[str, described("By what it is broken down; `none`: not at all.", "endpoint", code="invalid_group")] = (
        TOGETHER
    )
    period: Period = "30d"
    granularity: Annotated[
        Granularity | None,
        described(
            "Width of the buckets. Default: hour, or the finest kept for the whole window.", "day", code="invalid_granularity"
        ),
    ] = None
    timezone: Timezone = "UTC"
    limit: Annotated[int, described("How many rows are listed.", "5", minimum=1, maximum=50)] = 5


class OneSeries(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the group.

    Attributes:
        total: of the whole window; of averages and percentiles the window's own, None where there is none.
        points: start of the bucket (RFC 3339, in the zone) and number, ascending, none left out; of averages and
            percentiles None in a bucket without calls.
    """

    name: str
    total: int | float | None
    points: list[tuple[str, int | float | None]]


class OtherSeries(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that are not listed, together; `members` is how many they are."""

    members: int
    total: int
    points: list[tuple[str, int]]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A measure over time.

    Attributes:
        measure: the measure in force.
        group: the group in force.
        granularity: the width of the buckets.
        totals: the measure's number for the whole window, by its name.
        series: by total descending, then by name; as many as `limit` allows.
        other: the rest; None of averages and percentiles, which don't add up.
        dropped_calls: None of one key and of one endpoint, for which that is not kept.
    """

    measure: str
    group: str
    granularity: Granularity
    totals: dict[str, int | float | None]
    series: list[OneSeries]
    other: OtherSeries | None
    org_id: str | None
    window: WindowReport
    dropped_calls: int | None
    complete_through: str | None
    generated_at: str


class _Lines(NamedTuple):
    """What was read: the cells of everything and of each listed row, and how many rows are not listed."""

    whole: Cells
    listed: Mapping[str, Cells]
    hidden: int
    dropped: int | None


class _Coverage(NamedTuple):
    """The window, the buckets that it is cut into, and the counters that both are kept in."""

    window: Window
    line: Timeline
    granularity: Granularity
    kinds: Sequence[CounterKind]

    def sums(self, settings: Settings) -> PrefixSums | None:
        """How buckets of days and more are added up from few slots; None where they can't be."""
        edges = [self.window.start, *self.line.cuts, self.window.end]
        is_fine = self.granularity in ("minute", "hour")
        if is_fine or any(edge_problem(edges, self.window.now, settings, kind, minutes=False) for kind in self.kinds):
            return None
        return PrefixSums(self.line, settings)


def build(context: ReportContext, params: SeriesParameters) -> Series:
    """Answer a series question."""
    scope = report_scope(context.viewer, params.org, params.key_id, together=context.settings.operator_tree)
    asked = breakdown(context, scope, params.group, params.endpoint)
    measure = asked.measure(params.measure)
    coverage = _coverage(context, params, asked.kinds(measure))
    lines = _read(context, asked, measure, coverage, params.limit)
    stamps = coverage.line.stamps(with_offset=False)
    listed = [_one(name, cells, measure, stamps) for name, cells in lines.listed.items()]
    return Series(
        measure=measure.name,
        group=params.group,
        granularity=coverage.granularity,
        totals={measure.name: measure.value(summed(lines.whole))},
        series=sorted(listed, key=lambda row: (*_falling(row.total), row.name)),
        other=_other(lines, measure, stamps) if measure.adds_up else None,
        org_id=scope.shown_org,
        window=coverage.window.report(),
        dropped_calls=lines.dropped,
        complete_through=context.complete_through(),
        generated_at=context.generated_at,
    )


def _coverage(context: ReportContext, params: SeriesParameters, kinds: Collection[CounterKind]) -> _Coverage:
    settings, tz = context.settings, zone(params.timezone)
    # What is kept for the shortest time comes first: if it refuses, it names what works for all.
    ordered = sorted(kinds, key=lambda kind: settings.kept(kind, settings.layers.middle.rank))
    window = _window(context, params, ordered)
    sizes = [GranularityChooser(window, tz, settings, kind).choose(params.granularity) for kind in ordered]
    size = max(sizes, key=GRANULARITIES.index)
    return _Coverage(window, timeline(window, size, tz), size, ordered)


def _window(context: ReportContext, params: SeriesParameters, kinds: Sequence[CounterKind]) -> Window:
    """The window that counters of all these kinds answer exactly."""
    request = WindowRequest(params.period, params.start, params.end, params.timezone)
    return resolve(request, context.now, context.settings, kinds)


def _read(context: ReportContext, asked: Breakdown, measure: Measure, coverage: _Coverage, limit: int) -> _Lines:
    """First which rows are the greatest, then these and everything, together: so that they agree."""
    whole = WholeWindow(context, asked.scope, coverage.window, measure)
    rows = None if asked.parts is None else asked.parts.rows(whole)
    greatest = () if rows is None else _greatest(rows.cells, measure, limit)
    _check_points(len(greatest) + 2, coverage)
    until = whole.slots[-1].end if whole.slots else coverage.window.start
    slots = coverage.line.grouped(coverage.line.slots(context.settings, until))
    batch = context.batch(asked.scope.org)
    dropped = batch.series(whole.slots, None, [DROPPED]) if asked.is_everything else None
    subjects = {} if rows is None else rows.subjects(greatest)
    reads = BucketReads(batch, slots, measure, coverage.sums(context.settings))
    everything, *found = reads.read([asked.subject, *subjects.values()])
    return _Lines(
        everything,
        {EVERYTHING: everything} if rows is None else dict(zip(subjects, found, strict=True)),
        0 if rows is None else len(rows.cells) - len(greatest),
        None if dropped is None else sum(measures.get(DROPPED, 0) for measures in dropped.value.values()),
    )


def _greatest(cells: Mapping[str, Cell], measure: Measure, limit: int) -> list[str]:
    return sorted(cells, key=lambda name: (*_falling(measure.value(cells[name])), name))[:limit]


def _falling(total: Number | None) -> tuple[bool, Number]:
    """Sorts by total descending; what has none comes last."""
    return total is None, -(total or 0)


def _check_points(rows: int, coverage: _Coverage) -> None:
    if rows * len(coverage.line.starts) > MOST_POINTS:
        raise too_wide(f"that would be more than {MOST_POINTS} points")


def _one(name: str, cells: Cells, measure: Measure, stamps: Sequence[str]) -> OneSeries:
    points = list(zip(stamps, map(measure.value, cells), strict=True))
    return OneSeries(name=name, total=measure.value(summed(cells)), points=points)


def _other(lines: _Lines, measure: Measure, stamps: Sequence[str]) -> OtherSeries:
    """What everything has beyond the listed rows."""
    rest = [_less(whole, parts, measure) for whole, *parts in zip(lines.whole, *lines.listed.values(), strict=True)]
    return OtherSeries(members=lines.hidden, total=sum(rest), points=list(zip(stamps, rest, strict=True)))


def _less(whole: Cell, parts: Iterable[Cell], measure: Measure) -> int:
    return int(measure.value(whole) or 0) - int(sum(measure.value(part) or 0 for part in parts))


def _table(report: Series) -> Table:
    """A row for each listed series and bucket."""
    header = ["name", "timestamp", report.measure]
    return header, ((row.name, *point) for row in report.series for point in row.points)


VIEW = View(
    name="series",
    path="/series",
    title="Any measure over time, by any group",
    asks=SeriesParameters,
    report=Series,
    build=build,
    tables={"series": _table},
    choices={"group": allowed_groups, "measure": lambda settings, _: measure_names(settings)},
    more_codes=("unsupported_timezone", "window_too_wide"),
    example="""{
  "measure": "calls",
  "group": "endpoint",
  "granularity": "day",
  "totals": {"calls": 1260},
  "series": [
    {"name": "GET /v1/items", "total": 1000, "points": [["2026-11-19T00:00:00Z", 400], ["2026-11-20T00:00:00Z", 600]]},
    {"name": "POST /v1/items", "total": 200, "points": [["2026-11-19T00:00:00Z", 0], ["2026-11-20T00:00:00Z", 200]]}
  ],
  "other": {"members": 3, "total": 60, "points": [["2026-11-19T00:00:00Z", 20], ["2026-11-20T00:00:00Z", 40]]},
  "org_id": "acme",
  "window": {
    "start": "2026-11-19T00:00:00Z", "end": "2026-11-20T13:45:20Z", "label": "custom", "timezone": "UTC", "resolution": "1d"
  },
  "dropped_calls": 0, "complete_through": "2026-11-20T13:45:15Z", "generated_at": "2026-11-20T13:45:20Z"
}""",
)
