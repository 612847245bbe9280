"""The details view: everything about one key or all, over time (`details-get-usage.txt`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.latency import merge
from usage_middleware.periods import BucketSize, rfc3339, zone
from usage_middleware.report.labels import by_label, under_label
from usage_middleware.report.page import Keep, Pagination, Paging, forget, page, unpaged
from usage_middleware.report.parameters import DetailsParameters
from usage_middleware.report.source import Members, Series, Source, complete_through, dropped_calls
from usage_middleware.report.timeline import Timeline, Trouble, not_kept, timeline, trouble, unsupported
from usage_middleware.report.viewer import Scope, Viewer, scope_of
from usage_middleware.report.window import Asked, Window, WindowReport, resolve
from usage_middleware.report.words import (
    LatencyReport,
    Tally,
    board_tally,
    by_class,
    by_status,
    is_error,
    latency_report,
    series_tally,
)
from usage_middleware.settings import Kind, Settings
from usage_middleware.store.reader import Reader, latest

Granularity = Literal["minute", "hour", "day", "week", "month"]
GRANULARITIES: tuple[Granularity, ...] = ("minute", "hour", "day", "week", "month")


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


class EndpointDetails(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint. What is not kept is None: percentiles and the last request of one key's endpoints."""

    endpoint: str
    requests: int
    successful: int
    errors: int
    error_rate: float
    latency_ms: LatencyReport | None
    last_requested_at: str | None


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

    scope: Scope
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
    plan = _plan(scope_of(viewer, params.org, params.key_id), params, now, reader.settings)
    source = Source(reader, plan.scope, plan.window.slots(reader.settings.layers), now)
    until = source.slots[-1].end if source.slots else plan.window.start
    series = source.series(plan.line.slots(reader.settings, until))
    endpoints = source.members("endpoint") if plan.breaks_down and params.include_endpoints else None
    latency = source.latency() if plan.breaks_down and params.include_latency else None
    source.read()
    total = series_tally(series.value.values())
    bins = None if latency is None else latency.value
    paging = Paging(plan.scope.org, unpaged("details", plan.scope, params), params.limit, params.offset, keep)
    rows = [] if endpoints is None else _rows(reader, plan, params, endpoints.value, paging)
    return Details(
        success=True,
        usage=_totals(reader, plan, params, series.value, bins),
        time_series=_points(plan.line, series.value, with_latency=params.include_latency),
        endpoints=None if endpoints is None else _listed(reader, plan, params, paging.cut(rows)),
        errors=_errors(series.value, total) if params.include_errors else None,
        rate_limits=None,
        alerts=[],
        recommendations=[],
        pagination=page(len(rows), params.limit, params.offset),
        timestamp=rfc3339(now),
    )


def _plan(scope: Scope, params: DetailsParameters, now: int, settings: Settings) -> _Plan:
    tz = zone(params.timezone)
    asked = Asked(params.timeframe, params.start, params.end, params.timezone)
    series: tuple[Kind, ...] = ("series",) if scope.key is None else ("key",)
    boards: tuple[Kind, ...] = ("board",) if scope.key is None else ("key_board",)
    wants_boards = params.include_endpoints or params.include_latency
    window = _kept_window(asked, now, settings, series + boards) if wants_boards else None
    breaks_down = window is not None
    window = window or resolve(asked, now, settings, series)
    size = _granularity(params.granularity, window, tz, settings, series[0])
    return _Plan(scope, window, timeline(window, size, tz), size, breaks_down)


def _kept_window(asked: Asked, now: int, settings: Settings, kinds: Sequence[Kind]) -> Window | None:
    try:
        return resolve(asked, now, settings, kinds)
    except QueryError as refused:
        if refused.code == "not_retained":
            return None
        raise


def _granularity(wanted: Granularity | None, window: Window, tz: ZoneInfo, settings: Settings, kind: Kind) -> Granularity:
    if wanted is not None:
        found = _cut_trouble(wanted, window, tz, settings, kind)
        if found is None:
            return wanted
        raise _refusal(wanted, found, window, tz, settings, kind)
    return _finest(GRANULARITIES[1:], window, tz, settings, kind) or _none_kept(window, tz, settings, kind)


def _finest(sizes: Sequence[Granularity], window: Window, tz: ZoneInfo, settings: Settings, kind: Kind) -> Granularity | None:
    return next((size for size in sizes if _fits(size, window, tz, settings, kind)), None)


def _fits(size: Granularity, window: Window, tz: ZoneInfo, settings: Settings, kind: Kind) -> bool:
    try:
        return _cut_trouble(size, window, tz, settings, kind) is None
    except QueryError:
        return False


def _cut_trouble(size: BucketSize, window: Window, tz: ZoneInfo, settings: Settings, kind: Kind) -> Trouble | None:
    return trouble(timeline(window, size, tz).cuts, window.now, settings, kind)


def _refusal(wanted: Granularity, found: Trouble, window: Window, tz: ZoneInfo, settings: Settings, kind: Kind) -> QueryError:
    finest = _finest(GRANULARITIES, window, tz, settings, kind)
    if finest is not None:
        message = f"granularity={wanted} is not kept for this window; the finest that is kept is {finest}"
        return QueryError("invalid_granularity", message, "granularity")
    return unsupported(tz, settings) if found == "unaligned" else not_kept(tz, window.now, settings, kind)


def _none_kept(window: Window, tz: ZoneInfo, settings: Settings, kind: Kind) -> Granularity:
    found = _cut_trouble("day", window, tz, settings, kind)
    raise unsupported(tz, settings) if found == "unaligned" else not_kept(tz, window.now, settings, kind)


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


class _Row(NamedTuple):
    label: str
    tally: Tally
    endpoints: Sequence[str]


def _rows(reader: Reader, plan: _Plan, params: DetailsParameters, members: Members, paging: Paging) -> list[_Row]:
    under = under_label(members, reader.settings)
    tallies = {label: board_tally(found) for label, found in by_label(members, reader.settings).items()}
    seen = _last_seen(reader, plan, under)
    for label, last_ms in seen.items():
        tallies[label].last_ms = last_ms
    rows = _sorted((_Row(label, tally, under[label]) for label, tally in tallies.items()), params)
    return paging.order(rows, lambda row: row.label, lambda label: _Row(label, Tally(), ()))


def _listed(reader: Reader, plan: _Plan, params: DetailsParameters, rows: Sequence[_Row]) -> list[EndpointDetails]:
    bins = _histograms(reader, plan, rows) if params.include_latency else {}
    return [_details(row, bins.get(row.label, {}), params) for row in rows]


def _sorted(rows: Iterable[_Row], params: DetailsParameters) -> list[_Row]:
    by_name = sorted(rows, key=lambda row: row.label)
    return sorted(by_name, key=lambda row: _rank(row.tally, params.sort_by), reverse=params.sort_order == "desc")


def _rank(tally: Tally, sort_by: str) -> float:
    if sort_by == "errors":
        return tally.errors
    if sort_by == "latency":
        return tally.avg_ms
    return tally.last_ms if sort_by == "timestamp" else tally.calls


def _last_seen(reader: Reader, plan: _Plan, under: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """When each label was last called in the window: the registry tells, unless it was called after the window too."""
    if plan.scope.key is not None:
        return {}
    sheet = reader.sheet(plan.scope.org, plan.window.now)
    ever = sheet.seen_of("endpoint", [endpoint for endpoints in under.values() for endpoint in endpoints])
    sheet.read()
    limit = plan.window.end * 1000 if plan.window.end < plan.window.now else None
    slots = plan.window.slots(reader.settings.layers)
    later = {
        endpoint: sheet.series(slots, ("endpoint", endpoint))
        for endpoint, last_ms in ever.value.items()
        if limit is not None and last_ms >= limit
    }
    sheet.read()
    inside = {endpoint: latest(series.value.values()) for endpoint, series in later.items()}
    last = {**ever.value, **inside}
    return {label: max(last.get(endpoint, 0) for endpoint in endpoints) for label, endpoints in under.items()}


def _histograms(reader: Reader, plan: _Plan, rows: Sequence[_Row]) -> dict[str, dict[int, int]]:
    if plan.scope.key is not None:
        return {}
    sheet = reader.sheet(plan.scope.org, plan.window.now)
    slots = plan.window.slots(reader.settings.layers)
    asked = {row.label: [sheet.latency(slots, endpoint) for endpoint in row.endpoints] for row in rows}
    sheet.read()
    return {label: merge(answer.value for answer in answers) for label, answers in asked.items()}


def _details(row: _Row, bins: Mapping[int, int], params: DetailsParameters) -> EndpointDetails:
    return EndpointDetails(
        endpoint=row.label,
        requests=row.tally.calls,
        successful=row.tally.successful,
        errors=row.tally.errors,
        error_rate=row.tally.error_rate,
        latency_ms=latency_report(row.tally, bins) if params.include_latency else None,
        last_requested_at=rfc3339(row.tally.last_ms / 1000) if row.tally.last_ms else None,
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
