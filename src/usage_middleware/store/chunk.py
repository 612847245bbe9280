"""What the recorder hands to the store: rows of counted calls, and the numbered chunks they travel in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec


class Row(msgspec.Struct, array_like=True, gc=False):
    """Calls that are alike: one minute, caller, endpoint, tags and status.

    Attributes:
        minute: the minute in which they finished, seconds since the epoch.
        org: the organisation, as a member (see `store.schema`); in the operator's tree still the tenant.
        key: the API key's id, as a member.
        endpoint: `METHOD /template`.
        tags: one member for each declared dimension, in the order of the settings.
        status: the HTTP status.
        calls: how many.
        latency_us: the sum of their latencies, microseconds.
        sent: response body bytes.
        last_ms: when the last of them finished, milliseconds since the epoch.
        counts: the sum of each declared counter, in the order of the settings.
        bins: latency bin -> calls.
    """

    minute: int
    org: str
    key: str
    endpoint: str
    tags: tuple[str, ...]
    status: int
    calls: int
    latency_us: int
    sent: int
    last_ms: int
    counts: Sequence[int]
    bins: dict[int, int]


class Chunk(NamedTuple):
    """Rows of one organisation under one number: applied wholly and once, however often it is sent.

    Attributes:
        org: whose tree it is written to; `*` for the operator's.
        number: 1, 2, 3, ... for each worker and organisation.
        rows: the calls. Never empty, unless `dropped` is not 0.
        dropped: calls that were finished but will never be counted.
        sealed_at: when it got its number, seconds since the epoch.
    """

    org: str
    number: int
    rows: list[Row]
    dropped: int = 0
    sealed_at: int = 0
