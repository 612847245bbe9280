"""The by-key view: every API key, used or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.options import Settings
from usage_middleware.periods import rfc3339
from usage_middleware.report.context import (
    Members,
    ReportContext,
    ReportScope,
    ScopedReader,
    Series,
    dropped_calls,
    missing_org,
    report_scope,
)
from usage_middleware.report.metrics import Tally, board_tally, by_label, series_tally, tally_sum
from usage_middleware.report.paging import Pages, Pagination
from usage_middleware.report.parameters import LIMIT, SORT_BY, Offset, Parameters, Period, SortOrder, described
from usage_middleware.report.view import Table, View
from usage_middleware.report.window import CAP, Window, WindowReport, WindowRequest, resolve
from usage_middleware.store.keys import Directory, KeyInfo
from usage_middleware.store.schema import CALLS, OPERATOR, is_reserved, key_member

#: How many keys are listed where nobody asked for a page.
UNPAGED = 10_000
#: What is read of every key: no more than is shown or sorted by.
MEASURES = (CALLS, "4xx", "5xx")


class ByKeyParameters(Parameters, frozen=True, kw_only=True):
    """What the by-key view may be asked. Without `limit` every key is listed, up to 10,000."""

    period: Period = "30d"
    environment: Annotated[str | None, described("Only keys of this environment.", "live")] = None
    include_revoked: Annotated[bool, described("List revoked keys too.", "true")] = False
    sort_by: Annotated[Literal["request_count", "error_count", "last_activity", "name"], SORT_BY] = "request_count"
    sort_order: SortOrder = "desc"
    limit: Annotated[int | None, LIMIT] = None
    offset: Offset = 0


class KeyUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One API key.

    Attributes:
        name: as in the key directory; None of a key that it does not know.
        environment: `live`, `test`, or whatever the directory says; None as above.
        request_count: calls in the window.
        endpoint_distribution: endpoint -> calls, the busiest first.
        error_count: calls with a 4xx or 5xx status.
        last_activity: the last call ever, RFC 3339; None if there was none.
        revoked_at: when the key was revoked, RFC 3339; None of an active one.
    """

    key_id: str
    name: str | None
    environment: str | None
    request_count: int
    endpoint_distribution: dict[str, int]
    error_count: int
    last_activity: str | None
    revoked_at: str | None


class KeyTotals(msgspec.Struct, frozen=True, kw_only=True):
    """All calls of the window, whatever is listed."""

    request_count: int
    error_count: int


class OtherKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that are not listed (another page, another environment, revoked), together."""

    request_count: int
    error_count: int
    keys: int


class ByKey(msgspec.Struct, frozen=True, kw_only=True):
    """Every API key of an organisation.

    Attributes:
        keys: every active key of the directory, with zeros if unused, and keys that the directory does not know but that were
            used in the window.
        total_keys: active keys, whatever is listed.
        pagination: None where no page was asked for.
    """

    keys: list[KeyUsage]
    total_keys: int
    totals: KeyTotals
    other: OtherKeys
    pagination: Pagination | None
    org_id: str | None
    window: WindowReport
    dropped_calls: int | None
    complete_through: str | None
    generated_at: str


class _KeyRow(NamedTuple):
    key: str
    info: KeyInfo | None
    tally: Tally

    @property
    def name(self) -> str:
        return self.key if self.info is None else self.info.name


def build(context: ReportContext, params: ByKeyParameters) -> ByKey:
    """Answer a by-key question."""
    scope = report_scope(context.viewer, params.org)
    if scope.org == OPERATOR:
        raise missing_org()
    request = WindowRequest(params.period, params.start, params.end)
    window = resolve(request, context.now, context.settings, ("key_board", "key", "board", "series"), CAP)
    series, used = _read(context, scope, window)
    known = _known(context.directory, scope)
    seen = _last_activity(context, scope, {**used, **known}) if params.sort_by == "last_activity" else {}
    everything = [_KeyRow(key, known.get(key), used.get(key, Tally())) for key in {**used, **known}]
    rows = _sorted((row for row in everything if _is_listed(row, params)), params, seen)
    shown, pagination = _page(context, scope, params, rows)
    total = series_tally(series.values())
    return ByKey(
        keys=_usages(context, scope, window, shown),
        total_keys=sum(1 for info in known.values() if info.revoked_at is None),
        totals=KeyTotals(request_count=total.calls, error_count=total.errors),
        other=_other(everything, shown),
        pagination=pagination,
        org_id=scope.shown_org,
        window=window.report(),
        dropped_calls=dropped_calls(scope, series),
        complete_through=context.complete_through(),
        generated_at=context.generated_at,
    )


def _read(context: ReportContext, scope: ReportScope, window: Window) -> tuple[Series, dict[str, Tally]]:
    source = ScopedReader(context, scope, window.slots(context.settings.layers))
    series = source.series()
    members = source.members("key", MEASURES) if scope.key is None else None
    source.read()
    if members is not None:
        return series.value, {name: board_tally(found) for name, found in members.value.items()}
    assert scope.key is not None
    return series.value, {scope.key: series_tally(series.value.values())} if series.value else {}


def _known(directory: Directory, scope: ReportScope) -> dict[str, KeyInfo]:
    if scope.key is None:
        return {key_member(info.id): info for info in directory.list(scope.org_name, include_revoked=True)}
    info = directory.get(scope.org_name, scope.key_name)
    return {scope.key: info} if info is not None and key_member(info.id) == scope.key else {}


def _last_activity(context: ReportContext, scope: ReportScope, keys: Iterable[str]) -> dict[str, int]:
    batch = context.batch(scope.org)
    seen = batch.seen_of("key", sorted(keys))
    batch.read()
    return seen.value


def _is_listed(row: _KeyRow, params: ByKeyParameters) -> bool:
    if row.info is None:
        return params.environment is None
    if row.info.revoked_at is not None and not params.include_revoked:
        return False
    return params.environment in (None, row.info.environment)


def _sorted(rows: Iterable[_KeyRow], params: ByKeyParameters, seen: Mapping[str, int]) -> list[_KeyRow]:
    by_name = sorted(rows, key=lambda row: (row.name, row.key))
    falling = params.sort_order == "desc"
    if params.sort_by == "name":
        return by_name[::-1] if falling else by_name
    return sorted(by_name, key=lambda row: _number(row, params.sort_by, seen), reverse=falling)


def _number(row: _KeyRow, sort_by: str, seen: Mapping[str, int]) -> int:
    if sort_by == "last_activity":
        return seen.get(row.key, 0)
    return row.tally.errors if sort_by == "error_count" else row.tally.calls


def _page(
    context: ReportContext, scope: ReportScope, params: ByKeyParameters, rows: Sequence[_KeyRow]
) -> tuple[Sequence[_KeyRow], Pagination | None]:
    if params.limit is None:
        # Reserved rows are not keys: a dimension that has reached its cap is still listed, with what is beyond it.
        keys = sum(not is_reserved("key", row.key) for row in rows)
        if keys > UNPAGED:
            raise QueryError("window_too_wide", f"There are {keys} keys: ask for pages with limit= and offset=.", "limit")
        return rows[params.offset :], None
    pages = Pages(context, scope, "by-key", params, params.limit, params.offset)
    ordered = pages.order({row.key: row for row in rows}, lambda key: _KeyRow(key, None, Tally()))
    return pages.cut(ordered), pages.pagination(len(ordered))


def _usages(context: ReportContext, scope: ReportScope, window: Window, rows: Sequence[_KeyRow]) -> list[KeyUsage]:
    batch = context.batch(scope.org)
    slots = window.slots(context.settings.layers)
    boards = {row.key: batch.key_board(slots, row.key) for row in rows if row.tally.calls}
    seen = batch.seen_of("key", [row.key for row in rows])
    batch.read()
    distributions = {
        key: _distribution(board.value.members.get("endpoint", {}), context.settings) for key, board in boards.items()
    }
    return [_usage(row, distributions.get(row.key, {}), seen.value.get(row.key)) for row in rows]


def _distribution(members: Members, settings: Settings) -> dict[str, int]:
    """Label -> calls, the busiest first."""
    calls = ((label, measures.get(CALLS, 0)) for label, measures in by_label(members, settings).items())
    return dict(sorted(calls, key=lambda row: (-row[1], row[0])))


def _usage(row: _KeyRow, distribution: dict[str, int], last_ms: int | None) -> KeyUsage:
    revoked_at = None if row.info is None else row.info.revoked_at
    return KeyUsage(
        key_id=row.key,
        name=None if row.info is None else row.info.name,
        environment=None if row.info is None else row.info.environment,
        request_count=row.tally.calls,
        endpoint_distribution=distribution,
        error_count=row.tally.errors,
        last_activity=None if last_ms is None else rfc3339(last_ms / 1000),
        revoked_at=None if revoked_at is None else rfc3339(revoked_at),
    )


def _other(everything: Sequence[_KeyRow], shown: Sequence[_KeyRow]) -> OtherKeys:
    keys = {row.key for row in shown}
    hidden = [row.tally for row in everything if row.key not in keys]
    rest = tally_sum(hidden)
    return OtherKeys(request_count=rest.calls, error_count=rest.errors, keys=len(hidden))


def _table(report: ByKey) -> Table:
    """The keys, without their endpoint distributions."""
    header = ["key_id", "name", "environment", "request_count", "error_count", "last_activity"]
    return header, (tuple(getattr(row, name) for name in header) for row in report.keys)


VIEW = View(
    name="by-key",
    path="/by-key",
    title="Every API key, used or not: calls, errors, endpoints, last activity",
    asks=ByKeyParameters,
    report=ByKey,
    build=build,
    tables={"keys": _table},
    more_codes=("window_too_wide",),
    example="""{
  "keys": [
    {
      "key_id": "key_7", "name": "Search backend", "environment": "live",
      "request_count": 1260, "endpoint_distribution": {"GET /v1/items": 1200, "POST /v1/items": 60}, "error_count": 12,
      "last_activity": "2026-11-20T13:44:58.120Z", "revoked_at": null
    }
  ],
  "total_keys": 1,
  "totals": {"request_count": 1260, "error_count": 12},
  "other": {"request_count": 0, "error_count": 0, "keys": 0},
  "pagination": null,
  "window": {
    "start": "2026-10-21T00:00:00Z", "end": "2026-11-20T13:45:20Z", "label": "30d", "timezone": "UTC", "resolution": "1d"
  },
  "org_id": "acme", "dropped_calls": 0, "complete_through": "2026-11-20T13:45:15Z", "generated_at": "2026-11-20T13:45:20Z"
}""",
)
