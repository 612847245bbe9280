"""The by-group view: the busiest values of one dimension (`by-group-triport.txt`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.options import Settings
from usage_middleware.periods import rfc3339
from usage_middleware.report.metrics import Tally, board_tally, by_status, series_tally, status_tallies
from usage_middleware.report.parameters import ByGroupParameters
from usage_middleware.report.scoped_reader import Members, ScopedReader, Series, complete_through, dropped_calls, kinds
from usage_middleware.report.viewer import ReportScope, Viewer, missing_org, report_scope
from usage_middleware.report.window import Asked, WindowReport, resolve
from usage_middleware.store.read_batch import Deferred
from usage_middleware.store.reader import Reader
from usage_middleware.store.schema import OPERATOR, method_of

#: Groups that every application has, beside the declared dimensions.
ENDPOINT, KEY, METHOD, STATUS, ORG = "endpoint", "key", "method", "status", "org"
BUILT_IN = (ENDPOINT, METHOD, STATUS, KEY)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The whole range, whatever is listed."""

    calls: int
    errors: int
    bytes: int


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """One value of the dimension. `avg_ms` is None of a status, for which latency is not kept."""

    bucket: str
    calls: int
    errors: int
    avg_ms: float | None


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """What the list leaves out, together; `members` is how many values that is."""

    calls: int
    errors: int
    avg_ms: float | None
    members: int


class ByGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The busiest values of one dimension.

    Attributes:
        range: the range in force; `custom` where start or end was given.
        group: the dimension in force.
        buckets: by calls descending, then by name; as many as `limit` allows.
        other: the rest.
        over_quota: whether the calls exceed the plan's allowance; False where there is no plan.
    """

    range: str
    group: str
    totals: Totals
    buckets: list[Bucket]
    over_quota: bool
    other: Other
    org_id: str | None
    window: WindowReport
    dropped_calls: int | None
    complete_through: str | None
    generated_at: str


def build(reader: Reader, viewer: Viewer, params: ByGroupParameters, now: int) -> ByGroup:
    """Answer a by-group question.

    Raises:
        QueryError: what can't be answered, and why.
        UsageUnavailable: Redis does not answer.
    """
    scope = report_scope(viewer, params.org, together=reader.settings.operator_tree)
    _check_group(params.group, scope, viewer, reader.settings)
    window = resolve(Asked(params.range, params.start, params.end), now, reader.settings, kinds(scope))
    source = ScopedReader(reader, scope, window.slots(reader.settings.layers), now)
    series = source.series()
    rows = _rows(source, params.group, series)
    source.read()
    total = series_tally(series.value.values())
    ranked = sorted(rows.value.items(), key=lambda row: (-row[1].calls, row[0]))
    has_latency = params.group != STATUS
    return ByGroup(
        range=window.label,
        group=params.group,
        totals=Totals(calls=total.calls, errors=total.errors, bytes=total.sent),
        buckets=[_bucket(name, tally, has_latency) for name, tally in ranked[: params.limit]],
        over_quota=False,
        other=_other([tally for _, tally in ranked[params.limit :]], has_latency),
        org_id=scope.shown_org,
        window=window.report(),
        dropped_calls=dropped_calls(scope, series.value),
        complete_through=complete_through(reader, now),
        generated_at=rfc3339(now),
    )


def _check_group(group: str, scope: ReportScope, viewer: Viewer, settings: Settings) -> None:
    allowed = allowed_groups(settings, viewer)
    if group not in allowed:
        raise QueryError("invalid_group", f"group must be one of {', '.join(allowed)}", "group")
    if group == KEY and scope.org == OPERATOR:
        raise missing_org()


def allowed_groups(settings: Settings, viewer: Viewer) -> tuple[str, ...]:
    """What `group` may be: the declared dimensions, those every application has, and `org` for operators."""
    names = [*settings.dimensions, *(name for name in BUILT_IN if name not in settings.dimensions)]
    return (*names, ORG) if viewer.is_operator else tuple(names)


def _rows(source: ScopedReader, group: str, series: Deferred[Series]) -> Deferred[dict[str, Tally]]:
    key = source.scope.key
    if group == STATUS:
        return series.map(lambda found: status_tallies(by_status(found.values())))
    if group == KEY and key is not None:
        return series.map(lambda found: _alone(key, found))
    if group == ORG and source.scope.org != OPERATOR:
        return series.map(lambda found: _alone(source.scope.org, found))
    if group == METHOD and METHOD not in source.reader.settings.dimensions:
        return source.members(ENDPOINT).map(_by_method)
    if group in source.reader.settings.dimensions:
        return source.tagged(group, series).map(_tallies)
    return (source.endpoints() if group == ENDPOINT else source.members(group)).map(_tallies)


def _alone(name: str, series: Series) -> dict[str, Tally]:
    """The one member that everything is of."""
    total = series_tally(series.values())
    return {name: total} if total.calls else {}


def _tallies(members: Members) -> dict[str, Tally]:
    return {name: board_tally(measures) for name, measures in members.items()}


def _by_method(members: Members) -> dict[str, Tally]:
    found: dict[str, Tally] = {}
    for endpoint, tally in _tallies(members).items():
        found.setdefault(method_of(endpoint), Tally()).add(tally)
    return found


def _bucket(name: str, tally: Tally, has_latency: bool) -> Bucket:
    return Bucket(bucket=name, calls=tally.calls, errors=tally.errors, avg_ms=tally.avg_ms if has_latency else None)


def _other(hidden: Sequence[Tally], has_latency: bool) -> Other:
    rest = Tally()
    for tally in hidden:
        rest.add(tally)
    avg_ms = rest.avg_ms if has_latency else None
    return Other(calls=rest.calls, errors=rest.errors, avg_ms=avg_ms, members=len(hidden))


def wire(report: ByGroup) -> dict[str, Any]:
    """The report as it goes over the wire."""
    return msgspec.structs.asdict(report)


def table(report: ByGroup) -> tuple[list[str], Iterable[Sequence[object]]]:
    """The main table, for CSV: the buckets."""
    rows = ((row.bucket, row.calls, row.errors, row.avg_ms) for row in report.buckets)
    return ["bucket", "calls", "errors", "avg_ms"], rows
