"""Which range an endpoints question is about, between dates or times, and in which buckets it can be answered."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal, NamedTuple

from usage_middleware.errors import QueryError
from usage_middleware.periods import midnight, zone
from usage_middleware.report.context import ReportContext, ReportScope
from usage_middleware.report.kept import Kept
from usage_middleware.report.named_periods import ALL, Edges
from usage_middleware.report.parameters import KeyId, Parameters, described
from usage_middleware.report.parts import Parts
from usage_middleware.report.timeline import Timeline, timeline
from usage_middleware.report.window import CUSTOM, Window, WindowRequest, not_retained, resolution, resolve

#: What is null between times where the slots are gone that tell buckets apart.
BUCKETS = "results.buckets"


class EndpointsParameters(Parameters, frozen=True, kw_only=True):
    """What the endpoints view may be asked. Both dates or neither."""

    start_date: Annotated[
        date | None, described("First day, inclusive in the zone; together with `end_date`.", "2026-03-01")
    ] = None
    end_date: Annotated[
        date | None, described("Last day, inclusive in the zone; together with `start_date`.", "2026-03-26")
    ] = None
    bucketing_size: Annotated[
        Literal["hour", "day", "week", "month", "quarter", "year"], described("Width of the buckets.", "day")
    ] = "day"
    include_unused_endpoints: Annotated[bool, described("List endpoints without a call too.", "true")] = False
    key_id: KeyId = None


class Coverage(NamedTuple):
    """What is read: in which buckets (the window as a single one where none are shown), and which parts are kept for it."""

    line: Timeline
    has_buckets: bool
    parts: Parts

    @property
    def stamps(self) -> list[str] | None:
        """Where each bucket begins; None where none are shown."""
        return self.line.stamps(with_offset=True) if self.has_buckets else None


def cover(context: ReportContext, scope: ReportScope, params: EndpointsParameters) -> Coverage:
    """The window and its buckets, if a range was asked for.

    Raises:
        QueryError: the endpoints are not kept for this window, or, between dates, not in such buckets.
    """
    settings, tz = context.settings, zone(params.timezone)
    kept = Kept(settings, ("endpoint",) if scope.key is None else ("key_board",), context.now)
    has_dates, has_times = _check_range(params)
    window = _of_dates(context, params, kept) if has_dates else _of_times(context, scope, params, kept)
    parts, whole = Parts(window, settings), Timeline([window.start], window, tz)
    if not (has_dates or has_times):
        return Coverage(whole, False, parts)
    line = timeline(window, params.bucketing_size, tz)
    if has_dates:
        _check_dates(line, kept)
        return Coverage(line, True, parts)
    found = parts.buckets(line, kept.kinds[0], BUCKETS)
    return Coverage(found or whole, found is not None, parts)


def _check_range(params: EndpointsParameters) -> tuple[bool, bool]:
    """Whether there are dates, and whether there are times; never both."""
    has_dates, has_times = params.start_date is not None, params.start is not None or params.end is not None
    if has_dates is not (params.end_date is not None):
        missing = "end_date" if has_dates else "start_date"
        raise QueryError("invalid_window", "Both start_date and end_date must be provided, or neither.", missing)
    if has_dates and has_times:
        raise QueryError("invalid_window", "Give start_date and end_date, or start and end, not both.", "start")
    return has_dates, has_times


def _check_dates(line: Timeline, kept: Kept) -> None:
    edges = line.window.edges
    line.check([*line.cuts, *edges], kept.settings, kept.kinds[0])
    if kept.gap(edges) is not None:
        raise not_retained(edges, kept, "start_date")


def _of_dates(context: ReportContext, params: EndpointsParameters, kept: Kept) -> Window:
    assert params.start_date is not None
    assert params.end_date is not None
    if params.end_date < params.start_date:
        raise QueryError("invalid_window", "end_date must not be before start_date.", "end_date")
    tz = zone(params.timezone)
    edges = Edges(midnight(params.start_date, tz), midnight(params.end_date + timedelta(days=1), tz))
    day = context.settings.layers.day
    if day.floor(edges.start) < kept.oldest(day):
        raise not_retained(edges, kept, "start_date")
    return Window(*edges, CUSTOM, params.timezone, resolution(edges, kept), context.now, context.moment)


def _of_times(context: ReportContext, scope: ReportScope, params: EndpointsParameters, kept: Kept) -> Window:
    request = WindowRequest(ALL, params.start, params.end, params.timezone, params.align)
    if params.start is None:
        return resolve(request, context.moment, context.settings, kept.kinds)
    return resolve(request, context.moment, context.settings, (scope.series_kind,), needs=kept.kinds)
