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
from usage_middleware.report.window import CUSTOM, Refusal, Window, WindowRequest, resolution, resolve

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
    has_dates, has_times = _check_range(params)
    kept = Kept(context.settings, ("endpoint",) if scope.key is None else ("key_board",), context.now)
    if has_dates:
        return _between_dates(context, params, kept)

    def covered(window: Window) -> Coverage:
        parts, whole = Parts(window, context.settings), Timeline([window.start], window, zone(params.timezone))
        line = timeline(window, params.bucketing_size, whole.tz) if has_times else None
        found = None if line is None else parts.buckets(line, kept.kinds[0], BUCKETS)
        return Coverage(found or whole, found is not None, parts)

    request = WindowRequest(ALL, params.start, params.end, params.timezone, params.align)
    if params.start is None:
        return covered(resolve(request, context.moment, context.settings, kept.kinds, fits=covered))
    return covered(resolve(request, context.moment, context.settings, (scope.series_kind,), needs=kept.kinds, fits=covered))


def _check_range(params: EndpointsParameters) -> tuple[bool, bool]:
    """Whether there are dates, and whether there are times; never both."""
    has_dates, has_times = params.start_date is not None, params.start is not None or params.end is not None
    if has_dates is not (params.end_date is not None):
        missing = "end_date" if has_dates else "start_date"
        raise QueryError("invalid_window", "Both start_date and end_date must be provided, or neither.", missing)
    if has_dates and has_times:
        raise QueryError("invalid_window", "Give start_date and end_date, or start and end, not both.", "start")
    return has_dates, has_times


def _between_dates(context: ReportContext, params: EndpointsParameters, kept: Kept) -> Coverage:
    """All buckets that touch the dates. They are never null: what can't be told apart is refused."""
    edges, day = _of_dates(params), context.settings.layers.day

    def covered(window: Window) -> Coverage:
        line = timeline(window, params.bucketing_size, zone(params.timezone))
        line.check([*line.cuts, *window.edges], kept.settings, kept.kinds[0])
        return Coverage(line, True, Parts(window, kept.settings))

    def expired() -> QueryError:
        return Refusal(kept, context.moment, params.timezone, covered).error(edges, kept.nearest(edges), "start_date")

    if day.floor(edges.start) < kept.oldest(day):
        raise expired()
    found = covered(Window(*edges, CUSTOM, params.timezone, resolution(edges, kept), context.now, context.moment))
    if kept.gap(edges) is not None:
        raise expired()
    return found


def _of_dates(params: EndpointsParameters) -> Edges:
    assert params.start_date is not None
    assert params.end_date is not None
    if params.end_date < params.start_date:
        raise QueryError("invalid_window", "end_date must not be before start_date.", "end_date")
    tz = zone(params.timezone)
    return Edges(midnight(params.start_date, tz), midnight(params.end_date + timedelta(days=1), tz))
