"""The limits view: what a customer may use, what was used of it, and what is left."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from usage_middleware.periods import rfc3339
from usage_middleware.report.closest_keys import ClosestKeys
from usage_middleware.report.context import NO_KEY, ReportContext, ReportScope, missing_org, report_scope
from usage_middleware.report.limit_rows import LimitRow, Meters, Projected
from usage_middleware.report.parameters import AskedOf, KeyId
from usage_middleware.report.view import Table, View
from usage_middleware.report.window import WindowEdges
from usage_middleware.store.members import OPERATOR


class LimitsParameters(AskedOf, frozen=True, kw_only=True):
    """What the limits view may be asked."""

    key_id: KeyId = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What may be used, what was used, and what is left.

    Attributes:
        plan: the plan's name; None where there is none.
        period: the running billing period; None without a plan.
        over_quota: whether a quota of the whole organisation is over; of a key viewer, one of its key.
        limits: those of the organisation, then those of the keys that come closest to theirs, 20 at most; of one key its own.
    """

    org_id: str | None
    plan: str | None
    period: WindowEdges | None
    over_quota: bool
    limits: list[LimitRow]
    complete_through: str | None
    generated_at: str


def build(context: ReportContext, params: LimitsParameters) -> Limits:
    """Answer a question about limits."""
    scope = report_scope(context.viewer, params.org, params.key_id)
    if scope.org == OPERATOR:
        raise missing_org("A plan is one organisation's: say which with org=.")
    meters = Meters(context, scope.org)
    assigned = meters.plans.assigned(context.now)
    rows = limit_rows(context, scope, meters)
    own = context.viewer.key_id is not None
    return Limits(
        org_id=scope.shown_org,
        plan=None if assigned is None else assigned.plan,
        period=_period(context, meters),
        over_quota=any(row.over for row in (rows if own else _org_rows(meters, rows)) if row.kind == "quota"),
        limits=rows,
        complete_through=context.complete_through(),
        generated_at=context.generated_at,
    )


def limit_rows(context: ReportContext, scope: ReportScope, meters: Meters | None = None) -> list[LimitRow]:
    """The limits of an organisation and of its keys that come closest to theirs; of one key, its own."""
    found = Meters(context, scope.org) if meters is None else meters
    if scope.key == NO_KEY:
        return []
    if scope.key is not None:
        return found.rows(found.of_key(scope.key))
    reads = found.reads()
    of_org, closest = found.ask(found.of_org(), reads), ClosestKeys(context, scope.org, found, reads.batch)
    reads.read()
    return [*of_org(), *closest.rows()]


def has_plan(context: ReportContext, scope: ReportScope) -> bool:
    """Whether there are limits to show: all organisations together have none."""
    if not context.plans.declared.is_on or scope.org == OPERATOR:
        return False
    return context.plans.of(scope.org).plan(context.now, scope.key) is not None


def _org_rows(meters: Meters, rows: Sequence[LimitRow]) -> list[LimitRow]:
    """The rows of the whole organisation, read if these are of one key."""
    found = [row for row in rows if row.scope == "org"]
    return found or [row for _, row in meters.quotas(meters.of_org())]


def _period(context: ReportContext, meters: Meters) -> WindowEdges | None:
    assigned = meters.plans.assigned(context.now)
    if assigned is None or assigned.plan is None:
        return None
    start, end = meters.plans.history.period(context.now)
    return WindowEdges(start=rfc3339(start), end=rfc3339(end))


def _table(report: Limits) -> Table:
    header = LimitRow.__struct_fields__
    return header, ([_cell(getattr(row, name)) for name in header] for row in report.limits)


def _cell(value: object) -> object:
    return value.value if isinstance(value, Projected) else value


VIEW = View(
    name="limits",
    path="/limits",
    title="What may be used, what was used of it, and what is left",
    asks=LimitsParameters,
    report=Limits,
    build=build,
    tables={"limits": _table},
    is_live=True,
    example="""{
  "org_id": "acme",
  "plan": "free",
  "period": {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"},
  "over_quota": false,
  "limits": [
    {
      "name": "requests", "kind": "rate", "scope": "org", "key_id": null, "unit": "calls",
      "period_start": "2026-11-20T13:45:00Z", "period_end": "2026-11-20T13:46:00Z",
      "limit": 60, "used": 12, "refused": 3, "remaining": 48, "over": false, "used_ratio": 0.2, "projected": null,
      "reset": 1795182360, "peak": 71, "peak_at": "2026-11-19T09:12:00Z", "peak_since": "2026-11-18T13:46:00Z",
      "would_refuse": 11
    },
    {
      "name": "calls", "kind": "quota", "scope": "org", "key_id": null, "unit": "calls",
      "period_start": "2026-11-01T00:00:00Z", "period_end": "2026-12-01T00:00:00Z",
      "limit": 10000, "used": 7400, "refused": null, "remaining": 2600, "over": false, "used_ratio": 0.74,
      "projected": {"value": 11230, "low": 10910, "high": 11550},
      "reset": 1796083200, "peak": null, "peak_at": null, "peak_since": null, "would_refuse": null
    }
  ],
  "complete_through": "2026-11-20T13:45:15Z",
  "generated_at": "2026-11-20T13:45:20Z"
}""",
)
