"""The series view: any measure over time, by any group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, TypeAlias

import msgspec

from usage_middleware.report.cells import Cells
from usage_middleware.report.context import ReportContext, report_scope
from usage_middleware.report.kept import Gap
from usage_middleware.report.measure import Cell, Measure, Number, measure_names
from usage_middleware.report.metrics import summed
from usage_middleware.report.parameters import KeyId, Parameters, Period, described
from usage_middleware.report.parts import Parts, Unavailable, asked_window, changes, present
from usage_middleware.report.series_question import TOGETHER, Breakdown, allowed_groups, breakdown
from usage_middleware.report.series_reads import Coverage, Lines, cover, cover_again, falling, read
from usage_middleware.report.timeline import Granularity
from usage_middleware.report.view import Table, View
from usage_middleware.report.window import Window, WindowReport, previous
from usage_middleware.store.schema import CALLS

#: A measure's name and its number for a whole window.
Totals: TypeAlias = Mapping[str, Number | None]


class SeriesParameters(Parameters, frozen=True, kw_only=True):
    """What the series view may be asked."""

    key_id: KeyId = None
    endpoint: Annotated[str | None, described("Only this endpoint, as answers call it.", "GET /v1/items")] = None
    measure: Annotated[str, described("What is followed.", "errors", code="unsupported_measure")] = CALLS
    group: Annotated[str, described("By what it is broken down; `none`: not at all.", "endpoint", code="invalid_group")] = (
        TOGETHER
    )
    period: Period = "30d"
    granularity: Annotated[
        Granularity | None,
        described(
            "Width of the buckets. Default: hour, beyond 100 days day, or the finest kept.", "day", code="invalid_granularity"
        ),
    ] = None
    limit: Annotated[int, described("How many rows are listed.", "5", minimum=1, maximum=50)] = 5


class OneSeries(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


class PreviousSeries(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in the window before, whatever the group.

    Attributes:
        change: by how much of itself the total has grown since, 0.25 for a quarter; None where it was 0 or there was none.
        points: in buckets of the same width, to be laid over those of now, first over first; None where such are not kept.
    """

    window: WindowReport
    totals: dict[str, int | float | None]
    change: dict[str, float | None]
    points: list[tuple[str, int | float | None]] | None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A measure over time.

    Attributes:
        measure: the measure in force.
        group: the group in force.
        granularity: the width of the buckets; None where `series` is.
        totals: the measure's number for the whole window, by its name.
        series: by total descending, then by name; as many as `limit` allows. None where the group is not kept for this window.
        other: the rest; None of averages and percentiles, which don't add up.
        dropped_calls: None of one key and of one endpoint, for which that is not kept.
        unavailable: the fields that are None because they are not kept for this window, and why.
        previous: the window before, if it was asked for.
    """

    measure: str
    group: str
    granularity: Granularity | None
    totals: dict[str, int | float | None]
    series: list[OneSeries] | None
    other: OtherSeries | None
    org_id: str | None
    window: WindowReport
    dropped_calls: int | None
    complete_through: str | None
    final: bool
    generated_at: str
    unavailable: dict[str, Unavailable]
    previous: PreviousSeries | msgspec.UnsetType | None = msgspec.UNSET


def build(context: ReportContext, params: SeriesParameters) -> Series:
    """Answer a series question."""
    scope = report_scope(context.viewer, params.org, params.key_id, together=context.settings.operator_tree)
    asked = breakdown(context, scope, params.group, params.endpoint)
    measure = asked.measure(params.measure)

    def covered(window: Window) -> tuple[Parts, Coverage]:
        parts = Parts(window, context.settings)
        return parts, cover(window, parts, asked, measure, params.granularity)

    needs = [asked.subject.kind(measure)]
    window = asked_window(context, scope, params, params.period, needs=needs, fits=covered)
    parts, coverage = covered(window)
    lines = read(context, asked, measure, coverage, params.limit, rows="series" not in parts.unavailable)
    totals = {measure.name: measure.value(summed(lines.whole))}
    return Series(
        measure=measure.name,
        group=params.group,
        granularity=coverage.granularity,
        totals=totals,
        series=_rows(lines, coverage, measure),
        other=_other(lines, coverage, measure),
        org_id=scope.shown_org,
        window=window.report(),
        dropped_calls=lines.dropped,
        complete_through=context.complete_through(),
        final=context.is_final(window.end),
        generated_at=context.generated_at,
        previous=_previous(context, asked, measure, coverage, parts, totals) if params.compare else msgspec.UNSET,
        unavailable=parts.unavailable,
    )


def _rows(lines: Lines, coverage: Coverage, measure: Measure) -> list[OneSeries] | None:
    if lines.listed is None:
        return None
    stamps = coverage.stamps()
    listed = [_one(name, cells, measure, stamps) for name, cells in lines.listed.items()]
    return sorted(listed, key=lambda row: (*falling(row.total), row.name))


def _one(name: str, cells: Cells, measure: Measure, stamps: Sequence[str]) -> OneSeries:
    return OneSeries(name=name, total=measure.value(summed(cells)), points=_points(cells, measure, stamps))


def _points(cells: Cells, measure: Measure, stamps: Sequence[str]) -> list[tuple[str, Number | None]]:
    return list(zip(stamps, map(measure.value, cells), strict=True))


def _other(lines: Lines, coverage: Coverage, measure: Measure) -> OtherSeries | None:
    """What everything has beyond the listed rows."""
    if lines.listed is None or not measure.adds_up:
        return None
    rest = [_less(whole, parts, measure) for whole, *parts in zip(lines.whole, *lines.listed.values(), strict=True)]
    return OtherSeries(members=lines.hidden, total=sum(rest), points=list(zip(coverage.stamps(), rest, strict=True)))


def _less(whole: Cell, parts: Iterable[Cell], measure: Measure) -> int:
    return int(measure.value(whole) or 0) - int(sum(measure.value(part) or 0 for part in parts))


def _previous(
    context: ReportContext, asked: Breakdown, measure: Measure, coverage: Coverage, parts: Parts, totals: Totals
) -> PreviousSeries | None:
    """Everything in the window before, in buckets of the same width if these are kept."""
    kinds = (asked.scope.series_kind, asked.subject.kind(measure))
    window = previous(coverage.window, context.settings, kinds)
    if isinstance(window, Gap):
        parts.lack(window, "previous")
        return None
    before = cover_again(coverage, window, asked, measure)
    if isinstance(before, Gap):
        parts.lack(before, "previous.points")
        before = Coverage(window, None, None, kinds)
    (cells,) = before.reads(context, asked.scope.org, measure).read([asked.subject])
    was = {measure.name: measure.value(summed(cells))}
    points = None if before.line is None else _points(cells, measure, before.stamps())
    return PreviousSeries(window=window.report(), totals=was, change=changes(was, totals), points=points)


def _table(report: Series) -> Table:
    """A row for each listed series and bucket."""
    listed = present(report.series, "series", report.unavailable)
    return ["name", "timestamp", report.measure], ((row.name, *point) for row in listed for point in row.points)


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
  "dropped_calls": 0, "complete_through": "2026-11-20T13:45:15Z", "final": false,
  "generated_at": "2026-11-20T13:45:20Z",
  "unavailable": {}
}""",
)
