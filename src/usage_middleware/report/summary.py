"""The summary view: what has been used, by endpoint, project, status class and day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from usage_middleware.options import Settings
from usage_middleware.periods import DAY, buckets, rfc3339, zone
from usage_middleware.report.context import Members, ReportContext, ScopedReader, Series, dropped_calls, report_scope
from usage_middleware.report.metrics import (
    LatencyReport,
    Measures,
    Tally,
    board_tally,
    by_class,
    by_status,
    latency_report,
    series_tally,
)
from usage_middleware.report.parameters import Parameters, Period
from usage_middleware.report.view import Table, View, WireFields
from usage_middleware.report.window import CAP, WindowReport, WindowRequest, resolve
from usage_middleware.store.schema import CALLS

TOP = 5
#: The dimension that is always in the answer, declared or not.
PROJECT = "project"


class SummaryParameters(Parameters, frozen=True, kw_only=True):
    """What the summary view may be asked."""

    period: Period = "30d"


class EndpointStat(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint's calls."""

    endpoint: str
    calls: int
    successful: int


class StatusClassStat(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of one status class: 200, 300, 400 or 500."""

    status_class: int
    calls: int


class DayStat(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of one UTC day."""

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
        by_day: every UTC day of the window, ascending.
        errors: calls with a 4xx or 5xx status.
        bytes: response body bytes sent.
        dropped_calls: finished requests that could not be counted; None of one key, for which that is not kept.
        complete_through: every call that finished before it is in; None where no worker is alive.
        generated_at: when this was computed.
    """

    org_id: str | None
    window: WindowReport
    total_calls: int
    successful_calls: int
    by_endpoint: list[EndpointStat]
    top_endpoints: list[EndpointStat]
    by_dimension: dict[str, list[tuple[str, int]]]
    by_status_class: list[StatusClassStat]
    by_day: list[DayStat]
    errors: int
    bytes: int
    latency_ms: LatencyReport
    dropped_calls: int | None
    complete_through: str | None
    generated_at: str


def build(context: ReportContext, params: SummaryParameters) -> Summary:
    """Answer a summary question."""
    settings = context.settings
    scope = report_scope(context.viewer, params.org, together=settings.operator_tree)
    request = WindowRequest(params.period, params.start, params.end)
    window = resolve(request, context.now, settings, (scope.board_kind, scope.series_kind), CAP)
    days = buckets(window.start, window.end, "day", zone("UTC"))
    source = ScopedReader(context, scope, window.slots(settings.layers, days))
    series, endpoints, latency = source.series(), source.endpoints(), source.latency()
    dimensions = {name: source.tagged(name, series) for name in settings.dimensions}
    source.read()
    tally = series_tally(series.value.values())
    ranked = _endpoints(endpoints.value)
    return Summary(
        org_id=scope.shown_org,
        window=window.report(),
        total_calls=tally.calls,
        successful_calls=tally.successful,
        by_endpoint=ranked,
        top_endpoints=ranked[:TOP],
        by_dimension={name: _calls_by_name(found.value) for name, found in dimensions.items()},
        by_status_class=_status_classes(series.value.values()),
        by_day=_days(series.value, days),
        errors=tally.errors,
        bytes=tally.sent,
        latency_ms=latency_report(tally, latency.value),
        dropped_calls=dropped_calls(scope, series.value),
        complete_through=context.complete_through(),
        generated_at=context.generated_at,
    )


def _endpoints(members: Members) -> list[EndpointStat]:
    tallies = sorted(((name, board_tally(found)) for name, found in members.items()), key=_by_calls)
    return [EndpointStat(endpoint=name, calls=tally.calls, successful=tally.successful) for name, tally in tallies]


def _by_calls(named: tuple[str, Tally]) -> tuple[int, str]:
    return -named[1].calls, named[0]


def _calls_by_name(members: Members) -> list[tuple[str, int]]:
    return sorted(((name, found.get(CALLS, 0)) for name, found in members.items()), key=lambda row: (-row[1], row[0]))


def _status_classes(many: Iterable[Measures]) -> list[StatusClassStat]:
    return [StatusClassStat(status_class=family, calls=calls) for family, calls in by_class(by_status(many)).items()]


def _days(series: Series, days: Sequence[int]) -> list[DayStat]:
    inside: dict[int, list[Measures]] = {day: [] for day in days}
    for slot, measures in series.items():
        inside[slot.start - slot.start % DAY].append(measures)
    tallies = ((day, series_tally(many)) for day, many in inside.items())
    return [DayStat(day=rfc3339(day)[:10], calls=tally.calls, successful=tally.successful) for day, tally in tallies]


def _wire(report: Summary) -> dict[str, Any]:
    """Dimensions go over the wire as `by_<name>`."""
    shown = msgspec.structs.asdict(report)
    dimensions = {PROJECT: [], **shown.pop("by_dimension")}
    for name, rows in dimensions.items():
        shown[f"by_{name}"] = [{f"{name}_name": member, "calls": calls} for member, calls in rows]
    return shown


def _wire_fields(settings: Settings) -> WireFields:
    def rows(name: str) -> dict[str, Any]:
        properties = {f"{name}_name": {"type": "string"}, "calls": {"type": "integer"}}
        return {"type": "array", "items": {"type": "object", "properties": properties, "required": list(properties)}}

    dimensions = dict.fromkeys((PROJECT, *settings.dimensions))
    return {Summary: {"by_dimension": None, **{f"by_{name}": rows(name) for name in dimensions}}}


def _table(report: Summary) -> Table:
    return ["day", "calls", "successful"], ((row.day, row.calls, row.successful) for row in report.by_day)


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
  "org_id": "acme", "dropped_calls": 0, "complete_through": "2026-11-20T13:45:15Z", "generated_at": "2026-11-20T13:45:20Z"
}""",
)
