"""One API key, as the by-key view shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from usage_middleware.options import Settings
from usage_middleware.periods import rfc3339
from usage_middleware.report.context import Members, ScopedReader
from usage_middleware.report.metrics import Tally, by_label
from usage_middleware.report.parts import Parts
from usage_middleware.store.keys import KeyInfo
from usage_middleware.store.schema import CALLS


class KeyUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One API key.

    Attributes:
        name: as in the key directory; None of a key that it does not know.
        environment: `live`, `test`, or whatever the directory says; None as above.
        request_count: calls in the window.
        endpoint_distribution: endpoint -> calls, the busiest first; None where that is not kept for this window.
        error_count: calls with a 4xx or 5xx status.
        last_activity: the last call ever, RFC 3339; None if there was none.
        revoked_at: when the key was revoked, RFC 3339; None of an active one.
    """

    key_id: str
    name: str | None
    environment: str | None
    request_count: int
    endpoint_distribution: dict[str, int] | None
    error_count: int
    last_activity: str | None
    revoked_at: str | None


class KeyRow(NamedTuple):
    """A key, what the directory knows of it, and what it did in the window."""

    key: str
    info: KeyInfo | None
    tally: Tally

    @property
    def name(self) -> str:
        """The name in the directory; of a key that it does not know, its id."""
        return self.key if self.info is None else self.info.name


def key_usages(source: ScopedReader, parts: Parts, rows: Sequence[KeyRow]) -> list[KeyUsage]:
    """The keys of a page, with their endpoints and their last calls."""
    batch = source.context.batch(source.scope.org)
    is_kept = parts.offers("key_board", "endpoint_distribution")
    boards = {row.key: batch.key_board(source.slots, row.key) for row in rows if is_kept and row.tally.calls}
    seen = batch.seen_of("key", [row.key for row in rows])
    batch.read()
    distributions = {
        key: _distribution(board.value.members.get("endpoint", {}), source.context.settings) for key, board in boards.items()
    }
    return [_usage(row, distributions.get(row.key, {}) if is_kept else None, seen.value.get(row.key)) for row in rows]


def _distribution(members: Members, settings: Settings) -> dict[str, int]:
    """Label -> calls, the busiest first."""
    calls = ((label, measures.get(CALLS, 0)) for label, measures in by_label(members, settings).items())
    return dict(sorted(calls, key=lambda row: (-row[1], row[0])))


def _usage(row: KeyRow, distribution: dict[str, int] | None, last_ms: int | None) -> KeyUsage:
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
