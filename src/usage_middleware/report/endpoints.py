"""The endpoints view: every endpoint with its counters, rates, last use and buckets in a zone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from usage_middleware.gil import yielding
from usage_middleware.options import Settings
from usage_middleware.periods import rfc3339
from usage_middleware.report.context import ReportContext, ReportScope, ScopedReader, report_scope
from usage_middleware.report.endpoint_sums import EndpointSums, check_buckets, endpoint_sums, read_endpoints
from usage_middleware.report.endpoints_range import BUCKETS, EndpointsParameters, cover
from usage_middleware.report.parts import Previous, Unavailable, compared, present
from usage_middleware.report.unused import visible_labels
from usage_middleware.report.view import Table, View, WireFields, fields_of
from usage_middleware.report.window import WindowReport
from usage_middleware.store.schema import CALLS, counter_field


class EndpointBucket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One bucket of one endpoint. `counts` holds every declared counter; None of one key, for which they are not kept."""

    bucket_start: str
    total_requests: int
    counts: dict[str, int | None]


class EndpointUsage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One endpoint.

    Attributes:
        counts: every declared counter; on the wire `num_<counter>`. None of one key, for which they are not kept.
        rates: every declared rate, 0.0 where the divisor is 0; on the wire under its own name. None as above.
        last_requested_at: the last call in the range, RFC 3339; None if there was none, and of one key.
        buckets: None where no range was asked for, or where they are not kept between the times that were.
    """

    endpoint: str
    total_requests: int
    counts: dict[str, int | None]
    rates: dict[str, float | None]
    last_requested_at: str | None
    buckets: list[EndpointBucket] | None


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Every endpoint that was used, by `rank_by` or else by requests descending; unused ones where they were asked for.

    Attributes:
        totals: `total_requests`, and `num_<counter>`, which of one key are kept for everything and for no endpoint.
        unavailable: the fields that are None because they are not kept for this window, and why.
        previous: the window before, if it was asked for.
    """

    results: list[EndpointUsage]
    totals: dict[str, int]
    window: WindowReport
    org_id: str | None
    complete_through: str | None
    final: bool
    generated_at: str
    unavailable: dict[str, Unavailable]
    previous: Previous | msgspec.UnsetType | None = msgspec.UNSET


def build(context: ReportContext, params: EndpointsParameters) -> Endpoints:
    """Answer an endpoints question."""
    settings = context.settings
    scope = report_scope(context.viewer, params.org, params.key_id, together=settings.operator_tree)
    coverage = cover(context, scope, params)
    line, parts, stamps = coverage.line, coverage.parts, coverage.stamps
    found = read_endpoints(context, scope, line)
    visible = visible_labels(context) if params.include_unused_endpoints else []
    unused = [label for label in visible if label not in found.usages]
    check_buckets((len(found.usages) + len(unused)) * (1 if stamps is None else len(stamps)))
    nothing = endpoint_sums([{} for _ in line.starts], 0)
    everything = {**found.usages, **dict.fromkeys(unused, nothing)}
    rows = [_row(label, usage, stamps, scope, settings) for label, usage in yielding(everything.items())]
    source = ScopedReader(context, scope, ())
    return Endpoints(
        results=sorted(rows, key=lambda row: _rank(row, settings)),
        totals=found.totals(),
        window=line.window.report(),
        org_id=scope.shown_org,
        complete_through=context.complete_through(),
        final=context.is_final(line.window.end),
        generated_at=context.generated_at,
        previous=compared(source, params, line.window, parts, lambda: found.whole, found.totals_of),
        unavailable=parts.unavailable,
    )


def _depends_on(context: ReportContext, params: EndpointsParameters) -> object:
    """The routes are no part of the question, and no counters."""
    return visible_labels(context) if params.include_unused_endpoints else None


def _row(
    label: str, usage: EndpointSums, stamps: Sequence[str] | None, scope: ReportScope, settings: Settings
) -> EndpointUsage:
    total = usage.total
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
    return {**fields_of(report), "results": [_wire_row(row) for row in yielding(report.results)]}


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
    """A row an endpoint and bucket, or a row an endpoint where no buckets were asked for."""
    present(None if BUCKETS in report.unavailable else (), BUCKETS, report.unavailable)
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
  "totals": {"total_requests": 42, "num_input_records": 1200, "num_resolvable_records": 1100, "num_matches": 980},
  "window": {
    "start": "2026-03-26T00:00:00Z", "end": "2026-11-20T13:45:20Z", "label": "custom", "timezone": "UTC", "resolution": "1d"
  },
  "org_id": "acme", "complete_through": "2026-11-20T13:45:15Z", "final": false,
  "generated_at": "2026-11-20T13:45:20Z",
  "unavailable": {},
  "request_completed_at": "2026-11-20T13:45:20.123456Z"
}""",
)
