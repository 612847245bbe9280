"""What operators are told of each organisation beside its calls: when it was last used, and whether a quota is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from usage_middleware.periods import rfc3339
from usage_middleware.report.context import ReportContext
from usage_middleware.report.over_quota import is_over_quota
from usage_middleware.store.members import OPERATOR

#: Quotas are read one organisation after the other: of more than a page of them it isn't told.
MOST_JUDGED = 50


class OrgFacts(NamedTuple):
    """Fields of a row of by-group with `group=org`."""

    last_activity: str | None
    over_quota: bool | None


def org_facts(context: ReportContext, orgs: Sequence[str]) -> dict[str, OrgFacts]:
    """What there is to tell of these organisations (members)."""
    batch = context.batch(OPERATOR)
    seen = batch.seen_of("org", orgs)
    batch.read()
    is_judged = context.plans.declared.is_on and len(orgs) <= MOST_JUDGED
    return {
        org: OrgFacts(
            last_activity=None if org not in seen.value else rfc3339(seen.value[org] / 1000),
            over_quota=is_over_quota(context, org) if is_judged else None,
        )
        for org in orgs
    }
