"""The details view: everything about one key or all, over time (`details-get-usage.txt`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import rfc3339, zone
from usage_middleware.report.granularity import Chooser, Granularity
from usage_middleware.report.metrics import (
    LatencyReport,
    Tally,
    by_class,
    by_status,
    is_error,
    latency_report,
    series_tally,
)
from usage_middleware.report.paging import Keep, Pagination, Paging, forget, page, unpaged
from usage_middleware.report.parameters import DetailsParameters
from usage_middleware.report.ranking import EndpointDetails, Row, listed, ranked
from usage_middleware.report.scoped_reader import ScopedReader, Series, complete_through, dropped_calls
from usage_middleware.report.timeline import Timeline, timeline
from usage_middleware.report.viewer import ReportScope, Viewer, report_scope
from usage_middleware.report.window import ALL, PRESETS, Asked, Window, WindowReport, resolve
from usage_middleware.store.reader import Reader


class Totals(msgspec.Struct, frozen=True, kw_only=True):
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
    usage: Totals
    time_series: list[Point]
    endpoints: list[EndpointDetails] | None
    errors: Errors | None
    rate_limits: None
    alerts: list[str]
    recommendations: list[str]
    pagination: Pagination
    timestamp: str


class _Plan(NamedTuple):
    """What is read for a question: over which window, in which buckets, and whether breakdowns are kept for it."""

    scope: ReportScope
    window: Window
    line: Timeline
    granularity: Granularity
    breaks_down: bool


def build(reader: Reader, viewer: Viewer, params: DetailsParameters, now: int, keep: Keep = forget) -> Details:
    """Answer a details question. `keep` holds the order of the endpoints while they are paged through.

    Raises:
        QueryError: what can't be answered, and why.
        UsageUnavailable: Redis does not answer.
    """
    scope = report_scope(viewer, params.org, params.key_id, together=reader.settings.operator_tree)
    plan = _plan(scope, params, now, reader.settings)
    source = ScopedReader(reader, plan.scope, plan.window.slots(reader.settings.layers), now)
    until = source.slots[-1].end if source.slots else plan.window.start
    series = source.series(plan.line.slots(reader.settings, until))
    endpoints = source.members("endpoint") if plan.breaks_down and params.include_endpoints else None
    latency = source.latency() if plan.breaks_down and params.include_latency else None
    source.read()
    total = series_tally(series.value.values())
    bins = None if latency is None else latency.value
    paging = Paging(plan.scope.org, unpaged("details", plan.scope[:2], params), params.limit, params.offset, keep)
    found = [] if endpoints is None else ranked(reader, plan.scope, plan.window, params, endpoints.value)
    rows = paging.order(found, lambda row: row.label, lambda label: Row(label, Tally(), ()))
    return Details(
        success=True,
        usage=_totals(reader, plan, params, series.value, bins),
        time_series=_points(plan.line, series.value, with_latency=params.include_latency),
        endpoints=None if endpoints is None else listed(reader, plan.scope, plan.window, params, paging.cut(rows)),
        errors=_errors(series.value, total) if params.include_errors else None,
        rate_limits=None,
        alerts=[],
        recommendations=[],
        pagination=page(len(rows), params.limit, params.offset),
        timestamp=rfc3339(now),
    )


def _plan(scope: ReportScope, params: DetailsParameters, now: int, settings: Settings) -> _Plan:
    tz = zone(params.timezone)
    asked = Asked(params.timeframe, params.start, params.end, params.timezone)
    series: tuple[CounterKind, ...] = ("series",) if scope.key is None else ("key",)
    boards: tuple[CounterKind, ...] = ("board",) if scope.key is None else ("key_board",)
    wants_boards = params.include_endpoints or params.include_latency
    window = _kept_window(asked, now, settings, series + boards) if wants_boards else None
    everything = resolve(asked, now, settings, series)
    # All time must not be less than a year: rather no breakdown than a shorter window.
    if window is not None and asked.preset == ALL and window.start > max(everything.start, now - PRESETS["1y"]):
        window = None
    breaks_down = window is not None
    window = window or everything
    size = Chooser(window, tz, settings, series[0]).choose(params.granularity)
    return _Plan(scope, window, timeline(window, size, tz), size, breaks_down)


def _kept_window(asked: Asked, now: int, settings: Settings, kinds: Sequence[CounterKind]) -> Window | None:
    try:
        return resolve(asked, now, settings, kinds)
    except QueryError as refused:
        if refused.code == "not_retained":
            return None
        raise


def _totals(reader: Reader, plan: _Plan, params: DetailsParameters, series: Series, bins: Mapping[int, int] | None) -> Totals:
    total = series_tally(series.values())
    return Totals(
        window=plan.window.report(),
        key_id=plan.scope.key if plan.scope.key else params.key_id,
        requests=total.calls,
        successful=total.successful,
        errors=total.errors,
        error_rate=total.error_rate,
        bytes=total.sent,
        latency_ms=latency_report(total, bins or {}) if params.include_latency else None,
        granularity=plan.granularity,
        dropped_calls=dropped_calls(plan.scope, series),
        complete_through=complete_through(reader, plan.window.now),
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


def _errors(series: Series, total: Tally) -> Errors:
    codes = {status: calls for status, calls in by_status(series.values()).items() if is_error(status)}
    return Errors(
        total=total.errors,
        rate=total.error_rate,
        by_status=[StatusCount(status=status, count=calls) for status, calls in codes.items()],
        by_class=[ClassCount(status_class=family, count=calls) for family, calls in by_class(codes).items()],
    )


def wire(report: Details) -> dict[str, Any]:
    """The report as it goes over the wire."""
    return msgspec.structs.asdict(report)


def table(report: Details, which: str = "series") -> tuple[list[str], Iterable[Sequence[object]]]:
    """The main table, for CSV: the time series, or the endpoints."""
    if which == "endpoints":
        return _endpoint_table(report.endpoints or [])
    header = ["timestamp", "requests", "successful", "errors", "bytes", "avg_latency_ms"]
    return header, (tuple(getattr(point, name) for name in header) for point in report.time_series)


def _endpoint_table(rows: Sequence[EndpointDetails]) -> tuple[list[str], Iterable[Sequence[object]]]:
    header = ["endpoint", "requests", "successful", "errors", "error_rate", "avg_latency_ms", "last_requested_at"]
    return header, (
        (
            row.endpoint,
            row.requests,
            row.successful,
            row.errors,
            row.error_rate,
            None if row.latency_ms is None else row.latency_ms.avg,
            row.last_requested_at,
        )
        for row in rows
    )
