"""An alert as it is told: a threshold of a quota that was reached."""

from __future__ import annotations

import msgspec


class AlertPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """The period of the quota: RFC 3339."""

    start: str
    end: str


class AlertData(msgspec.Struct, frozen=True, kw_only=True):
    """What has happened.

    Attributes:
        key_id: whose quota; None of the organisation's.
        limit: the quota's name.
        limit_amount: how much is included.
        used: how much was used when it was seen.
    """

    org_id: str
    key_id: str | None
    limit: str
    threshold_percent: int
    used: int
    limit_amount: int
    period: AlertPeriod


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An alert. The same one may be told more than once, and then has the same `id`.

    Attributes:
        type: `usage.threshold_reached`.
        timestamp: when it was seen, RFC 3339.
    """

    id: str
    type: str
    timestamp: str
    data: AlertData

    def encode(self) -> bytes:
        """The body of a webhook."""
        return msgspec.json.encode({"type": self.type, "timestamp": self.timestamp, "data": self.data})
