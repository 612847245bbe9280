"""What operators are told of each organisation beside its calls: the window before, its last use, whether a quota is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from usage_middleware.periods import rfc3339
from usage_middleware.report.context import ReportContext
from usage_middleware.report.kept import Gap
from usage_middleware.report.over_quota import is_over_quota
from usage_middleware.report.parts import Parts
from usage_middleware.report.window import Window, previous
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.members import OPERATOR
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.store.replies import Measures
from usage_middleware.store.schema import CALLS

#: Quotas are read one organisation after the other: of more than a page of them it isn't told.
MOST_JUDGED = 50
#: Where an answer says why there are no calls of the window before.
PREVIOUS = "buckets.previous"


class OrgFacts(NamedTuple):
    """Fields of a row of by-group with `group=org`."""

    last_activity: str | None
    over_quota: bool | None
    previous: int | msgspec.UnsetType | None


def org_facts(
    context: ReportContext, orgs: Sequence[str], window: Window, parts: Parts, *, compare: bool
) -> dict[str, OrgFacts]:
    """What there is to tell of these organisations (members); with `compare`, also of the window before."""
    batch = context.batch(OPERATOR)
    seen = batch.seen_of("org", orgs)
    before = _before(context, batch, orgs, window, parts) if compare else None
    batch.read()
    is_judged = context.plans.declared.is_on and len(orgs) <= MOST_JUDGED
    return {
        org: OrgFacts(
            last_activity=None if org not in seen.value else rfc3339(seen.value[org] / 1000),
            over_quota=is_over_quota(context, org) if is_judged else None,
            previous=_calls(before, org) if compare else msgspec.UNSET,
        )
        for org in orgs
    }


def _before(
    context: ReportContext, batch: ReadBatch, orgs: Sequence[str], window: Window, parts: Parts
) -> Deferred[dict[str, Measures]] | None:
    """The calls of these organisations alone in the window that the totals are compared with; None where they aren't kept."""
    found = previous(window, context.settings, ("series",))
    if isinstance(found, Gap):
        parts.lack(found, PREVIOUS)
        return None
    gap = Parts(found, context.settings).gap("board")
    if gap is not None:
        parts.lack(gap, PREVIOUS)
        return None
    return batch.members(found.slots(context.settings.layers), "org", orgs, (CALLS,))


def _calls(before: Deferred[dict[str, Measures]] | None, org: str) -> int | None:
    return None if before is None else before.value.get(org, {}).get(CALLS, 0)
