"""The corrections that were made, with their reasons, for operators."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.periods import DAY, rfc3339
from usage_middleware.report.context import ReportContext, report_scope
from usage_middleware.report.parameters import Asked
from usage_middleware.report.view import Table, View
from usage_middleware.store.members import OPERATOR

logger = logging.getLogger("usage_middleware")

#: How many corrections one answer lists.
MOST_LISTED = 10_000


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """One correction, as it was given: what it added, or took away where it is below 0.

    Attributes:
        at: when the calls finished, RFC 3339.
        made_at: when the correction was made, RFC 3339.
        tags: dimension -> member, as far as they were given.
        latency_ms: how much more durations add up to.
    """

    org: str
    id: str
    at: str
    made_at: str
    reason: str
    key_id: str
    endpoint: str
    status: int
    calls: int
    counts: dict[str, int]
    tags: dict[str, str]
    bytes: int
    latency_ms: float


class Corrections(msgspec.Struct, frozen=True, kw_only=True):
    """Corrections of calls that finished in a window.

    Attributes:
        org: whose; None: of all organisations.
        start: the first instant of the window, RFC 3339.
        end: the first instant after it, RFC 3339.
        corrections: the latest calls first.
    """

    org: str | None
    start: str
    end: str
    corrections: list[Correction]


class _Kept(msgspec.Struct):
    """A correction as it is kept."""

    org: str
    at: int
    made: int
    reason: str
    key: str
    endpoint: str
    status: int
    calls: int
    counts: dict[str, int]
    tags: dict[str, str]
    bytes: int
    latency_us: int


_decode = msgspec.json.Decoder(_Kept).decode


def build(context: ReportContext, params: Asked) -> Corrections:
    """The corrections of an organisation, or of all of them. Without `start` all that is kept, without `end` until now.

    Raises:
        QueryError: `forbidden` unless an operator asks; `missing_org` where all organisations together are not counted;
            `invalid_window`; `answer_too_large` for more than 10,000.
    """
    if not context.viewer.is_operator:
        raise QueryError("forbidden", "Only operators may look at corrections.")
    scope = report_scope(context.viewer, params.org, together=context.settings.operator_tree)
    until = context.now + 1 if params.end is None else params.end
    since = max(0, min(until, context.now) - _reach(context)) if params.start is None else params.start
    if until <= since:
        raise QueryError("invalid_window", "end must be after start", "end")
    found = context.reader.corrections(scope.org, _months(context, math.floor(since), math.ceil(until)), MOST_LISTED)
    if found is None:
        most = f"There are more than {MOST_LISTED} corrections: ask for one organisation, or a shorter window."
        raise QueryError("answer_too_large", most, "start")
    listed = [pair for pair in (_correction(scope.org, *one) for one in found.items()) if pair is not None]
    inside = [one for at, one in sorted(listed, key=lambda pair: (-pair[0], pair[1].id)) if since <= at / 1000 < until]
    return Corrections(org=scope.shown_org, start=rfc3339(since), end=rfc3339(until), corrections=inside)


def _reach(context: ReportContext) -> int:
    return max(kept["day"] for kept in context.settings.retention.values()) + 31 * DAY


def _months(context: ReportContext, since: int, until: int) -> list[str]:
    """The months of a window, as far as something is kept of them: `2026-11`."""
    at, found = min(until - 1, context.now + DAY), []
    oldest = max(since, context.now - _reach(context))
    while True:
        first = datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0)
        found.append(f"{first:%Y-%m}")
        at = int(first.timestamp()) - 1
        if at < oldest:
            return found


def _correction(tree: str, id: str, record: str) -> tuple[int, Correction] | None:
    """(when, the correction) that is kept under an id; None if what is kept is damaged."""
    try:
        kept = _decode(record.partition(" ")[2])
    except msgspec.MsgspecError:
        logger.warning("usage: the correction %r of %s is damaged in Redis, and is not listed", id, tree)
        return None
    # In the operator's tree an id has its organisation before it, as it stands in the names of keys.
    shown = id.partition(":")[2] if tree == OPERATOR else id
    return kept.at, Correction(
        org=kept.org,
        id=shown,
        at=rfc3339(kept.at / 1000),
        made_at=rfc3339(kept.made / 1000),
        reason=kept.reason,
        key_id=kept.key,
        endpoint=kept.endpoint,
        status=kept.status,
        calls=kept.calls,
        counts=kept.counts,
        tags=kept.tags,
        bytes=kept.bytes,
        latency_ms=kept.latency_us / 1000,
    )


def _table(report: Corrections) -> Table:
    columns = Correction.__struct_fields__
    return columns, ([_text(getattr(row, name)) for name in columns] for row in report.corrections)


def _text(value: object) -> object:
    return " ".join(f"{name}={amount}" for name, amount in value.items()) if isinstance(value, dict) else value


#: No view of customers: it is not among those, and answers operators alone.
VIEW = View(
    name="corrections",
    path="/corrections",
    title="Corrections, with their reasons",
    asks=Asked,
    report=Corrections,
    build=build,
    tables={"corrections": _table},
    example="""{
  "org": "acme", "start": "2024-08-12T13:45:20Z", "end": "2026-11-20T13:45:21Z",
  "corrections": [
    {
      "org": "acme", "id": "ticket-812", "at": "2026-11-19T10:00:00Z", "made_at": "2026-11-20T13:45:20Z",
      "reason": "our retry loop", "key_id": "key_8", "endpoint": "POST /v1/import", "status": 200, "calls": -15,
      "counts": {}, "tags": {"project": "crm"}, "bytes": 0, "latency_ms": 0.0
    }
  ]
}""",
)
