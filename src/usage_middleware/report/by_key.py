"""The by-key view: every API key, used or not (`by-key-edgedns.txt`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.periods import rfc3339
from usage_middleware.report.labels import distribution
from usage_middleware.report.metrics import Tally, board_tally, series_tally
from usage_middleware.report.paging import Keep, Pagination, Paging, forget, page, unpaged
from usage_middleware.report.parameters import ByKeyParameters
from usage_middleware.report.scoped_reader import Members, ScopedReader, Series, complete_through, dropped_calls
from usage_middleware.report.viewer import ReportScope, Viewer, missing_org, report_scope
from usage_middleware.report.window import CAP, Asked, Window, WindowReport, resolve
from usage_middleware.store.keys import Directory, KeyInfo
from usage_middleware.store.read_batch import Deferred
from usage_middleware.store.reader import Reader
from usage_middleware.store.schema import CALLS, OPERATOR, is_reserved, key_member

#: How many keys are listed where nobody asked for a page.
UNPAGED = 10_000
#: What is read of every key, used or not: no more than is shown or sorted by.
MEASURES = (CALLS, "4xx", "5xx")


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


class _Row(NamedTuple):
    key: str
    info: KeyInfo | None
    tally: Tally


def build(reader: Reader, viewer: Viewer, params: ByKeyParameters, now: int, keep: Keep = forget) -> ByKey:
    """Answer a by-key question. `keep` holds the order of the keys while they are paged through.

    Raises:
        QueryError: what can't be answered, and why.
        UsageUnavailable: Redis does not answer.
    """
    scope = report_scope(viewer, params.org)
    if scope.org == OPERATOR:
        raise missing_org()
    asked = Asked(params.period, params.start, params.end)
    window = resolve(asked, now, reader.settings, ("key_board", "key", "board", "series"), CAP)
    series, used = _read(reader, scope, window)
    known = _known(reader.directory, scope)
    seen = _seen(reader, scope, used, known, now) if params.sort_by == "last_activity" else {}
    everything = [_Row(key, known.get(key), used.get(key, Tally())) for key in {**used, **known}]
    rows = _sorted((row for row in everything if _is_listed(row, params)), params, seen)
    listed, count = _listed(rows, scope, params, keep)
    total = series_tally(series.values())
    return ByKey(
        keys=_usages(reader, scope, window, listed),
        total_keys=sum(1 for info in known.values() if info.revoked_at is None),
        totals=KeyTotals(request_count=total.calls, error_count=total.errors),
        other=_other(everything, listed),
        pagination=None if params.limit is None else page(count, params.limit, params.offset),
        org_id=scope.shown_org,
        window=window.report(),
        dropped_calls=dropped_calls(scope, series),
        complete_through=complete_through(reader, now),
        generated_at=rfc3339(now),
    )


def _read(reader: Reader, scope: ReportScope, window: Window) -> tuple[Series, dict[str, Tally]]:
    source = ScopedReader(reader, scope, window.slots(reader.settings.layers), window.now)
    series = source.series()
    members: Deferred[Members] | None = source.members("key", MEASURES) if scope.key is None else None
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


def _seen(reader: Reader, scope: ReportScope, used: Iterable[str], known: Iterable[str], now: int) -> dict[str, int]:
    sheet = reader.sheet(scope.org, now)
    seen = sheet.seen_of("key", sorted({*used, *known}))
    sheet.read()
    return seen.value


def _is_listed(row: _Row, params: ByKeyParameters) -> bool:
    if row.info is None:
        return params.environment is None
    if row.info.revoked_at is not None and not params.include_revoked:
        return False
    return params.environment in (None, row.info.environment)


def _sorted(rows: Iterable[_Row], params: ByKeyParameters, seen: Mapping[str, int]) -> list[_Row]:
    by_name = sorted(rows, key=lambda row: (_name(row), row.key))
    falling = params.sort_order == "desc"
    if params.sort_by == "name":
        return by_name[::-1] if falling else by_name
    return sorted(by_name, key=lambda row: _number(row, params.sort_by, seen), reverse=falling)


def _number(row: _Row, sort_by: str, seen: Mapping[str, int]) -> int:
    if sort_by == "last_activity":
        return seen.get(row.key, 0)
    return row.tally.errors if sort_by == "error_count" else row.tally.calls


def _name(row: _Row) -> str:
    return row.key if row.info is None else row.info.name


def _listed(rows: Sequence[_Row], scope: ReportScope, params: ByKeyParameters, keep: Keep) -> tuple[Sequence[_Row], int]:
    """The rows of the page, and how many there are in all."""
    if params.limit is None:
        # Reserved rows are no keys: a dimension that has reached its cap is still listed, with what is beyond it.
        keys = sum(not is_reserved("key", row.key) for row in rows)
        if keys > UNPAGED:
            raise QueryError("window_too_wide", f"There are {keys} keys: ask for pages with limit= and offset=.", "limit")
        return rows[params.offset :], len(rows)
    paging = Paging(scope.org, unpaged("by-key", scope[:2], params), params.limit, params.offset, keep)
    ordered = paging.order(rows, lambda row: row.key, lambda key: _Row(key, None, Tally()))
    return paging.cut(ordered), len(ordered)


def _usages(reader: Reader, scope: ReportScope, window: Window, rows: Sequence[_Row]) -> list[KeyUsage]:
    sheet = reader.sheet(scope.org, window.now)
    slots = window.slots(reader.settings.layers)
    boards = {row.key: sheet.key_board(slots, row.key) for row in rows if row.tally.calls}
    seen = sheet.seen_of("key", [row.key for row in rows])
    sheet.read()
    distributions = {
        key: distribution(board.value.members.get("endpoint", {}), reader.settings) for key, board in boards.items()
    }
    return [_usage(row, distributions.get(row.key, {}), seen.value.get(row.key)) for row in rows]


def _usage(row: _Row, distribution: dict[str, int], last_ms: int | None) -> KeyUsage:
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


def _other(everything: Sequence[_Row], listed: Sequence[_Row]) -> OtherKeys:
    shown = {row.key for row in listed}
    hidden = [row for row in everything if row.key not in shown]
    rest = Tally()
    for row in hidden:
        rest.add(row.tally)
    return OtherKeys(request_count=rest.calls, error_count=rest.errors, keys=len(hidden))


def wire(report: ByKey) -> dict[str, Any]:
    """The report as it goes over the wire."""
    return msgspec.structs.asdict(report)


def table(report: ByKey) -> tuple[list[str], Iterable[Sequence[object]]]:
    """The main table, for CSV: the keys, endpoint distributions left out."""
    header = ["key_id", "name", "environment", "request_count", "error_count", "last_activity"]
    rows = (
        (row.key_id, row.name, row.environment, row.request_count, row.error_count, row.last_activity) for row in report.keys
    )
    return header, rows
