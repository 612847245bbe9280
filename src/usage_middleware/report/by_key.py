"""The by-key view: every API key, used or not."""

from __future__ import annotations

from collections.abc import Iterable
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
from usage_middleware.report.key_list import MEASURES, KeyList
from usage_middleware.report.key_rows import KeyUsage, More, OtherKeys, key_usages
from usage_middleware.report.known_keys import known_keys
from usage_middleware.report.metrics import Measures, series_tally
from usage_middleware.report.over_quota import plans_version
from usage_middleware.report.paging import Pages, Pagination
from usage_middleware.report.parameters import LIMIT, MOST_SEARCHED, SORT_BY, Offset, Parameters, SortOrder, described, period
from usage_middleware.report.parts import Parts, Previous, Unavailable, asked_window, compared, present
from usage_middleware.report.view import Table, View
from usage_middleware.report.window import CAP, Window, WindowReport
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.members import OPERATOR, is_reserved
from usage_middleware.store.replies import Boards

#: How many keys are listed where nobody asked for a page.
UNPAGED = 10_000


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
    count = _checked_keys(context, scope, params)
    window = _window(context, scope, params)
    parts = Parts(window, context.settings)
    source = ScopedReader(context, scope, window.slots(context.settings.layers))
    series = source.series()
    used = _used(source, window, parts, series)
    known = known_keys(context, scope, params, count)
    listed = _Listed() if used is None else _listed(source, window, parts, params, KeyList.of(context, scope, known, used))
    return ByKey(
        keys=listed.keys,
        total_keys=known.active,
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


def _used(source: ScopedReader, window: Window, parts: Parts, series: Deferred[Series]) -> Boards | None:
    """Reads what each key did: measure -> key -> number; None where that is not kept for this window."""
    key = source.scope.key
    boards = None if key is not None else breakdown.boards(source, window, parts, "key", MEASURES)
    source.read()
    if key is not None:
        total = series_tally(series.value.values())
        numbers = zip(MEASURES, (total.calls, total.errors, 0), strict=True) if series.value else ()
        return {measure: {key: number} for measure, number in numbers}
    if boards is None:
        parts.offers("board", "keys", "other")
        return None
    return boards.value


class _Listed(NamedTuple):
    """The keys that are shown, and the rest."""

    keys: list[KeyUsage] | None = None
    other: OtherKeys | None = None
    pagination: Pagination | None = None


def _listed(source: ScopedReader, window: Window, parts: Parts, params: ByKeyParameters, keys: KeyList) -> _Listed:
    """The keys that were asked for."""
    context, scope = source.context, source.scope
    context.charge(len(keys) // 100)
    shown, pagination = _page(context, scope, params, keys.listed(params))
    rows = keys.rows(shown)
    more = More(key_costs(context, scope, window, parts), key_flags(context, scope, rows) if params.include_flags else None)
    return _Listed(key_usages(source, parts, rows, params.endpoints_per_key, more), keys.other(rows), pagination)


def _page(
    context: ReportContext, scope: ReportScope, params: ByKeyParameters, keys: list[str]
) -> tuple[list[str], Pagination | None]:
    if params.limit is None:
        # Reserved rows are not keys: a dimension that has reached its cap is still listed, with what is beyond it.
        count = sum(not is_reserved("key", key) for key in keys)
        if count > UNPAGED:
            raise _unpaged(count)
        return keys[params.offset :], None
    pages = Pages(context, scope, "by-key", params, params.limit, params.offset)
    ordered = pages.order_names(keys)
    return pages.cut(ordered), pages.pagination(len(ordered))


def _checked_keys(context: ReportContext, scope: ReportScope, params: ByKeyParameters) -> int:
    """How many keys there are. Too many are refused before any is read; those that nobody knows are found only later."""
    keys = 0 if scope.key is not None else context.directory.count(scope.org_name)
    if keys > UNPAGED and params.limit is None and params.environment is None and not params.q:
        raise _unpaged(keys)
    context.charge(keys // 4)  # The directory is read: so many take as long as a command.
    return keys


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
