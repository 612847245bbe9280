"""The details view: everything about one key or all, over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from usage_middleware.periods import zone
from usage_middleware.report import breakdown
from usage_middleware.report.advice import Alert, Recommendation, advice
from usage_middleware.report.context import ReportContext, ReportScope, ScopedReader, Series, dropped_calls, report_scope
from usage_middleware.report.details_endpoints import (
    EndpointBreakdown,
    EndpointDetails,
    EndpointRow,
    SortBy,
    check_sort,
    endpoint_table,
)
from usage_middleware.report.limit_rows import LimitRow
from usage_middleware.report.metrics import (
    LatencyReport,
    Measures,
    Tally,
    by_class,
    by_status,
    is_error,
    latency_report,
    percentiles_of,
    series_tally,
)
from usage_middleware.report.over_quota import plans_version
from usage_middleware.report.paging import Pages, Pagination
from usage_middleware.report.parameters import LIMIT, SORT_BY, KeyId, Offset, Parameters, SortOrder, described, period
from usage_middleware.report.parts import Parts, Previous, Unavailable, asked_window, compared, present
from usage_middleware.report.timeline import Granularity, GranularityChooser, Timeline, first_day, timeline
from usage_middleware.report.view import Table, View
from usage_middleware.report.window import Window, WindowReport


class DetailsParameters(Parameters, frozen=True, kw_only=True):
    """What the details view may be asked."""

    key_id: KeyId = None
    timeframe: Annotated[
        Literal["1h", "24h", "7d", "30d", "90d", "1y", "all", "month_to_date", "last_month"], period("invalid_timeframe")
    ] = "24h"
    granularity: Annotated[
        Granularity | None,
        described(
            "Width of the time series' buckets. Default: hour, beyond 100 days day, or the finest kept.",
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
    granularity: Granularity | None
    dropped_calls: int | None
    complete_through: str | None


class Point(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    """Everything about one key or all. A part that was not asked for is None.

    Attributes:
        rate_limits: as in the limits view; None where there is no plan, and then the next two are empty.
        unavailable: what else is None, because it is not kept for this window, and why.
        previous: the window before, if it was asked for.
    """

    success: bool
    usage: DetailsTotals
    time_series: list[Point] | None
    endpoints: list[EndpointDetails] | None
    errors: Errors | None
    rate_limits: list[LimitRow] | None
    alerts: Sequence[Alert]
    recommendations: Sequence[Recommendation]
    pagination: Pagination
    timestamp: str
    final: bool
    unavailable: dict[str, Unavailable]
    previous: Previous | msgspec.UnsetType | None = msgspec.UNSET


class _Coverage(NamedTuple):
    """What is read: over which window, in which buckets (None: none are kept), and which parts are kept for it."""

    scope: ReportScope
    window: Window
    line: Timeline | None
    granularity: Granularity | None
    parts: Parts


def build(context: ReportContext, params: DetailsParameters) -> Details:
    """Answer a details question."""
    scope = report_scope(context.viewer, params.org, params.key_id, together=context.settings.operator_tree)
    check_sort(params.sort_by, scope)
    coverage = _coverage(context, scope, params)
    window, line, parts = coverage.window, coverage.line, coverage.parts
    source = ScopedReader(context, scope, window.slots(context.settings.layers))
    series = source.series(None if line is None else line.slots(context.settings, source.until))
    wants = params.include_endpoints
    members = breakdown.stored_endpoints(source, window, parts, "endpoints") if wants else None
    has_bins = params.include_latency and parts.offers(scope.board_kind, *percentiles_of("usage.latency_ms"))
    latency = source.latency() if has_bins else None
    source.read()
    listed = EndpointBreakdown(context, scope, window, parts, params.include_latency)
    pages = Pages(context, scope, "details", params, params.limit, params.offset)
    found = {} if members is None else listed.ranked(members.value, params.sort_by, params.sort_order)
    rows = pages.order(found, lambda label: EndpointRow(label, Tally(), ()))
    return Details(
        success=True,
        usage=_usage(context, coverage, params, series.value, {} if latency is None else latency.value),
        time_series=None if line is None else _points(line, series.value, with_latency=params.include_latency),
        endpoints=None if members is None else listed.reports(pages.cut(rows)),
        errors=_errors(series.value) if params.include_errors else None,
        **advice(context, scope, series.value, window.start)._asdict(),
        pagination=pages.pagination(len(rows)),
        timestamp=context.generated_at,
        final=context.is_final(window.end),
        previous=compared(source, params, window, parts, series.value.values, _totals),
        unavailable=parts.unavailable,
    )


def _coverage(context: ReportContext, scope: ReportScope, params: DetailsParameters) -> _Coverage:
    settings, tz = context.settings, zone(params.timezone)

    def size_in(window: Window) -> Granularity | None:
        chooser = GranularityChooser(window, tz, settings, scope.series_kind)
        return chooser.kept(None) if params.granularity is None else chooser.choose(params.granularity)

    window = asked_window(context, scope, params, params.timeframe, fits=size_in)
    parts, size = Parts(window, settings), size_in(window)
    if size is None:
        parts.lack(first_day(window.now, settings, scope.series_kind), "time_series")
    return _Coverage(scope, window, None if size is None else timeline(window, size, tz), size, parts)


def _totals(many: Iterable[Measures]) -> dict[str, int]:
    tally = series_tally(many)
    return {"requests": tally.calls, "successful": tally.successful, "errors": tally.errors, "bytes": tally.sent}


def _usage(
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
    points = present(report.time_series, "time_series", report.unavailable)
    return header, (msgspec.structs.astuple(point) for point in points)


def _endpoint_table(report: Details) -> Table:
    return endpoint_table(present(report.endpoints, "endpoints", report.unavailable))


VIEW = View(
    name="details",
    path="/",
    title="Everything about one key or all, over time, with errors and latency",
    asks=DetailsParameters,
    report=Details,
    build=build,
    tables={"series": _series_table, "endpoints": _endpoint_table},
    more_codes=("unsupported_timezone", "window_too_wide"),
    depends_on=plans_version,
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
    {"timestamp": "2026-11-20T13:00:00Z", "requests": 42, "successful": 40, "errors": 2, "bytes": 4096, "avg_latency_ms": 18.25}
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
  "timestamp": "2026-11-20T13:45:20Z",
  "final": false,
  "unavailable": {}
}""",
)
