"""Alerts that have fired: thresholds that were reached in the running periods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import msgspec

from usage_middleware.plans.plan import Quota
from usage_middleware.report.limit_rows import LimitRow

CODE = "threshold_reached"


class FiredAlert(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold that was reached, as it is kept.

    Attributes:
        used: how much was used when it was seen.
        period_end: seconds since the epoch.
        at: when it was seen, RFC 3339.
    """

    id: str
    name: str
    key_id: str | None
    percent: int
    used: int
    limit: int
    period_end: int
    at: str

    @classmethod
    def of(cls, row: LimitRow, percent: int, id: str, at: str) -> Self:
        """That of a quota."""
        return cls(
            id=id,
            name=row.name,
            key_id=row.key_id,
            percent=percent,
            used=row.used,
            limit=row.limit,
            period_end=row.reset,
            at=at,
        )


def fired_field(quota: Quota, row: LimitRow, percent: int) -> str:
    """What tells thresholds apart. A quota that was raised may fire again, and so may one that counts something else.

    The length of the period stands there, not its end: that comes sooner where another plan begins.
    """
    what = f"{quota.per} {quota.of} {quota.billable}"
    return f"{row.period_start} {row.name} {what} {percent} {row.limit} {row.key_id or ''}"


def period_start(field: str) -> str:
    """When the period began in which a threshold was reached, RFC 3339."""
    return field.partition(" ")[0]


def month_of(row: LimitRow) -> str:
    """The month under which the alerts of a quota are kept: that in which its period begins. The end may come sooner yet."""
    return row.period_start[:7]


def months_of(rows: Sequence[LimitRow]) -> list[str]:
    """The months under which the alerts of these quotas are kept."""
    return list(dict.fromkeys(month_of(row) for row in rows if row.kind == "quota"))


def decode(raw: bytes) -> FiredAlert | None:
    """An alert as it is kept; None if it is damaged."""
    try:
        return _decode(raw)
    except msgspec.MsgspecError:
        return None


_decode = msgspec.json.Decoder(FiredAlert).decode
