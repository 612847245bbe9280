"""The summary view: what has been used, by endpoint, project, status class and day."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from usage_middleware.options import Settings
from usage_middleware.periods import zone
from usage_middleware.report import breakdown
from usage_middleware.report.context import Members, ReportContext, ScopedReader, Series, dropped_calls, report_scope
from usage_middleware.report.metrics import (
    LatencyReport,
    Measures,
    Tally,
    board_tally,
    by_class,
    by_status,
    latency_report,
    percentiles_of,
    series_tally,
)
from usage_middleware.report.parameters import KeyId, Parameters, Period
from usage_middleware.report.parts import Parts, Previous, Unavailable, asked_window, compared, present
from usage_middleware.report.timeline import Timeline, timeline
from usage_middleware.report.view import Table, View, WireFields, fields_of
from usage_middleware.report.window import CAP, Window, WindowReport
from usage_middleware.store.schema import CALLS

TOP = 5
#: The dimension that is always in the answer, declared or not.
PROJECT = "project"
#: Its one row, where it is not declared.
NO_PROJECT = "default"


class SummaryParameters(Parameters, frozen=True, kw_only=True):
    """What the summary view may be asked."""

    period: Period = "30d"
    key_id: KeyId = None


class EndpointStat(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One endpoint's calls."""

    endpoint: str
    calls: int
    successful: int


class StatusClassStat(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of one status class: 200, 300, 400 or 500."""

    status_class: int
    calls: int


class DayStat(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Calls of one day in the zone."""

    day: str
    calls: int
    successful: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What an organisation used in a window.

    Attributes:
        org_id: the organisation; None where an operator sees all of them.
        total_calls: finished requests.
        successful_calls: those with a 2xx status.
        by_endpoint: by calls descending, then by name. `top_endpoints` are the first five.
        by_dimension: for each declared dimension its members and their calls, by calls descending. On the wire `by_project`
            and so on, a list of {`project_name`, `calls`}.
        by_status_class: those that were seen, ascending.
        by_day: every day of the window in its zone, ascending.
        errors: calls with a 4xx or 5xx status.
        bytes: response body bytes sent.
        dropped_calls: finished requests that could not be counted; None of one key, for which that is not kept.
        complete_through: every call that finished before it is in; None where no worker is alive.
        final: whether nothing will be added to the window in the ordinary course.
        generated_at: when this was computed.
        unavailable: the fields that are None because they are not kept for this window, and why.
        previous: the window before, if it was asked for.
    """

    org_id: str | None
    window: WindowReport
    total_calls: int
    successful_calls: int
    by_endpoint: list[EndpointStat] | None
    top_endpoints: list[EndpointStat] | None
    by_dimension: dict[str, list[tuple[str, int]] | None]
    by_status_class: list[StatusClassStat]
    by_day: list[DayStat] | None
    errors: int
    bytes: int
    latency_ms: LatencyReport
    dropped_calls: int | None
    complete_through: str | None
    final: bool
    generated_at: str
    unavailable: dict[str, Unavailable]
    previous: Previous | msgspec.UnsetType | None = msgspec.UNSET


def build(context: ReportContext, params: SummaryParameters) -> Summary:
    """Answer a summary question."""
    settings = context.settings
    scope = report_scope(context.viewer, params.org, params.key_id, together=settings.operator_tree)

    def covered(window: Window) -> tuple[Parts, Timeline | None]:
        parts = Parts(window, settings)
        return parts, parts.buckets(timeline(window, "day", zone(params.timezone)), scope.series_kind, "by_day")

    window = asked_window(context, scope, params, params.period, CAP, fits=covered)
    parts, days = covered(window)
    source = ScopedReader(context, scope, window.slots(settings.layers))
    series = source.series(None if days is None else days.slots(settings, source.until))
    endpoints = breakdown.endpoints(source, window, parts, "by_endpoint", "top_endpoints")
    latency = source.latency() if parts.offers(scope.board_kind, *percentiles_of("latency_ms")) else None
    dimensions = {name: breakdown.tagged(source, parts, name, series, f"by_{name}") for name in settings.dimensions}
    source.read()
    tally = series_tally(series.value.values())
    ranked = None if endpoints is None else _endpoints(endpoints.value)
    return Summary(
        org_id=scope.shown_org,
        window=window.report(),
        total_calls=tally.calls,
        successful_calls=tally.successful,
        by_endpoint=ranked,
        top_endpoints=None if ranked is None else ranked[:TOP],
        by_dimension={name: None if rows is None else _calls_by_name(rows.value) for name, rows in dimensions.items()},
        by_status_class=_status_classes(series.value.values()),
        by_day=None if days is None else _days(series.value, days),
        errors=tally.errors,
        bytes=tally.sent,
        latency_ms=latency_report(tally, {} if latency is None else latency.value),
        dropped_calls=dropped_calls(scope, series.value),
        complete_through=context.complete_through(),
        final=context.is_final(window.end),
        generated_at=context.generated_at,
        previous=compared(source, params, window, parts, series.value.values, _totals),
        unavailable=parts.unavailable,
    )


def _totals(many: Iterable[Measures]) -> dict[str, int]:
    tally = series_tally(many)
    return {
        "total_calls": tally.calls,
        "successful_calls": tally.successful,
        "errors": tally.errors,
        "bytes": tally.sent,
    }


def _endpoints(members: Members) -> list[EndpointStat]:
    tallies = sorted(((name, board_tally(found)) for name, found in members.items()), key=_by_calls)
    return [EndpointStat(endpoint=name, calls=tally.calls, successful=tally.successful) for name, tally in tallies]


def _by_calls(named: tuple[str, Tally]) -> tuple[int, str]:
    return -named[1].calls, named[0]


def _calls_by_name(members: Members) -> list[tuple[str, int]]:
    return sorted(((name, found.get(CALLS, 0)) for name, found in members.items()), key=lambda row: (-row[1], row[0]))


def _status_classes(many: Iterable[Measures]) -> list[StatusClassStat]:
    return [StatusClassStat(status_class=family, calls=calls) for family, calls in by_class(by_status(many)).items()]


def _days(series: Series, days: Timeline) -> list[DayStat]:
    tallies = zip(days.dates(), map(series_tally, days.split(series)), strict=True)
    return [DayStat(day=day, calls=tally.calls, successful=tally.successful) for day, tally in tallies]


def _wire(report: Summary) -> dict[str, Any]:
    """Dimensions go over the wire as `by_<name>`."""
    shown = fields_of(report)
    undeclared = [(NO_PROJECT, report.total_calls)] if report.total_calls else []
    dimensions = {PROJECT: undeclared, **shown.pop("by_dimension")}
    for name, rows in dimensions.items():
        shown[f"by_{name}"] = None if rows is None else [{f"{name}_name": member, "calls": calls} for member, calls in rows]
    return shown


def _wire_fields(settings: Settings) -> WireFields:
    def rows(name: str) -> dict[str, Any]:
        properties = {f"{name}_name": {"type": "string"}, "calls": {"type": "integer"}}
        row = {"type": "object", "properties": properties, "required": list(properties)}
        return {"anyOf": [{"type": "array", "items": row}, {"type": "null"}]}

    dimensions = dict.fromkeys((PROJECT, *settings.dimensions))
    return {Summary: {"by_dimension": None, **{f"by_{name}": rows(name) for name in dimensions}}}


def _table(report: Summary) -> Table:
    return ["day", "calls", "successful"], (
        (row.day, row.calls, row.successful) for row in present(report.by_day, "by_day", report.unavailable)
    )


VIEW = View(
    name="summary",
    path="/summary",
    title="What an organisation has used, by endpoint, project, status class and day",
    asks=SummaryParameters,
    report=Summary,
    build=build,
    tables={"days": _table},
    wire=_wire,
    wire_fields=_wire_fields,
    more_codes=("unsupported_timezone", "window_too_wide"),
    example="""{
  "window": {
    "start": "2026-10-21T00:00:00Z", "end": "2026-11-20T13:45:20Z", "label": "30d", "timezone": "UTC", "resolution": "1d"
  },
  "total_calls": 12345,
  "successful_calls": 12000,
  "by_endpoint": [{"endpoint": "GET /v1/scans", "calls": 12345, "successful": 12000}],
  "top_endpoints": [{"endpoint": "GET /v1/scans", "calls": 12345, "successful": 12000}],
  "by_project": [{"project_name": "default", "calls": 12345}],
  "by_status_class": [{"status_class": 200, "calls": 12000}, {"status_class": 400, "calls": 345}],
  "by_day": [{"day": "2026-11-20", "calls": 12345, "successful": 12000}],
  "errors": 345,
  "bytes": 9876543,
  "latency_ms": {"avg": 18.25, "p50": 12.1, "p90": 38.2, "p95": 51.0, "p99": 131.9},
  "org_id": "acme", "dropped_calls": 0, "complete_through": "2026-11-20T13:45:15Z", "final": false,
  "generated_at": "2026-11-20T13:45:20Z",
  "unavailable": {}
}""",
)
