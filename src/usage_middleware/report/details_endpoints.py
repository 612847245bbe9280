"""The endpoints of the details view: ranked, with percentiles and their last request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.periods import rfc3339
from usage_middleware.report.context import Members, ReportContext, ReportScope
from usage_middleware.report.metrics import (
    LatencyReport,
    Tally,
    board_tally,
    latency_report,
    percentiles_of,
    summed,
    under_label,
)
from usage_middleware.report.parameters import INVALID
from usage_middleware.report.parts import Parts
from usage_middleware.report.view import Table
from usage_middleware.report.window import Window
from usage_middleware.store.replies import latest

SortBy: TypeAlias = Literal["requests", "errors", "latency", "timestamp"]


class EndpointDetails(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One endpoint. What is not kept is None: percentiles and the last request of one key's endpoints."""

    endpoint: str
    requests: int
    successful: int
    errors: int
    error_rate: float
    latency_ms: LatencyReport | None
    last_requested_at: str | None


class EndpointRow(NamedTuple):
    """One line of the breakdown: a label, what it comes to, and the endpoints under it."""

    label: str
    tally: Tally
    endpoints: Sequence[str]


class EndpointBreakdown(NamedTuple):
    """The breakdown of a window by endpoint."""

    context: ReportContext
    scope: ReportScope
    window: Window
    parts: Parts
    with_latency: bool

    def ranked(self, members: Members, sort_by: SortBy, sort_order: str) -> dict[str, EndpointRow]:
        """Every endpoint that was called, by its label, in the order that was asked for."""
        under = under_label(members, self.context.settings)
        last = self._last_seen(list(members))
        rows = []
        for label, names in sorted(under.items()):
            tally = board_tally(summed(members[name] for name in names))
            tally.last_ms = max(last.get(name, 0) for name in names)
            rows.append(EndpointRow(label, tally, names))
        rows.sort(key=lambda row: _rank(row.tally, sort_by), reverse=sort_order == "desc")
        return {row.label: row for row in rows}

    def reports(self, rows: Sequence[EndpointRow]) -> list[EndpointDetails]:
        """The rows of a page, with their percentiles."""
        bins = self._histograms(rows) if self.with_latency else {}
        return [self._report(row, bins.get(row.label, {})) for row in rows]

    def _report(self, row: EndpointRow, bins: Mapping[int, int]) -> EndpointDetails:
        return EndpointDetails(
            endpoint=row.label,
            requests=row.tally.calls,
            successful=row.tally.successful,
            errors=row.tally.errors,
            error_rate=row.tally.error_rate,
            latency_ms=latency_report(row.tally, bins) if self.with_latency else None,
            last_requested_at=rfc3339(row.tally.last_ms / 1000) if row.tally.last_ms else None,
        )

    def _last_seen(self, endpoints: Sequence[str]) -> Mapping[str, int]:
        """When each endpoint was last called in the window; not kept of one key.

        The registry knows, except of endpoints that were called after the window too: their series does.
        """
        if self.scope.key is not None:
            return {}
        batch = self.context.batch(self.scope.org)
        ever = batch.seen_of("endpoint", endpoints)
        batch.read()
        if self.window.ends_now:
            return ever.value
        if not self.parts.offers("endpoint", "endpoints.last_requested_at"):
            return {}
        return {**ever.value, **self._last_within(name for name, ms in ever.value.items() if ms >= self.window.end * 1000)}

    def _last_within(self, endpoints: Iterable[str]) -> dict[str, int]:
        batch = self.context.batch(self.scope.org)
        slots = self.window.slots(self.context.settings.layers)
        series = {name: batch.series(slots, ("endpoint", name)) for name in endpoints}
        batch.read()
        return {name: latest(found.value.values()) for name, found in series.items()}

    def _histograms(self, rows: Sequence[EndpointRow]) -> dict[str, dict[int, int]]:
        if self.scope.key is not None or not self.parts.offers("board", *percentiles_of("endpoints.latency_ms")):
            return {}
        batch = self.context.batch(self.scope.org)
        slots = self.window.slots(self.context.settings.layers)
        reads = {row.label: [batch.latency(slots, endpoint) for endpoint in row.endpoints] for row in rows}
        batch.read()
        return {label: summed(read.value for read in many) for label, many in reads.items()}


def check_sort(sort_by: SortBy, scope: ReportScope) -> None:
    """Refuse an order that is not kept.

    Raises:
        QueryError: `invalid_parameter`.
    """
    if sort_by == "timestamp" and scope.key is not None:
        message = "The last request of one key's endpoints is not kept: sort_by must be one of requests, errors, latency"
        raise QueryError(INVALID, message, "sort_by")


def _rank(tally: Tally, sort_by: SortBy) -> float:
    if sort_by == "errors":
        return tally.errors
    if sort_by == "latency":
        return tally.avg_ms
    return tally.last_ms if sort_by == "timestamp" else tally.calls


def endpoint_table(rows: Sequence[EndpointDetails]) -> Table:
    """The endpoints for CSV: of their latency only the mean."""
    header = ["endpoint", "requests", "successful", "errors", "error_rate", "avg_latency_ms", "last_requested_at"]
    return header, (
        (*msgspec.structs.astuple(row)[:5], None if row.latency_ms is None else row.latency_ms.avg, row.last_requested_at)
        for row in rows
    )
