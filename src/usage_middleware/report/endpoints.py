"""The endpoints view: every endpoint with its counters, rates, last use and buckets in a zone (`endpoints-minerva.txt`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import midnight, rfc3339, zone
from usage_middleware.report.labels import label_of, under_label
from usage_middleware.report.parameters import EndpointsParameters
from usage_middleware.report.prefix_sums import PrefixSums
from usage_middleware.report.scoped_reader import complete_through
from usage_middleware.report.timeline import Timeline, check_retained, not_kept, timeline, too_wide, trouble, unsupported
from usage_middleware.report.viewer import ReportScope, Viewer, report_scope
from usage_middleware.report.window import ALL, CUSTOM, Asked, Window, WindowReport, resolve
from usage_middleware.store.reader import Reader
from usage_middleware.store.replies import latest
from usage_middleware.store.schema import CALLS, counter_field

MOST_BUCKETS_IN_ALL = 100_000


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
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
    buckets: list[Bucket] | None


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Every endpoint that was used, by `rank_by` or else by requests descending; unused ones where they were asked for."""

    results: list[EndpointUsage]
    window: WindowReport
    org_id: str | None
    complete_through: str | None
    generated_at: str


class _Usage(NamedTuple):
    """What an endpoint comes to: each measure in each bucket, and the last call in the range (ms, 0 for none)."""

    sums: Sequence[Mapping[str, int]]
    last_ms: int


def build(reader: Reader, viewer: Viewer, params: EndpointsParameters, now: int) -> Endpoints:
    """Answer an endpoints question.

    Raises:
        QueryError: what can't be answered, and why.
        UsageUnavailable: Redis does not answer.
    """
    scope = report_scope(viewer, params.org, together=reader.settings.operator_tree)
    tz = zone(params.timezone)
    kind: CounterKind = "endpoint" if scope.key is None else "key_board"
    window, has_buckets = _window(params, now, reader.settings, kind, tz)
    line = timeline(window, params.bucketing_size, tz) if has_buckets else Timeline([window.start], window, tz)
    _check_edges(line, reader.settings, kind)
    usages = _of_key(reader, scope, line) if scope.key is not None else _of_organization(reader, scope, line)
    unused = _unused(reader, viewer, usages) if params.include_unused_endpoints else []
    if has_buckets and (len(usages) + len(unused)) * len(line.starts) > MOST_BUCKETS_IN_ALL:
        raise too_wide(f"that would be more than {MOST_BUCKETS_IN_ALL} buckets over all endpoints")
    nothing = _Usage([{} for _ in line.starts], 0)
    stamps = line.stamps(with_offset=True) if has_buckets else None
    everything = {**usages, **dict.fromkeys(unused, nothing)}
    rows = [_row(label, usage, stamps, scope, reader.settings) for label, usage in everything.items()]
    return Endpoints(
        results=sorted(rows, key=lambda row: _rank(row, reader.settings)),
        window=window.report(),
        org_id=scope.shown_org,
        complete_through=complete_through(reader, now),
        generated_at=rfc3339(now),
    )


def _window(params: EndpointsParameters, now: int, settings: Settings, kind: CounterKind, tz: ZoneInfo) -> tuple[Window, bool]:
    kinds: tuple[CounterKind, ...] = (kind,)
    if (params.start_date is None) != (params.end_date is None):
        missing = "start_date" if params.start_date is None else "end_date"
        raise QueryError("invalid_window", "Both start_date and end_date must be provided, or neither.", missing)
    asked = Asked(ALL, params.start, params.end, params.timezone)
    if params.start_date is None or params.end_date is None:
        return resolve(asked, now, settings, kinds, finest=settings.layers.middle), asked.is_custom
    if asked.is_custom:
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
    found = trouble([window.start, *line.cuts, window.end], window.now, settings, kind, minutes=False)
    if found == "unaligned":
        raise unsupported(line.tz, settings)
    if found == "expired":
        raise not_kept(line.tz, window.now, settings, kind)


def _of_organization(reader: Reader, scope: ReportScope, line: Timeline) -> dict[str, _Usage]:
    window = line.window
    sheet = reader.sheet(scope.org, window.now)
    seen = sheet.seen("endpoint")
    sheet.read()
    candidates = [name for name, last_ms in seen.value.items() if last_ms >= window.start * 1000]
    measures = [CALLS, *(counter_field(counter) for counter in reader.settings.counters)]
    sums = PrefixSums(line, reader.settings)
    asked = {name: sums.ask(sheet, ("endpoint", name), measures) for name in candidates}
    slots = window.slots(reader.settings.layers)
    in_range = window.end >= window.now
    later = [name for name in candidates if not in_range and seen.value[name] >= window.end * 1000]
    ends = {name: sheet.series(slots, ("endpoint", name)) for name in later}
    sheet.read()
    last = {**seen.value, **{name: latest(series.value.values()) for name, series in ends.items()}}
    found = {name: _Usage(sums.buckets(answer.value), last[name]) for name, answer in asked.items()}
    return _by_label(found, reader.settings)


def _of_key(reader: Reader, scope: ReportScope, line: Timeline) -> dict[str, _Usage]:
    assert scope.key is not None
    sheet = reader.sheet(scope.org, line.window.now)
    groups = line.grouped(line.window.slots(reader.settings.layers, line.cuts))
    boards = [sheet.key_board(slots, scope.key) for slots in groups]
    sheet.read()
    per_bucket = [board.value.members.get("endpoint", {}) for board in boards]
    names = sorted({name for members in per_bucket for name in members})
    found = {name: _Usage([{CALLS: members.get(name, {}).get(CALLS, 0)} for members in per_bucket], 0) for name in names}
    return _by_label(found, reader.settings)


def _by_label(usages: Mapping[str, _Usage], settings: Settings) -> dict[str, _Usage]:
    found: dict[str, _Usage] = {}
    for label, names in under_label(usages, settings).items():
        many = [usages[name] for name in names]
        sums = [_sum(parts) for parts in zip(*(usage.sums for usage in many), strict=True)]
        if any(bucket.get(CALLS, 0) for bucket in sums):
            found[label] = _Usage(sums, max(usage.last_ms for usage in many))
    return found


def _sum(many: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for measures in many:
        for measure, number in measures.items():
            total[measure] = total.get(measure, 0) + number
    return total


def _unused(reader: Reader, viewer: Viewer, used: Mapping[str, _Usage]) -> list[str]:
    labels = sorted({label_of(endpoint, reader.settings) for endpoint in reader.routes()})
    visible = labels if reader.visible is None else list(reader.visible(viewer, labels))
    return [label for label in visible if label not in used]


def _row(label: str, usage: _Usage, stamps: Sequence[str] | None, scope: ReportScope, settings: Settings) -> EndpointUsage:
    total = _sum(usage.sums)
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
            Bucket(bucket_start=stamp, total_requests=sums.get(CALLS, 0), counts=_counts(sums, settings, kept))
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


def wire(report: Endpoints) -> dict[str, Any]:
    """The report as it goes over the wire: counters as `num_<counter>`, rates under their own names."""
    shown = msgspec.structs.asdict(report)
    shown["results"] = [_wire_row(row) for row in report.results]
    return shown


def _wire_row(row: EndpointUsage) -> dict[str, Any]:
    return {
        "endpoint": row.endpoint,
        "total_requests": row.total_requests,
        **_numbered(row.counts),
        "last_requested_at": row.last_requested_at,
        "buckets": None if row.buckets is None else [_wire_bucket(bucket) for bucket in row.buckets],
        **row.rates,
    }


def _wire_bucket(bucket: Bucket) -> dict[str, Any]:
    return {"bucket_start": bucket.bucket_start, "total_requests": bucket.total_requests, **_numbered(bucket.counts)}


def _numbered(counts: Mapping[str, int | None]) -> dict[str, int | None]:
    return {f"num_{name}": number for name, number in counts.items()}


def table(report: Endpoints) -> tuple[list[str], Iterable[Sequence[object]]]:
    """The main table, for CSV: a row an endpoint and bucket, or a row an endpoint where there are no buckets."""
    counters = sorted({name for row in report.results for name in row.counts})
    header = ["endpoint", "bucket_start", "total_requests", *(f"num_{name}" for name in counters)]
    return header, _table_rows(report, counters)


def _table_rows(report: Endpoints, counters: Sequence[str]) -> Iterable[Sequence[object]]:
    for row in report.results:
        if row.buckets is None:
            yield row.endpoint, None, row.total_requests, *(row.counts[name] for name in counters)
        for bucket in row.buckets or ():
            yield row.endpoint, bucket.bucket_start, bucket.total_requests, *(bucket.counts[name] for name in counters)
