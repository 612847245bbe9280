"""One API key, as the by-key view shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from usage_middleware.periods import rfc3339
from usage_middleware.plans.flags import KeyFlag
from usage_middleware.report.context import ScopedReader
from usage_middleware.report.distributions import distributions
from usage_middleware.report.key_costs import KeyCost, KeyCosts
from usage_middleware.report.key_findings import Findings
from usage_middleware.report.metrics import Tally
from usage_middleware.report.parts import Parts
from usage_middleware.store.keys import KeyInfo


class KeyUsage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One API key.

    Attributes:
        name: as in the key directory; None of a key that it does not know.
        environment: `live`, `test`, or whatever the directory says; None as above.
        request_count: calls in the window.
        endpoint_distribution: endpoint -> calls, the busiest first, the rest as `(other)`; None where that is not kept for
            this window.
        error_count: calls with a 4xx or 5xx status.
        last_activity: the last call ever, RFC 3339; None if there was none.
        revoked_at: when the key was revoked, RFC 3339; None of an active one.
        created_at: when the key was made, RFC 3339; None of a key that the directory does not know.
        owner: who answers for the key.
        cost: what it costs, where the window is exactly one billing period with prices; else None.
        share: which part of the whole cost that is; None for a key viewer.
        flags: what is odd about it, the most urgent first; only if it was asked for, as the next two.
        first_activity: when it was made, else the first day with a call; None where neither is known.
        previous_activity: the last day with a call before today, UTC.
    """

    key_id: str
    name: str | None
    environment: str | None
    request_count: int
    endpoint_distribution: dict[str, int] | None
    error_count: int
    last_activity: str | None
    revoked_at: str | None
    created_at: str | None
    owner: str | None
    labels: dict[str, str]
    cost: KeyCost | None
    share: float | None
    flags: list[KeyFlag] | msgspec.UnsetType = msgspec.UNSET
    first_activity: str | msgspec.UnsetType | None = msgspec.UNSET
    previous_activity: str | msgspec.UnsetType | None = msgspec.UNSET


class OtherKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that are not listed (another page, another environment, revoked, not found by `q`), together."""

    request_count: int
    error_count: int
    keys: int


class KeyRow(msgspec.Struct, frozen=True, gc=False):
    """A key, what the directory knows of it, and what it did in the window."""

    key: str
    info: KeyInfo | None
    tally: Tally


class More(NamedTuple):
    """What is told of keys beside their calls; of flags nothing unless they were asked for."""

    costs: KeyCosts = KeyCosts()
    findings: Mapping[str, Findings] | None = None

    def fields(self, row: KeyRow) -> dict[str, Any]:
        """The fields of a key."""
        found: dict[str, Any] = {"cost": self.costs.of(row.key), "share": self.costs.share(row.key)}
        if self.findings is not None:
            found |= self.findings[row.key]._asdict()
        return found


def key_usages(source: ScopedReader, parts: Parts, rows: Sequence[KeyRow], endpoints: int | None, more: More) -> list[KeyUsage]:
    """The keys of a page, with their last calls, and so many of their endpoints; None: as many as the answer can hold."""
    batch = source.context.batch(source.scope.org)
    seen = batch.seen_of("key", [row.key for row in rows])
    batch.read()
    is_kept = parts.offers("key_board", "endpoint_distribution")
    calls = {row.key: row.tally.calls for row in rows if is_kept and row.tally.calls}
    found = distributions(source, calls, endpoints)
    return [_usage(row, found.get(row.key, {}) if is_kept else None, seen.value.get(row.key), more) for row in rows]


def _usage(row: KeyRow, distribution: dict[str, int] | None, last_ms: int | None, more: More) -> KeyUsage:
    revoked_at = None if row.info is None else row.info.revoked_at
    created_at = None if row.info is None else row.info.created_at
    return KeyUsage(
        key_id=row.key,
        name=None if row.info is None else row.info.name,
        environment=None if row.info is None else row.info.environment,
        request_count=row.tally.calls,
        endpoint_distribution=distribution,
        error_count=row.tally.errors,
        last_activity=None if last_ms is None else rfc3339(last_ms / 1000),
        revoked_at=None if revoked_at is None else rfc3339(revoked_at),
        created_at=None if created_at is None else rfc3339(created_at),
        owner=None if row.info is None else row.info.owner,
        labels={} if row.info is None else dict(row.info.labels),
        **more.fields(row),
    )
