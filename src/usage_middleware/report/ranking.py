"""The endpoints of the details view: ranked by what was asked for, with percentiles and last use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from usage_middleware.latency import merge
from usage_middleware.periods import rfc3339
from usage_middleware.report.labels import by_label, under_label
from usage_middleware.report.metrics import LatencyReport, Tally, board_tally, latency_report
from usage_middleware.report.parameters import DetailsParameters
from usage_middleware.report.scoped_reader import Members
from usage_middleware.report.viewer import ReportScope
from usage_middleware.report.window import Window
from usage_middleware.store.reader import Reader
from usage_middleware.store.replies import latest


class EndpointDetails(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint. What is not kept is None: percentiles and the last request of one key's endpoints."""

    endpoint: str
    requests: int
    successful: int
    errors: int
    error_rate: float
    latency_ms: LatencyReport | None
    last_requested_at: str | None


class Row(NamedTuple):
    """One line of the breakdown, and the endpoints that stand under its label."""

    label: str
    tally: Tally
    endpoints: Sequence[str]


def ranked(reader: Reader, scope: ReportScope, window: Window, params: DetailsParameters, members: Members) -> list[Row]:
    """Every endpoint that was called in the window, under its label, in the order that was asked for."""
    under = under_label(members, reader.settings)
    tallies = {label: board_tally(found) for label, found in by_label(members, reader.settings).items()}
    seen = _last_seen(reader, scope, window, under)
    for label, last_ms in seen.items():
        tallies[label].last_ms = last_ms
    return _sorted((Row(label, tally, under[label]) for label, tally in tallies.items()), params)


def listed(
    reader: Reader, scope: ReportScope, window: Window, params: DetailsParameters, rows: Sequence[Row]
) -> list[EndpointDetails]:
    """The rows of a page, with their percentiles."""
    bins = _histograms(reader, scope, window, rows) if params.include_latency else {}
    return [_details(row, bins.get(row.label, {}), params) for row in rows]


def _sorted(rows: Iterable[Row], params: DetailsParameters) -> list[Row]:
    by_name = sorted(rows, key=lambda row: row.label)
    return sorted(by_name, key=lambda row: _rank(row.tally, params.sort_by), reverse=params.sort_order == "desc")


def _rank(tally: Tally, sort_by: str) -> float:
    if sort_by == "errors":
        return tally.errors
    if sort_by == "latency":
        return tally.avg_ms
    return tally.last_ms if sort_by == "timestamp" else tally.calls


def _last_seen(reader: Reader, scope: ReportScope, window: Window, under: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """When each label was last called in the window: the registry tells, unless it was called after the window too."""
    if scope.key is not None:
        return {}
    sheet = reader.sheet(scope.org, window.now)
    ever = sheet.seen_of("endpoint", [endpoint for endpoints in under.values() for endpoint in endpoints])
    sheet.read()
    limit = window.end * 1000 if window.end < window.now else None
    slots = window.slots(reader.settings.layers)
    later = {
        endpoint: sheet.series(slots, ("endpoint", endpoint))
        for endpoint, last_ms in ever.value.items()
        if limit is not None and last_ms >= limit
    }
    sheet.read()
    inside = {endpoint: latest(series.value.values()) for endpoint, series in later.items()}
    last = {**ever.value, **inside}
    return {label: max(last.get(endpoint, 0) for endpoint in endpoints) for label, endpoints in under.items()}


def _histograms(reader: Reader, scope: ReportScope, window: Window, rows: Sequence[Row]) -> dict[str, dict[int, int]]:
    if scope.key is not None:
        return {}
    sheet = reader.sheet(scope.org, window.now)
    slots = window.slots(reader.settings.layers)
    asked = {row.label: [sheet.latency(slots, endpoint) for endpoint in row.endpoints] for row in rows}
    sheet.read()
    return {label: merge(answer.value for answer in answers) for label, answers in asked.items()}


def _details(row: Row, bins: Mapping[int, int], params: DetailsParameters) -> EndpointDetails:
    return EndpointDetails(
        endpoint=row.label,
        requests=row.tally.calls,
        successful=row.tally.successful,
        errors=row.tally.errors,
        error_rate=row.tally.error_rate,
        latency_ms=latency_report(row.tally, bins) if params.include_latency else None,
        last_requested_at=rfc3339(row.tally.last_ms / 1000) if row.tally.last_ms else None,
    )
