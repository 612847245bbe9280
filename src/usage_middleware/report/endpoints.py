"""The endpoints view: every endpoint with its counters, rates, last use and buckets in a zone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import midnight, rfc3339, zone
from usage_middleware.report.context import ReportContext, ReportScope, report_scope
from usage_middleware.report.endpoint_sums import EndpointSums, read_endpoints
from usage_middleware.report.metrics import summed
from usage_middleware.report.parameters import WINDOW, Parameters, Timezone, described
from usage_middleware.report.timeline import Timeline, check_retained, edge_problem, not_kept, timeline, too_wide, unsupported
from usage_middleware.report.unused import visible_labels
from usage_middleware.report.view import Table, View, WireFields
from usage_middleware.report.window import ALL, CUSTOM, Window, WindowReport, WindowRequest, resolve
from usage_middleware.store.schema import CALLS, counter_field

MOST_BUCKETS_IN_ALL = 100_000


class EndpointsParameters(Parameters, frozen=True, kw_only=True):
    """What the endpoints view may be asked. Both dates or neither."""

    start_date: Annotated[
        date | None, described("First day, inclusive in the zone; together with `end_date`.", "2026-03-01", code=WINDOW)
    ] = None
    end_date: Annotated[
        date | None, described("Last day, inclusive in the zone; together with `start_date`.", "2026-03-26", code=WINDOW)
    ] = None
    bucketing_size: Annotated[
        Literal["hour", "day", "week", "month", "quarter", "year"], described("Width of the buckets.", "day")
    ] = "day"
    timezone: Timezone = "UTC"
    include_unused_endpoints: Annotated[bool, described("List endpoints without a call too.", "true")] = False


class EndpointBucket(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket of one endpoint. `counts` holds every declared counter; None of one key, for which they are not kept."""

    bucket_start: str
    total_requests: int
    counts: dict[str, int | None]


class EndpointUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint.

    Attributes:
        counts: every declared counter; on the wire `num_<counter>`. None of one key, for which they are not kept.
        rates: every declared rate, 0.0 where the divisor is 0; on the wire under its own name. None as above.
        last_requested_at: the last call in the range, RFC 3339; None if there was none, and of one key.
        buckets: None where no range was asked for.
    """

    endpoint: str
    total_requests: int
    counts: dict[str, int | None]
    rates: dict[str, float | None]
    last_requested_at: str | None
    buckets: list[EndpointBucket] | None


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Every endpoint that was used, by `rank_by` or else by requests descending; unused ones where they were asked for."""

    results: list[EndpointUsage]
    window: WindowReport
    org_id: str | None
    complete_through: str | None
    generated_at: str


def build(context: ReportContext, params: EndpointsParameters) -> Endpoints:
    """Answer an endpoints question."""
    settings = context.settings
    scope = report_scope(context.viewer, params.org, together=settings.operator_tree)
    tz = zone(params.timezone)
    kind: CounterKind = "endpoint" if scope.key is None else "key_board"
    window, has_buckets = _window(params, context.now, settings, kind, tz)
    line = timeline(window, params.bucketing_size, tz) if has_buckets else Timeline([window.start], window, tz)
    _check_edges(line, settings, kind)
    usages = read_endpoints(context, scope, line)
    visible = visible_labels(context) if params.include_unused_endpoints else []
    unused = [label for label in visible if label not in usages]
    if has_buckets and (len(usages) + len(unused)) * len(line.starts) > MOST_BUCKETS_IN_ALL:
        raise too_wide(f"that would be more than {MOST_BUCKETS_IN_ALL} buckets over all endpoints")
    nothing = EndpointSums([{} for _ in line.starts], 0)
    stamps = line.stamps(with_offset=True) if has_buckets else None
    everything = {**usages, **dict.fromkeys(unused, nothing)}
    rows = [_row(label, usage, stamps, scope, settings) for label, usage in everything.items()]
    return Endpoints(
        results=sorted(rows, key=lambda row: _rank(row, settings)),
        window=window.report(),
        org_id=scope.shown_org,
        complete_through=context.complete_through(),
        generated_at=context.generated_at,
    )


def _window(params: EndpointsParameters, now: int, settings: Settings, kind: CounterKind, tz: ZoneInfo) -> tuple[Window, bool]:
    if (params.start_date is None) != (params.end_date is None):
        missing = "start_date" if params.start_date is None else "end_date"
        raise QueryError("invalid_window", "Both start_date and end_date must be provided, or neither.", missing)
    request = WindowRequest(ALL, params.start, params.end, params.timezone)
    if params.start_date is None or params.end_date is None:
        return resolve(request, now, settings, (kind,), finest=settings.layers.middle), request.is_custom
    if request.is_custom:
        raise QueryError("invalid_window", "Give start_date and end_date, or start and end, not both.", "start")
    if params.end_date < params.start_date:
        raise QueryError("invalid_window", "end_date must not be before start_date.", "end_date")
    start, end = midnight(params.start_date, tz), midnight(params.end_date + timedelta(days=1), tz)
    check_retained(start, now, settings, kind)
    layers = settings.layers
    whole_days = start % layers.day.seconds == end % layers.day.seconds == 0
    return Window(start, end, CUSTOM, params.timezone, layers.day if whole_days else layers.middle, now), True


def _check_edges(line: Timeline, settings: Settings, kind: CounterKind) -> None:
    window = line.window
    found = edge_problem([window.start, *line.cuts, window.end], window.now, settings, kind, minutes=False)
    if found == "unaligned":
        raise unsupported(line.tz, settings)
    if found == "expired":
        raise not_kept(line.tz, window.now, settings, kind)


def _depends_on(context: ReportContext, params: EndpointsParameters) -> object:
    """The routes are no part of the question, and no counters."""
    return visible_labels(context) if params.include_unused_endpoints else None


def _row(
    label: str, usage: EndpointSums, stamps: Sequence[str] | None, scope: ReportScope, settings: Settings
) -> EndpointUsage:
    total = summed(usage.sums)
    kept = scope.key is None
    return EndpointUsage(
        endpoint=label,
        total_requests=total.get(CALLS, 0),
        counts=_counts(total, settings, kept),
        rates={name: _rate(total, pair) if kept else None for name, pair in settings.rates.items()},
        last_requested_at=rfc3339(usage.last_ms / 1000) if usage.last_ms else None,
        buckets=None
        if stamps is None
        else [
            EndpointBucket(bucket_start=stamp, total_requests=sums.get(CALLS, 0), counts=_counts(sums, settings, kept))
            for stamp, sums in zip(stamps, usage.sums, strict=True)
        ],
    )


def _counts(sums: Mapping[str, int], settings: Settings, kept: bool) -> dict[str, int | None]:
    return {name: sums.get(counter_field(name), 0) if kept else None for name in settings.counters}


def _rate(sums: Mapping[str, int], pair: tuple[str, str]) -> float:
    share, whole = (sums.get(counter_field(name), 0) for name in pair)
    return share / whole if whole else 0.0


def _rank(row: EndpointUsage, settings: Settings) -> tuple[int, int, str]:
    by = settings.rank_by
    ranked = row.counts[by] if by is not None else None
    return -(ranked or 0), -row.total_requests, row.endpoint


def _wire(report: Endpoints) -> dict[str, Any]:
    """Counters go over the wire as `num_<counter>`, rates under their own names."""
    return {**msgspec.structs.asdict(report), "results": [_wire_row(row) for row in report.results]}


def _wire_row(row: EndpointUsage) -> dict[str, Any]:
    return {
        "endpoint": row.endpoint,
        "total_requests": row.total_requests,
        **_numbered(row.counts),
        "last_requested_at": row.last_requested_at,
        "buckets": None if row.buckets is None else [_wire_bucket(bucket) for bucket in row.buckets],
        **row.rates,
    }


def _wire_bucket(bucket: EndpointBucket) -> dict[str, Any]:
    return {"bucket_start": bucket.bucket_start, "total_requests": bucket.total_requests, **_numbered(bucket.counts)}


def _numbered(counts: Mapping[str, int | None]) -> dict[str, int | None]:
    return {f"num_{name}": number for name, number in counts.items()}


def _wire_fields(settings: Settings) -> WireFields:
    counts = {"counts": None, **{f"num_{counter}": {"type": ["integer", "null"]} for counter in settings.counters}}
    rates = {"rates": None, **{rate: {"type": ["number", "null"]} for rate in settings.rates}}
    return {EndpointBucket: counts, EndpointUsage: {**counts, **rates}}


def _table(report: Endpoints) -> Table:
    """A row an endpoint and bucket, or a row an endpoint where there are no buckets."""
    counters = sorted({name for row in report.results for name in row.counts})
    header = ["endpoint", "bucket_start", "total_requests", *(f"num_{name}" for name in counters)]
    return header, _table_rows(report, counters)


def _table_rows(report: Endpoints, counters: Sequence[str]) -> Iterable[Sequence[object]]:
    for row in report.results:
        if row.buckets is None:
            yield row.endpoint, None, row.total_requests, *(row.counts[name] for name in counters)
        for bucket in row.buckets or ():
            yield row.endpoint, bucket.bucket_start, bucket.total_requests, *(bucket.counts[name] for name in counters)


VIEW = View(
    name="endpoints",
    path="/endpoints",
    title="Every endpoint with its counters, rates, last use, and buckets in any time zone",
    asks=EndpointsParameters,
    report=Endpoints,
    build=build,
    tables={"buckets": _table},
    wire=_wire,
    wire_fields=_wire_fields,
    depends_on=_depends_on,
    more_codes=("unsupported_timezone", "window_too_wide"),
    is_signed=True,
    example="""{
  "api_request_id": "req_0f4c",
  "results": [
    {
      "endpoint": "v1/resolve", "total_requests": 42,
      "num_input_records": 1200, "num_resolvable_records": 1100, "num_matches": 980,
      "last_requested_at": "2026-03-26T14:00:00Z",
      "buckets": [
        {
          "bucket_start": "2026-03-26T00:00:00+00:00", "total_requests": 42,
          "num_input_records": 1200, "num_resolvable_records": 1100, "num_matches": 980
        }
      ],
      "overall_match_rate": 0.8166666666666667, "resolvable_match_rate": 0.8909090909090909
    }
  ],
  "window": {
    "start": "2026-03-26T00:00:00Z", "end": "2026-11-20T13:45:20Z", "label": "custom", "timezone": "UTC", "resolution": "1d"
  },
  "org_id": "acme", "complete_through": "2026-11-20T13:45:15Z", "generated_at": "2026-11-20T13:45:20Z",
  "request_completed_at": "2026-11-20T13:45:20.123456Z"
}""",
)
