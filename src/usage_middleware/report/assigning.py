"""What an assignment of a plan may say, and what it leaves as it was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime

from usage_middleware.errors import ConfigurationError
from usage_middleware.options import DEFAULT_ORG, Settings
from usage_middleware.periods import midnight, zone
from usage_middleware.plans.assignment import FIRST_OF_MONTH, Assigned, History
from usage_middleware.plans.declared import DeclaredPlans
from usage_middleware.plans.reach import check_reach
from usage_middleware.store.members import OTHER


def check_arguments(
    declared: DeclaredPlans, org: str, key: str | None, anchor: date | None, timezone: str | None, now: bool
) -> None:
    """Refuse what `usage.plans.assign` can't do, whatever the organisation has.

    Raises:
        ConfigurationError: naming the argument and what is allowed.
    """
    if not isinstance(org, str) or org in ("", DEFAULT_ORG, OTHER):
        raise ConfigurationError(f"org must be the name of a customer: {org!r} has no plan, it is where others are counted")
    if not declared.is_on:
        raise ConfigurationError("there is no plan to assign: declare them with Usage(plans=(Plan(...),))")
    if declared.plan_of is not None:
        raise ConfigurationError("plan_of says which plan who has: change what it returns, in place of assign")
    if key is not None and not (isinstance(key, str) and key):
        raise ConfigurationError(f"key must be the id of an API key, not {key!r}")
    if key is not None and (anchor is not None or timezone is not None or now):
        raise ConfigurationError("anchor, timezone and now are of the organisation: its keys have the same periods")


def next_assigned(
    history: History, plan: str | None, anchor: date | None, timezone: str | None, overrides: Mapping[str, int]
) -> Assigned:
    """What is assigned: `anchor` and `timezone` stay as they were last, where they aren't given."""
    last = history.changes[-1].assigned if history.changes else Assigned(plan=None, anchor=FIRST_OF_MONTH)
    return Assigned(
        plan=plan,
        anchor=last.anchor if anchor is None else anchor,
        timezone=last.timezone if timezone is None else timezone,
        overrides=dict(overrides),
    )


def check_plan(declared: DeclaredPlans, assigned: Assigned, key: str | None, settings: Settings) -> None:
    """Refuse a plan that says nothing of a key, or whose periods are longer than counters are kept.

    Raises:
        ConfigurationError: saying what to set.
    """
    if assigned.plan is None:
        return
    plan = declared.by_name[assigned.plan]
    if key is not None and "key" not in {part.by for part in plan.parts}:
        raise ConfigurationError(f"plan {assigned.plan!r} has no Limit or Quota with by='key', so it says nothing of a key")
    check_reach(plan, assigned, settings)


def instant(given: datetime | date, assigned: Assigned) -> int:
    """Since when an assignment holds: a date begins in the zone of the customer, a time has a zone of its own.

    Raises:
        ConfigurationError: neither of both.
    """
    if not isinstance(given, datetime):
        if not isinstance(given, date):
            raise ConfigurationError(f"from_ must be an aware datetime or a date, not {given!r}")
        return midnight(given, zone(assigned.timezone))
    if given.tzinfo is None:
        raise ConfigurationError(f"from_={given} has no time zone: give an aware datetime, for instance in UTC")
    return math.floor(given.timestamp())
