"""The by-key view: every API key, used or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.report import breakdown, distributions
from usage_middleware.report.billing_period import CURRENT, PREVIOUS
from usage_middleware.report.context import (
    ReportContext,
    ReportScope,
    ScopedReader,
    Series,
    dropped_calls,
    missing_org,
    report_scope,
)
from usage_middleware.report.key_costs import cost_cells, in_billing_period, key_costs
from usage_middleware.report.key_findings import key_flags
from usage_middleware.report.key_rows import KeyRow, KeyUsage, More, OtherKeys, key_usages, other_keys
from usage_middleware.report.metrics import Measures, Tally, board_tally, series_tally
from usage_middleware.report.over_quota import plans_version
from usage_middleware.report.paging import Pages, Pagination
from usage_middleware.report.parameters import LIMIT, MOST_SEARCHED, SORT_BY, Offset, Parameters, SortOrder, described, period
from usage_middleware.report.parts import Parts, Previous, Unavailable, asked_window, compared, present
from usage_middleware.report.search import Search
from usage_middleware.report.view import Table, View
from usage_middleware.report.window import CAP, Window, WindowReport
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.keys import Directory, KeyInfo
from usage_middleware.store.members import OPERATOR, is_reserved, key_member
from usage_middleware.store.schema import CALLS

#: How many keys are listed where nobody asked for a page.
UNPAGED = 10_000
#: What is read of every key: no more than is shown or sorted by.
MEASURES = (CALLS, "4xx", "5xx")
_UNUSED = Tally()  # one for all: they may be most of 100,000


class ByKeyParameters(Parameters, frozen=True, kw_only=True):
    """What the by-key view may be asked. Without `limit` every key is listed, up to 10,000."""

    period: Annotated[
        Literal["24h", "7d", "30d", "90d", "month_to_date", "last_month", "current", "previous"], period("invalid_period")
    ] = "30d"
    environment: Annotated[str | None, described("Only keys of this environment.", "live")] = None
    include_revoked: Annotated[bool, described("List revoked keys too.", "true")] = False
    q: Annotated[
        str | None,
        described("Only keys with this text in their name or id, whatever its case.", "search", maximum=MOST_SEARCHED),
    ] = None
    sort_by: Annotated[Literal["request_count", "error_count", "last_activity", "name"], SORT_BY] = "request_count"
    sort_order: SortOrder = "desc"
    limit: Annotated[int | None, LIMIT] = None
    offset: Offset = 0
    include_flags: Annotated[bool, described("Add what is odd about each key; of 1,000 keys at most.", "true")] = False
    endpoints_per_key: Annotated[
        int | None,
        described(
            "How many endpoints of each key are named; the rest is `(other)`. Above 20 only with `limit`. Default: 20, less "
            "for many keys.",
            "5",
            maximum=1000,
        ),
    ] = None


class KeyTotals(msgspec.Struct, frozen=True, kw_only=True):
    """All calls of the window, whatever is listed."""

    request_count: int
    error_count: int


class ByKey(msgspec.Struct, frozen=True, kw_only=True):
    """Every API key of an organisation.

    Attributes:
        keys: every active key of the directory, with zeros if unused, and keys that the directory does not know but that were
            used in the window.
        total_keys: active keys, whatever is listed.
        pagination: None where no page was asked for.
        unavailable: the fields that are None because they are not kept for this window, and why.
        previous: the window before, if it was asked for.
    """

    keys: list[KeyUsage] | None
    total_keys: int
    totals: KeyTotals
    other: OtherKeys | None
    pagination: Pagination | None
    org_id: str | None
    window: WindowReport
    dropped_calls: int | None
    complete_through: str | None
    final: bool
    generated_at: str
    unavailable: dict[str, Unavailable]
    previous: Previous | msgspec.UnsetType | None = msgspec.UNSET


def build(context: ReportContext, params: ByKeyParameters) -> ByKey:
    """Answer a by-key question."""
    scope = report_scope(context.viewer, params.org)
    if scope.org == OPERATOR:
        raise missing_org()
    distributions.check(params.endpoints_per_key, params.limit)
    _check_keys(context, scope, params)
    window = _window(context, scope, params)
    parts = Parts(window, context.settings)
    source = ScopedReader(context, scope, window.slots(context.settings.layers))
    series = source.series()
    used = _used(source, window, parts, series)
    known = _known(context.directory, scope)
    listed = _Listing(source, window, parts, params, known).of(used)
    return ByKey(
        keys=listed.keys,
        total_keys=sum(1 for info in known.values() if info.revoked_at is None),
        totals=KeyTotals(**_totals(series.value.values())),
        other=listed.other,
        pagination=listed.pagination,
        org_id=scope.shown_org,
        window=window.report(),
        dropped_calls=dropped_calls(scope, series.value),
        complete_through=context.complete_through(),
        final=context.is_final(window.end),
        generated_at=context.generated_at,
        previous=compared(source, params, window, parts, series.value.values, _totals),
        unavailable=parts.unavailable,
    )


def _window(context: ReportContext, scope: ReportScope, params: ByKeyParameters) -> Window:
    found = asked_window(context, scope, in_billing_period(context, scope, params, params.period), params.period, CAP)
    return found._replace(label=params.period) if params.start is None and params.period in (CURRENT, PREVIOUS) else found


def _totals(many: Iterable[Measures]) -> dict[str, int]:
    tally = series_tally(many)
    return {"request_count": tally.calls, "error_count": tally.errors}


def _used(source: ScopedReader, window: Window, parts: Parts, series: Deferred[Series]) -> dict[str, Tally] | None:
    """Reads what each key did; None where that is not kept for this window. Of what was read, only tallies stay in memory."""
    key = source.scope.key
    members = None if key is not None else breakdown.members(source, window, parts, "key", MEASURES)
    source.read()
    if key is not None:
        return {key: series_tally(series.value.values())} if series.value else {}
    if members is None:
        parts.offers("board", "keys", "other")
        return None
    return {name: board_tally(measures) for name, measures in members.value.items()}


class _Listed(NamedTuple):
    """The keys that are shown, and the rest."""

    keys: list[KeyUsage] | None = None
    other: OtherKeys | None = None
    pagination: Pagination | None = None


class _Listing(NamedTuple):
    """Chooses and orders the keys that were asked for."""

    source: ScopedReader
    window: Window
    parts: Parts
    params: ByKeyParameters
    known: Mapping[str, KeyInfo]

    def of(self, used: Mapping[str, Tally] | None) -> _Listed:
        """The keys that were used and those of the directory."""
        if used is None:
            return _Listed()
        context, scope, params, known = self.source.context, self.source.scope, self.params, self.known
        keys = [*known, *(key for key in used if key not in known)]
        seen = _last_activity(context, scope, keys) if params.sort_by == "last_activity" else {}
        everything = [KeyRow(key, known.get(key), used.get(key, _UNUSED)) for key in keys]
        context.charge(len(everything) // 100)
        search = Search.of(params.q)
        wanted = (row for row in everything if _is_listed(row, params) and search.finds(row.name, row.key))
        listed, pagination = _page(context, scope, params, _sorted(wanted, params, seen))
        more = More(
            key_costs(context, scope, self.window, self.parts),
            key_flags(context, scope, listed) if params.include_flags else None,
        )
        usages = key_usages(self.source, self.parts, listed, params.endpoints_per_key, more)
        return _Listed(usages, other_keys(everything, listed), pagination)


def _known(directory: Directory, scope: ReportScope) -> dict[str, KeyInfo]:
    if scope.key is None:
        return {key_member(info.id): info for info in directory.list(scope.org_name, include_revoked=True)}
    info = directory.get(scope.org_name, scope.key_name)
    return {scope.key: info} if info is not None and key_member(info.id) == scope.key else {}


def _last_activity(context: ReportContext, scope: ReportScope, keys: Sequence[str]) -> dict[str, int]:
    batch = context.batch(scope.org)
    seen = batch.seen_of("key", keys)
    batch.read()
    return seen.value


def _is_listed(row: KeyRow, params: ByKeyParameters) -> bool:
    if row.info is None:
        return params.environment is None
    if row.info.revoked_at is not None and not params.include_revoked:
        return False
    return params.environment in (None, row.info.environment)


def _sorted(rows: Iterable[KeyRow], params: ByKeyParameters, seen: Mapping[str, int]) -> list[KeyRow]:
    by_name = sorted(rows, key=lambda row: (row.name, row.key))
    falling = params.sort_order == "desc"
    if params.sort_by == "name":
        return by_name[::-1] if falling else by_name
    if params.sort_by == "last_activity":
        return sorted(by_name, key=lambda row: seen.get(row.key, 0), reverse=falling)
    by_number: dict[int, list[KeyRow]] = {}  # not one sort of all: in its midst no other thread could run
    for row in by_name:
        by_number.setdefault(row.tally.errors if params.sort_by == "error_count" else row.tally.calls, []).append(row)
    return [row for number in sorted(by_number, reverse=falling) for row in by_number[number]]


def _page(
    context: ReportContext, scope: ReportScope, params: ByKeyParameters, rows: Sequence[KeyRow]
) -> tuple[Sequence[KeyRow], Pagination | None]:
    if params.limit is None:
        # Reserved rows are not keys: a dimension that has reached its cap is still listed, with what is beyond it.
        keys = sum(not is_reserved("key", row.key) for row in rows)
        if keys > UNPAGED:
            raise _unpaged(keys)
        return rows[params.offset :], None
    pages = Pages(context, scope, "by-key", params, params.limit, params.offset)
    ordered = pages.order({row.key: row for row in rows}, lambda key: KeyRow(key, None, _UNUSED))
    return pages.cut(ordered), pages.pagination(len(ordered))


def _check_keys(context: ReportContext, scope: ReportScope, params: ByKeyParameters) -> None:
    """Refuse to list too many keys before any is read; keys that the directory does not know are found only later."""
    keys = 0 if scope.key is not None else context.directory.count(scope.org_name)
    if keys > UNPAGED and params.limit is None and params.environment is None and not params.q:
        raise _unpaged(keys)
    context.charge(keys // 4)  # The directory is read: so many take as long as a command.


def _unpaged(keys: int) -> QueryError:
    return QueryError("window_too_wide", f"There are {keys} keys: ask for pages with limit= and offset=.", "limit")


def _table(report: ByKey) -> Table:
    """The keys, without their endpoint distributions."""
    header = ["key_id", "name", "environment", "request_count", "error_count", "last_activity"]
    rows = present(report.keys, "keys", report.unavailable)
    return [*header, "owner", "cost", "currency"], ((*(getattr(row, name) for name in header), *_paid(row)) for row in rows)


def _paid(row: KeyUsage) -> tuple[object, ...]:
    return row.owner, *cost_cells(row.cost)


VIEW = View(
    name="by-key",
    path="/by-key",
    title="Every API key, used or not: calls, errors, endpoints, last activity",
    asks=ByKeyParameters,
    report=ByKey,
    build=build,
    tables={"keys": _table},
    more_codes=("window_too_wide",),
    depends_on=plans_version,
    example="""{
  "keys": [
    {
      "key_id": "key_7", "name": "Search backend", "environment": "live",
      "request_count": 1260, "endpoint_distribution": {"GET /v1/items": 1200, "POST /v1/items": 60}, "error_count": 12,
      "last_activity": "2026-11-20T13:44:58.120Z", "revoked_at": null,
      "created_at": "2026-02-01T09:00:00Z", "owner": "ada", "labels": {"team": "search"}, "cost": null, "share": null
    }
  ],
  "total_keys": 1,
  "totals": {"request_count": 1260, "error_count": 12},
  "other": {"request_count": 0, "error_count": 0, "keys": 0},
  "pagination": null,
  "window": {
    "start": "2026-10-21T00:00:00Z", "end": "2026-11-20T13:45:20Z", "label": "30d", "timezone": "UTC", "resolution": "1d"
  },
  "org_id": "acme", "dropped_calls": 0, "complete_through": "2026-11-20T13:45:15Z", "final": false,
  "generated_at": "2026-11-20T13:45:20Z", "unavailable": {}
}""",
)
