"""The details view: everything about one key or all, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import zone
from usage_middleware.report.context import ReportContext, ReportScope, ScopedReader, Series, dropped_calls, report_scope
from usage_middleware.report.details_endpoints import EndpointBreakdown, EndpointDetails, EndpointRow, SortBy, endpoint_table
from usage_middleware.report.metrics import LatencyReport, Tally, by_class, by_status, is_error, latency_report, series_tally
from usage_middleware.report.paging import Pages, Pagination
from usage_middleware.report.parameters import LIMIT, SORT_BY, Offset, Parameters, SortOrder, Timezone, described, period
from usage_middleware.report.timeline import Granularity, GranularityChooser, Timeline, timeline
from usage_middleware.report.view import Table, View
from usage_middleware.report.window import ALL, PRESETS, Window, WindowReport, WindowRequest, resolve


class DetailsParameters(Parameters, frozen=True, kw_only=True):
    """What the details view may be asked."""

    key_id: Annotated[str | None, described("Only this API key.", "key_7")] = None
    timeframe: Annotated[Literal["1h", "24h", "7d", "30d", "90d", "1y", "all"], period("invalid_timeframe")] = "24h"
    granularity: Annotated[
        Granularity | None,
        described(
            "Width of the time series' buckets. Default: hour, or the finest kept for the whole window.",
            "day",
            code="invalid_granularity",
        ),
    ] = None
    include_endpoints: Annotated[bool, described("Add the breakdown by endpoint.", "false")] = True
    include_errors: Annotated[bool, described("Add error statistics.", "false")] = True
    include_latency: Annotated[bool, described("Add latency statistics.", "false")] = True
    sort_by: Annotated[SortBy, SORT_BY] = "requests"
    sort_order: SortOrder = "desc"
    limit: Annotated[int, LIMIT] = 100
    offset: Offset = 0
    timezone: Timezone = "UTC"


class DetailsTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The whole window. `latency_ms` is None where it was not asked for."""

    window: WindowReport
    key_id: str | None
    requests: int
    successful: int
    errors: int
    error_rate: float
    bytes: int
    latency_ms: LatencyReport | None
    granularity: Granularity
    dropped_calls: int | None
    complete_through: str | None


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket: its calendar start, and the calls of it that lie in the window."""

    timestamp: str
    requests: int
    successful: int
    errors: int
    bytes: int
    avg_latency_ms: float | None


class StatusCount(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that ended with one status."""

    status: int
    count: int


class ClassCount(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that ended with a status of one class: 400 or 500."""

    status_class: int
    count: int


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """Calls with a 4xx or 5xx status; `rate` is errors a call."""

    total: int
    rate: float
    by_status: list[StatusCount]
    by_class: list[ClassCount]


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one key or all. A part that was not asked for, or is not kept for this window, is None."""

    success: bool
    usage: DetailsTotals
    time_series: list[Point]
    endpoints: list[EndpointDetails] | None
    errors: Errors | None
    rate_limits: None
    alerts: list[str]
    recommendations: list[str]
    pagination: Pagination
    timestamp: str


class _Coverage(NamedTuple):
    """What is read: over which window, in which buckets, and whether breakdowns are kept for it."""

    scope: ReportScope
    window: Window
    line: Timeline
    granularity: Granularity
    has_breakdowns: bool


def build(context: ReportContext, params: DetailsParameters) -> Details:
    """Answer a details question."""
    scope = report_scope(context.viewer, params.org, params.key_id, together=context.settings.operator_tree)
    coverage = _coverage(scope, params, context.now, context.settings)
    window, has_breakdowns = coverage.window, coverage.has_breakdowns
    source = ScopedReader(context, scope, window.slots(context.settings.layers))
    until = source.slots[-1].end if source.slots else window.start
    series = source.series(coverage.line.slots(context.settings, until))
    members = source.members("endpoint") if has_breakdowns and params.include_endpoints else None
    latency = source.latency() if has_breakdowns and params.include_latency else None
    source.read()
    breakdown = EndpointBreakdown(context, scope, window, params.include_latency)
    pages = Pages(context, scope, "details", params, params.limit, params.offset)
    found = {} if members is None else breakdown.ranked(members.value, params.sort_by, params.sort_order)
    rows = pages.order(found, lambda label: EndpointRow(label, Tally(), ()))
    return Details(
        success=True,
        usage=_totals(context, coverage, params, series.value, {} if latency is None else latency.value),
        time_series=_points(coverage.line, series.value, with_latency=params.include_latency),
        endpoints=None if members is None else breakdown.reports(pages.cut(rows)),
        errors=_errors(series.value) if params.include_errors else None,
        rate_limits=None,
        alerts=[],
        recommendations=[],
        pagination=pages.pagination(len(rows)),
        timestamp=context.generated_at,
    )


def _coverage(scope: ReportScope, params: DetailsParameters, now: int, settings: Settings) -> _Coverage:
    tz = zone(params.timezone)
    request = WindowRequest(params.timeframe, params.start, params.end, params.timezone)
    wants_boards = params.include_endpoints or params.include_latency
    window = _kept_window(request, now, settings, (scope.series_kind, scope.board_kind)) if wants_boards else None
    everything = resolve(request, now, settings, (scope.series_kind,))
    # `all` must not be shorter than `1y`: without boards for a year there is no breakdown.
    if window is not None and request.preset == ALL and window.start > max(everything.start, now - PRESETS["1y"]):
        window = None
    has_breakdowns = window is not None
    window = window or everything
    size = GranularityChooser(window, tz, settings, scope.series_kind).choose(params.granularity)
    return _Coverage(scope, window, timeline(window, size, tz), size, has_breakdowns)


def _kept_window(request: WindowRequest, now: int, settings: Settings, kinds: Sequence[CounterKind]) -> Window | None:
    try:
        return resolve(request, now, settings, kinds)
    except QueryError as refused:
        if refused.code == "not_retained":
            return None
        raise


def _totals(
    context: ReportContext, coverage: _Coverage, params: DetailsParameters, series: Series, bins: Mapping[int, int]
) -> DetailsTotals:
    total = series_tally(series.values())
    return DetailsTotals(
        window=coverage.window.report(),
        key_id=coverage.scope.key or params.key_id,
        requests=total.calls,
        successful=total.successful,
        errors=total.errors,
        error_rate=total.error_rate,
        bytes=total.sent,
        latency_ms=latency_report(total, bins) if params.include_latency else None,
        granularity=coverage.granularity,
        dropped_calls=dropped_calls(coverage.scope, series),
        complete_through=context.complete_through(),
    )


def _points(line: Timeline, series: Series, *, with_latency: bool) -> list[Point]:
    tallies = (series_tally(many) for many in line.split(series))
    return [
        Point(
            timestamp=stamp,
            requests=tally.calls,
            successful=tally.successful,
            errors=tally.errors,
            bytes=tally.sent,
            avg_latency_ms=tally.avg_ms if with_latency else None,
        )
        for stamp, tally in zip(line.stamps(with_offset=False), tallies, strict=True)
    ]


def _errors(series: Series) -> Errors:
    total = series_tally(series.values())
    codes = {status: calls for status, calls in by_status(series.values()).items() if is_error(status)}
    return Errors(
        total=total.errors,
        rate=total.error_rate,
        by_status=[StatusCount(status=status, count=calls) for status, calls in codes.items()],
        by_class=[ClassCount(status_class=family, count=calls) for family, calls in by_class(codes).items()],
    )


def _series_table(report: Details) -> Table:
    header = ["timestamp", "requests", "successful", "errors", "bytes", "avg_latency_ms"]
    return header, (msgspec.structs.astuple(point) for point in report.time_series)


VIEW = View(
    name="details",
    path="/",
    title="Everything about one key or all, over time, with errors and latency",
    asks=DetailsParameters,
    report=Details,
    build=build,
    tables={"series": _series_table, "endpoints": lambda report: endpoint_table(report.endpoints or ())},
    more_codes=("unsupported_timezone", "window_too_wide"),
    error_fields={"success": False},
    example="""{
  "success": true,
  "usage": {
    "window": {
      "start": "2026-11-19T13:30:00Z", "end": "2026-11-20T13:45:20Z", "label": "24h", "timezone": "UTC", "resolution": "30m"
    },
    "key_id": null, "requests": 42, "successful": 40, "errors": 2, "error_rate": 0.047619047619047616, "bytes": 4096,
    "latency_ms": {"avg": 18.25, "p50": 12.1, "p90": 38.2, "p95": 51.0, "p99": 131.9},
    "granularity": "hour", "dropped_calls": 0, "complete_through": "2026-11-20T13:45:15Z"
  },
  "time_series": [
    {
      "timestamp": "2026-11-20T13:00:00Z",
      "requests": 42, "successful": 40, "errors": 2, "bytes": 4096, "avg_latency_ms": 18.25
    }
  ],
  "endpoints": [
    {
      "endpoint": "GET /v1/items/{id}", "requests": 42, "successful": 40, "errors": 2, "error_rate": 0.047619047619047616,
      "latency_ms": {"avg": 18.25, "p50": 12.1, "p90": 38.2, "p95": 51.0, "p99": 131.9},
      "last_requested_at": "2026-11-20T13:44:58.120Z"
    }
  ],
  "errors": {
    "total": 2, "rate": 0.047619047619047616,
    "by_status": [{"status": 404, "count": 2}], "by_class": [{"status_class": 400, "count": 2}]
  },
  "rate_limits": null, "alerts": [], "recommendations": [],
  "pagination": {"total": 1, "limit": 100, "offset": 0, "has_more": false},
  "timestamp": "2026-11-20T13:45:20Z"
}""",
)
