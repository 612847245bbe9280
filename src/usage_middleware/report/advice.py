"""Alerts and recommendations of the details view, each with the numbers that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import msgspec

from usage_middleware.periods import rfc3339
from usage_middleware.plans.flags import KeyFlag, Severity
from usage_middleware.plans.plan import Per
from usage_middleware.report.context import NO_KEY, ReportContext, ReportScope, Series
from usage_middleware.report.fired import CODE, FiredAlert, decode, months_of, period_start
from usage_middleware.report.key_findings import key_flags
from usage_middleware.report.key_rows import KeyRow
from usage_middleware.report.limit_rows import LimitRow
from usage_middleware.report.limits import has_plan, limit_rows
from usage_middleware.report.metrics import Tally, by_status, series_tally

RecommendationCode = Literal["near_quota", "raise_limit", "revoke_dormant", "rotate_spiking", "high_404_rate"]
#: A quota is near when so much of it is used; and calls answered 404 are many from this rate, and so many calls, on.
NEAR, RATE_404, CALLS_404 = 0.8, 0.1, 100


class Advised(msgspec.Struct, frozen=True, kw_only=True):
    """What alerts and recommendations have in common.

    Attributes:
        value: what was found.
        limit: what is allowed, of a threshold.
        baseline: what it was compared with: of a threshold its percent, of a quota that is near what was used so far, else what
            is usual.
        since: when it was seen, RFC 3339, or the day.
        message: a sentence for a person.
    """

    id: str
    code: str
    severity: Severity
    key_id: str | None
    value: float
    limit: float | None
    baseline: float | None
    since: str
    message: str


class Alert(Advised, frozen=True, kw_only=True):
    """Something that has happened: `code` is `threshold_reached`, or a flag of the key, as in by-key."""


class Recommendation(Advised, frozen=True, kw_only=True):
    """Something to do about it."""

    code: RecommendationCode


class Advice(NamedTuple):
    """The fields of the details view that are about plans."""

    rate_limits: list[LimitRow] | None = None
    alerts: Sequence[Alert] = ()
    recommendations: Sequence[Recommendation] = ()


def advice(context: ReportContext, scope: ReportScope, series: Series, start: int) -> Advice:
    """What there is to say of an organisation, or of one key, with a plan, and of the calls of a window since its `start`."""
    if not has_plan(context, scope):
        return Advice()
    rows = limit_rows(context, scope)
    flags = _flags(context, scope)
    alerts = [*_fired(context, scope, rows), *(_flagged(scope.key or "", flag) for flag in flags)]
    recommended = [*_about_limits(rows), *_about_key(scope.key or "", flags), *_about_404(scope, series, rfc3339(start))]
    return Advice(rows, alerts, recommended)


def _flags(context: ReportContext, scope: ReportScope) -> list[KeyFlag]:
    """What is odd about the key; of an organisation, by-key tells it of all keys."""
    if scope.key is None or scope.key == NO_KEY:
        return []
    info = context.directory.get(scope.org_name, scope.key_name)
    return key_flags(context, scope, [KeyRow(scope.key, info, Tally())])[scope.key].flags


def _fired(context: ReportContext, scope: ReportScope, rows: Sequence[LimitRow]) -> Iterator[Alert]:
    """Thresholds that were reached in periods that still run, the latest first."""
    history = context.plans.of(scope.org).history
    running = {rfc3339(history.period(context.now, per).start) for per in get_args(Per)}
    found = context.plans.alerts.fired(scope.org, months_of(rows))
    read = [decode(raw) for field, raw in found.items() if period_start(field) in running]
    alerts = [alert for alert in read if alert is not None and alert.period_end > context.now]
    wanted = [alert for alert in alerts if scope.key is None or alert.key_id == scope.key]
    for alert in sorted(wanted, key=lambda one: (one.at, one.percent), reverse=True):
        yield _threshold(alert)


def _threshold(alert: FiredAlert) -> Alert:
    severity: Severity = "critical" if alert.percent >= 100 else "warning"
    return Alert(
        id=alert.id,
        code=CODE,
        severity=severity,
        key_id=alert.key_id,
        value=alert.used,
        limit=alert.limit,
        baseline=alert.percent,
        since=alert.at,
        message=f"{alert.name}: {alert.used:,} of {alert.limit:,} were used, {alert.percent} % or more.",
    )


def _flagged(key: str, flag: KeyFlag) -> Alert:
    return Alert(
        id=f"{flag.code}:{key}:{flag.since}",
        code=flag.code,
        severity=flag.severity,
        key_id=key,
        value=flag.value,
        limit=None,
        baseline=flag.baseline,
        since=flag.since,
        message=flag.message,
    )


def _about_limits(rows: Sequence[LimitRow]) -> Iterator[Recommendation]:
    for row in rows:
        if row.kind == "rate" and row.would_refuse:
            beyond = f"{row.would_refuse:,} {row.unit} were beyond {row.limit:,} a minute since {row.peak_since}."
            yield _about(row, "raise_limit", "info", row.would_refuse, row.peak_since or row.period_start, beyond)
        if row.kind == "quota" and row.over:
            over = f"{row.name}: {row.used:,} of {row.limit:,} were used. A higher quota would hold them."
            yield _about(row, "raise_limit", "warning", row.used, row.period_start, over)
        elif row.kind == "quota" and (used := _near(row)) is not None:
            near = f"{row.name}: {row.used:,} of {row.limit:,} were used; by {row.period_end} it may be {used:,}."
            yield _about(row, "near_quota", "warning", used, row.period_start, near, row.used)


def _near(row: LimitRow) -> int | None:
    """What a quota that is not over is near to: its projection, or what was used; None if it is not near."""
    expected = row.used if row.projected is None else row.projected.value
    return expected if row.limit and (expected > row.limit or row.used >= NEAR * row.limit) else None


def _about(
    row: LimitRow,
    code: RecommendationCode,
    severity: Severity,
    value: int,
    since: str,
    message: str,
    baseline: int | None = None,
) -> Recommendation:
    return Recommendation(
        id=f"{code}:{row.name}:{row.key_id or ''}:{row.period_start if row.kind == 'quota' else ''}",
        code=code,
        severity=severity,
        key_id=row.key_id,
        value=value,
        limit=row.limit,
        baseline=baseline,
        since=since,
        message=message,
    )


def _about_key(key: str, flags: Sequence[KeyFlag]) -> Iterator[Recommendation]:
    advised: dict[str, tuple[RecommendationCode, str]] = {
        "dormant": ("revoke_dormant", "Revoke the key if nobody needs it."),
        "spike": ("rotate_spiking", "If nobody knows why, replace its secret."),
    }
    for flag in flags:
        if flag.code in advised:
            code, what = advised[flag.code]
            yield Recommendation(
                id=f"{code}:{key}:{flag.since}",
                code=code,
                severity=flag.severity,
                key_id=key,
                value=flag.value,
                limit=None,
                baseline=flag.baseline,
                since=flag.since,
                message=f"{flag.message} {what}",
            )


def _about_404(scope: ReportScope, series: Series, since: str) -> Iterator[Recommendation]:
    total, not_found = series_tally(series.values()), by_status(series.values()).get(404, 0)
    if total.calls >= CALLS_404 and not_found >= RATE_404 * total.calls:
        rate = not_found / total.calls
        yield Recommendation(
            id=f"high_404_rate:{scope.key or ''}",
            code="high_404_rate",
            severity="info",
            key_id=scope.key,
            value=rate,
            limit=None,
            baseline=RATE_404,
            since=since,
            message=f"{rate:.1%} of the calls were answered 404: look at what they ask for.",
        )
