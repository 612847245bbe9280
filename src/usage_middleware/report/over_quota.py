"""Whether a customer is over quota, as other views say it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from usage_middleware.report.context import ReportContext, ReportScope, report_scope
from usage_middleware.report.limit_rows import LimitRow, Meters, Projected
from usage_middleware.report.parameters import AskedOf
from usage_middleware.store.members import OPERATOR


class QuotaUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A quota in its running period: the one of calls, else the one that most was used of.

    Attributes:
        included: how much may be used.
        remaining: never below 0.
        used_ratio: `used` a `included`; None where nothing is included.
        period_start: RFC 3339.
        period_end: RFC 3339.
        projected: how much it will be at the end; None before the first whole day, and of a quota a day.
    """

    name: str
    included: int
    used: int
    remaining: int
    used_ratio: float | None
    period_start: str
    period_end: str
    projected: Projected | None


class QuotaState(NamedTuple):
    """Whether any quota is over, and the one that is shown."""

    over_quota: bool = False
    quota: QuotaUsage | None = None


def quota_state(context: ReportContext, scope: ReportScope) -> QuotaState:
    """How the organisation stands now, whatever window is asked for; for a key viewer, how its key does."""
    if not context.plans.declared.is_on or scope.org == OPERATOR:
        return QuotaState()
    meters, key = Meters(context, scope.org), context.viewer.key_id
    rows = [row for _, row in meters.quotas(meters.of_org() if key is None else meters.of_key(key))]
    if not rows:
        return QuotaState()
    shown = max(rows, key=lambda row: (row.unit == "calls", float("inf") if row.used_ratio is None else row.used_ratio))
    return QuotaState(any(row.over for row in rows), _usage(shown))


def is_over_quota(context: ReportContext, org: str) -> bool:
    """Whether any quota of a whole organisation (a member) is over in its running period."""
    meters = Meters(context, org)
    return any(row.over for _, row in meters.quotas(meters.of_org()))


def _usage(row: LimitRow) -> QuotaUsage:
    return QuotaUsage(
        name=row.name,
        included=row.limit,
        used=row.used,
        remaining=row.remaining,
        used_ratio=row.used_ratio,
        period_start=row.period_start,
        period_end=row.period_end,
        projected=row.projected,
    )


def plans_version(context: ReportContext, params: AskedOf) -> object:
    """What an answer about plans depends on beside counters: which plan the organisation has."""
    if not context.plans.declared.is_on:
        return None
    return context.plans.of(report_scope(context.viewer, params.org).org).version
