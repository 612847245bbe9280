"""The by-group view: the busiest values of one dimension."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.gil import LIGHT, yielding
from usage_middleware.options import Settings
from usage_middleware.report.context import (
    ReportContext,
    ReportScope,
    ScopedReader,
    dropped_calls,
    missing_org,
    report_scope,
)
from usage_middleware.report.group_rows import ENDPOINT, KEY, METHOD, ORG, STATUS, GroupRows
from usage_middleware.report.metrics import Measures, Tally, series_tally, tally_sum
from usage_middleware.report.ordering import by_number, in_order
from usage_middleware.report.org_facts import OrgFacts, org_facts
from usage_middleware.report.over_quota import QuotaUsage, plans_version, quota_state
from usage_middleware.report.paging import Pages, Pagination
from usage_middleware.report.parameters import LIMIT, MAX_OFFSET, MOST_SEARCHED, KeyId, Parameters, described, period
from usage_middleware.report.parts import Parts, Previous, Unavailable, asked_window, compared, present
from usage_middleware.report.search import Search
from usage_middleware.report.view import Table, View
from usage_middleware.report.viewer import Viewer
from usage_middleware.report.window import Window, WindowReport
from usage_middleware.store.members import OPERATOR

BUILT_IN = (ENDPOINT, METHOD, STATUS, KEY)


class ByGroupParameters(Parameters, frozen=True, kw_only=True):
    """What the by-group view may be asked."""

    range: Annotated[Literal["1h", "24h", "7d", "30d", "month_to_date", "last_month"], period("invalid_range")] = "24h"
    group: Annotated[str, described("The dimension to break down by.", "endpoint", code="invalid_group")] = METHOD
    q: Annotated[
        str | None, described("Only values with this text in them, whatever its case.", "search", maximum=MOST_SEARCHED)
    ] = None
    limit: Annotated[int, LIMIT] = 20
    offset: Annotated[int | None, described("Ask for pages, and how many rows are skipped.", "0", maximum=MAX_OFFSET)] = None
    key_id: KeyId = None


class GroupTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The whole range, whatever is listed."""

    calls: int
    errors: int
    bytes: int


class GroupBucket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One value of the dimension.

    Attributes:
        avg_ms: None of a status, for which latency is not kept.
        last_activity: of an organisation its last call ever, RFC 3339; as the next, only with `group=org`.
        over_quota: whether a quota of it is over; None without plans, and where more than 50 rows are listed.
        previous: its calls in the window before, if that was asked for; None where they are not kept of that.
    """

    bucket: str
    calls: int
    errors: int
    avg_ms: float | None
    last_activity: str | msgspec.UnsetType | None = msgspec.UNSET
    over_quota: bool | msgspec.UnsetType | None = msgspec.UNSET
    previous: int | msgspec.UnsetType | None = msgspec.UNSET


class OtherGroups(msgspec.Struct, frozen=True, kw_only=True):
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
        other: the rest, also what `q` does not find.
        pagination: None where no page was asked for.
        over_quota: whether a quota of the organisation is over in its running period, whatever the range; for a key viewer,
            one of its key. False where there is no plan.
        quota: the quota of calls, else the one that most was used of; None where there is none.
        unavailable: the fields that are None because they are not kept for this window, and why.
        previous: the window before, if it was asked for.
    """

    range: str
    group: str
    totals: GroupTotals
    buckets: list[GroupBucket] | None
    over_quota: bool
    quota: QuotaUsage | None
    other: OtherGroups | None
    pagination: Pagination | None
    org_id: str | None
    window: WindowReport
    dropped_calls: int | None
    complete_through: str | None
    final: bool
    generated_at: str
    unavailable: dict[str, Unavailable]
    previous: Previous | msgspec.UnsetType | None = msgspec.UNSET


def build(context: ReportContext, params: ByGroupParameters) -> ByGroup:
    """Answer a by-group question."""
    settings = context.settings
    scope = report_scope(context.viewer, params.org, params.key_id, together=settings.operator_tree)
    _check_group(params.group, scope, context.viewer, settings)
    window = asked_window(context, scope, params, params.range)
    parts = Parts(window, settings)
    source = ScopedReader(context, scope, window.slots(settings.layers))
    series = source.series()
    rows = GroupRows(source, window, parts).of(params.group, series)
    source.read()
    total = series_tally(series.value.values())
    asked = _Asked(context, scope, params, window, parts)
    listed = _Listed() if rows is None else asked.listed(rows.value)
    return ByGroup(
        range=window.label,
        group=params.group,
        totals=GroupTotals(calls=total.calls, errors=total.errors, bytes=total.sent),
        buckets=listed.buckets,
        **quota_state(context, scope)._asdict(),
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


def _totals(many: Iterable[Measures]) -> dict[str, int]:
    tally = series_tally(many)
    return {"calls": tally.calls, "errors": tally.errors, "bytes": tally.sent}


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


class _Listed(NamedTuple):
    """The values that are shown, and the rest."""

    buckets: list[GroupBucket] | None = None
    other: OtherGroups | None = None
    pagination: Pagination | None = None


class _Asked(NamedTuple):
    """Which values are listed, of a window."""

    context: ReportContext
    scope: ReportScope
    params: ByGroupParameters
    window: Window
    parts: Parts

    def listed(self, tallies: Mapping[str, Tally]) -> _Listed:
        """The values that were asked for."""
        has_latency, search = self.params.group != STATUS, Search.of(self.params.q)
        shown, pagination = self._page([name for name in _ranked(tallies) if search.finds(name)])
        facts = self._facts(shown)
        buckets = [_bucket(name, tallies.get(name, Tally()), has_latency, facts.get(name)) for name in shown]
        return _Listed(buckets, _other(tallies, set(shown), has_latency), pagination)

    def _page(self, found: list[str]) -> tuple[list[str], Pagination | None]:
        params = self.params
        if params.offset is None:
            return found[: params.limit], None
        pages = Pages(self.context, self.scope, "by-group", params, params.limit, params.offset)
        ordered = pages.order_names(found)
        return pages.cut(ordered), pages.pagination(len(ordered))

    def _facts(self, shown: list[str]) -> dict[str, OrgFacts]:
        if self.params.group != ORG or self.scope.org != OPERATOR:
            return {}
        return org_facts(self.context, shown, self.window, self.parts, compare=self.params.compare is not None)


def _ranked(tallies: Mapping[str, Tally]) -> list[str]:
    """By calls descending, then by name."""
    names = in_order(list(tallies))
    return by_number(names, lambda name: tallies[name].calls, falling=True)


def _bucket(name: str, tally: Tally, has_latency: bool, facts: OrgFacts | None) -> GroupBucket:
    avg_ms, more = tally.avg_ms if has_latency else None, facts._asdict() if facts else {}
    return GroupBucket(bucket=name, calls=tally.calls, errors=tally.errors, avg_ms=avg_ms, **more)


def _other(tallies: Mapping[str, Tally], shown: Collection[str], has_latency: bool) -> OtherGroups:
    rest = tally_sum(tally for name, tally in yielding(tallies.items(), LIGHT) if name not in shown)
    members = len(tallies) - sum(name in tallies for name in shown)
    return OtherGroups(calls=rest.calls, errors=rest.errors, avg_ms=rest.avg_ms if has_latency else None, members=members)


def _table(report: ByGroup) -> Table:
    buckets = present(report.buckets, "buckets", report.unavailable)
    return ["bucket", "calls", "errors", "avg_ms"], ((row.bucket, row.calls, row.errors, row.avg_ms) for row in buckets)


VIEW = View(
    name="by-group",
    path="/by-group",
    title="The busiest values of one dimension",
    asks=ByGroupParameters,
    report=ByGroup,
    build=build,
    tables={"buckets": _table},
    choices={"group": allowed_groups},
    more_codes=("window_too_wide",),
    depends_on=plans_version,
    example="""{
  "range": "24h",
  "group": "method",
  "totals": {"calls": 1260, "errors": 12, "bytes": 734003},
  "buckets": [
    {"bucket": "GET", "calls": 1200, "errors": 12, "avg_ms": 8.4},
    {"bucket": "POST", "calls": 60, "errors": 0, "avg_ms": 22.75}
  ],
  "over_quota": false,
  "quota": {
    "name": "calls", "included": 10000, "used": 7400, "remaining": 2600, "used_ratio": 0.74,
    "period_start": "2026-11-01T00:00:00Z", "period_end": "2026-12-01T00:00:00Z",
    "projected": {"value": 11230, "low": 10910, "high": 11550}
  },
  "other": {"calls": 0, "errors": 0, "avg_ms": 0.0, "members": 0},
  "pagination": null,
  "window": {
    "start": "2026-11-19T13:30:00Z", "end": "2026-11-20T13:45:20Z", "label": "24h", "timezone": "UTC", "resolution": "30m"
  },
  "org_id": "acme", "dropped_calls": 0, "complete_through": "2026-11-20T13:45:15Z", "final": false,
  "generated_at": "2026-11-20T13:45:20Z", "unavailable": {}
}""",
)
