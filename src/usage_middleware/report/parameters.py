"""What each view may be asked: parameters after parsing, with their defaults. Times are seconds since the epoch."""

from __future__ import annotations

from datetime import date
from typing import Literal

import msgspec

SortOrder = Literal["desc", "asc"]

#: Times and dates outside of these years are refused: calendars end somewhere.
FIRST_YEAR, LAST_YEAR = 1970, 9000


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What every view may be asked.

    Attributes:
        org: for operators: the organisation; anybody else may name its own.
        start: start of a custom window, inclusive, seconds since the epoch.
        end: end of a custom window, exclusive, seconds since the epoch; now if only `start` is given.
    """

    org: str | None = None
    start: int | None = None
    end: int | None = None


class SummaryParameters(Parameters, frozen=True, kw_only=True):
    """Of `summary-enkrypt.txt`. `period` is ignored where `start` or `end` is given."""

    period: Literal["24h", "7d", "30d", "90d"] = "30d"


class ByGroupParameters(Parameters, frozen=True, kw_only=True):
    """Of `by-group-triport.txt`; `limit` is how many buckets are listed, 1 to 1000."""

    range: Literal["1h", "24h", "7d", "30d"] = "24h"
    group: str = "method"
    limit: int = 20


class ByKeyParameters(Parameters, frozen=True, kw_only=True):
    """Of `by-key-edgedns.txt`, whose document has none. Without `limit` every key is listed, up to 10,000."""

    period: Literal["24h", "7d", "30d", "90d"] = "30d"
    environment: str | None = None
    include_revoked: bool = False
    sort_by: Literal["request_count", "error_count", "last_activity", "name"] = "request_count"
    sort_order: SortOrder = "desc"
    limit: int | None = None
    offset: int = 0


class DetailsParameters(Parameters, frozen=True, kw_only=True):
    """Of `details-get-usage.txt`. `granularity` None: hour, or the finest that is kept for the whole window."""

    key_id: str | None = None
    timeframe: Literal["1h", "24h", "7d", "30d", "90d", "1y", "all"] = "24h"
    granularity: Literal["minute", "hour", "day", "week", "month"] | None = None
    include_endpoints: bool = True
    include_errors: bool = True
    include_latency: bool = True
    sort_by: Literal["requests", "errors", "latency", "timestamp"] = "requests"
    sort_order: SortOrder = "desc"
    limit: int = 100
    offset: int = 0
    timezone: str = "UTC"


class EndpointsParameters(Parameters, frozen=True, kw_only=True):
    """Of `endpoints-minerva.txt`. Both dates or neither, inclusive in the zone."""

    start_date: date | None = None
    end_date: date | None = None
    bucketing_size: Literal["hour", "day", "week", "month", "quarter", "year"] = "day"
    timezone: str = "UTC"
    include_unused_endpoints: bool = False
