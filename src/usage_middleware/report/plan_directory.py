"""`usage.plans`: which plan an organisation has, and had. Plans are declared in code, and assigned in Redis."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from typing import Any, NamedTuple

from usage_middleware.errors import ConfigurationError, UsageUnavailable
from usage_middleware.gil import elsewhere
from usage_middleware.options import DEFAULT_ORG, Settings
from usage_middleware.periods import rfc3339
from usage_middleware.plans.assignment import Assigned, Change, History
from usage_middleware.plans.billing import Period
from usage_middleware.plans.declared import DeclaredPlans
from usage_middleware.plans.plan import Plan
from usage_middleware.plans.reach import LATE_DAYS, check_reach, check_running
from usage_middleware.plans.records import decode, encode, lasting, with_change
from usage_middleware.plans.statement_record import FinalHead
from usage_middleware.report.assigning import check_arguments, check_plan, instant, next_assigned
from usage_middleware.store.agenda import Agenda
from usage_middleware.store.alert_outbox import AlertOutbox
from usage_middleware.store.engine import Engine
from usage_middleware.store.members import OPERATOR, OTHER, key_member, org_member, org_name_of
from usage_middleware.store.meta import packed_since
from usage_middleware.store.plan_records import ORG, PlanRecords, key_field
from usage_middleware.store.schema import Schema
from usage_middleware.store.statements import Statements
from usage_middleware.store.ttl_cache import TTLCache

#: How long a process keeps what was assigned, and what `plan_of` returned, seconds; and of how many organisations.
ASSIGNED_SECONDS, PLAN_OF_SECONDS = 5.0, 60.0
MOST_KEPT = 10_000
#: How long a process keeps what was used in a period, seconds; and how many of them.
USED_SECONDS, MOST_USED = 5.0, 1_000
#: How long a process remembers what closed slots held, while they are unchanged, seconds: of so many half-hours the minutes,
#: and of so many organisations the calls of each key.
CLOSED_SECONDS, MOST_HALF_HOURS, MOST_BOARDS = 3600.0, 2_000, 32
#: Of so many periods it remembers what each key used in closed slots; and so many heads of final statements.
MOST_CLOSED_KEYS, MOST_FINALS = 32, 2_000
#: Nobody pays for the calls of nobody.
_NOBODY = (DEFAULT_ORG, OPERATOR, OTHER)


class CustomerPlans(NamedTuple):
    """The plans of one customer over time.

    Attributes:
        declared: the plans that there are.
        history: the organisation's.
        keys: those of the API keys that have a plan of their own, by member.
    """

    declared: DeclaredPlans
    history: History
    keys: Mapping[str, History] = {}

    def assigned(self, at: float) -> Assigned | None:
        """What the organisation was assigned at an instant."""
        return self.history.at(at)

    def plan(self, at: float, key: str | None = None) -> Plan | None:
        """The plan in force at an instant, with its overrides: the organisation's, or the one that holds for a key."""
        history = self.keys.get(key) if key is not None else None
        own = None if history is None else history.at(at)
        return self.declared.plan(self.history.at(at) if own is None else own)

    @property
    def version(self) -> object:
        """Changes whenever the plans do."""
        return self.history.changes, {key: history.changes for key, history in self.keys.items()}


class PlanDirectory:
    """Which plan an organisation has, and had.

    Attributes:
        declared: the plans that there are.
        used: what was read lately of billing periods; kept for some seconds.
        minutes: what was used in closed half-hours, minute by minute, with their marks.
        boards: the calls of each key in closed days, with their marks.
        closed_keys: what each key used in the closed slots of a period, with their mark.
        statements: the final statements.
        finals: the heads of those that were read.
        alerts: the thresholds that were reached.
        period_ends: when to look at organisations whose periods end, or whose plans change.
    """

    def __init__(self, engine: Engine, schema: Schema, declared: DeclaredPlans, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._schema = schema
        self._settings: Settings = schema.settings
        self._records = PlanRecords(engine, schema)
        self._clock = clock
        self.declared = declared
        self.alerts = AlertOutbox(engine, schema)
        self.period_ends = Agenda(engine, schema.period_ends)
        self.statements = Statements(lambda: engine.read_client, schema)
        seconds = ASSIGNED_SECONDS if declared.plan_of is None else PLAN_OF_SECONDS
        self.used: TTLCache[Any, Any] = TTLCache(clock, seconds=USED_SECONDS, size=MOST_USED)
        self.minutes: TTLCache[Any, Any] = TTLCache(clock, seconds=CLOSED_SECONDS, size=MOST_HALF_HOURS)
        self.closed_keys: TTLCache[Any, Any] = TTLCache(clock, seconds=CLOSED_SECONDS, size=MOST_CLOSED_KEYS)
        self.finals: TTLCache[tuple[str, int], FinalHead] = TTLCache(clock, seconds=CLOSED_SECONDS, size=MOST_FINALS)
        self.boards: TTLCache[Any, Any] = TTLCache(clock, seconds=CLOSED_SECONDS, size=MOST_BOARDS)
        self._kept: TTLCache[str, CustomerPlans] = TTLCache(clock, seconds=seconds, size=MOST_KEPT)

    def assign(
        self,
        org: str,
        plan: str | None,
        *,
        anchor: date | None = None,
        timezone: str | None = None,
        from_: datetime | date | None = None,
        overrides: Mapping[str, int] | None = None,
        key: str | None = None,
        now: bool = False,
    ) -> Assigned:
        """Give an organisation a plan. Its earlier plans are remembered, so that past periods keep theirs.

        Limits and quotas change at once. Prices, `anchor` and `timezone` change when the next billing period begins; with
        `now` the running one ends, at the begin of the half-hour. A first plan, where there is no default plan, holds from the
        begin of the running period.

        Args:
            plan: the name of a declared plan; None: none, not even the default one.
            anchor: the local day on which billing periods begin; None: as it was, at first the first of the month.
            timezone: the IANA zone of the customer's days; None: as it was, at first UTC.
            from_: since when; None: now. A date begins in `timezone`. An aware datetime.
            overrides: other amounts of the plan's limits and quotas, by name.
            key: an API key; then the plan's limits and quotas of keys hold for it, in place of those of the organisation's
                plan. Periods stay the organisation's.
            now: whether the running billing period ends.

        Raises:
            ConfigurationError: naming the argument and what is allowed; a period is not kept for long enough, saying what to
                set; or `plan_of` says which plan who has.
            UsageUnavailable: Redis does not answer.
        """
        check_arguments(self.declared, org, key, anchor, timezone, now)
        with self._engine.guard():
            before = self._read(org_member(org))
            assigned = next_assigned(before.history, plan, anchor, timezone, overrides or {})
            assigned.check(self.declared.by_name)
            since = self._clock() if from_ is None else instant(from_, assigned)
            is_first = from_ is None and key is None and not before.history.changes
            change = Change(self._begin(since, assigned, now=now, is_first=is_first), assigned, now)
            check_plan(self.declared, assigned, key, self._settings)
            if key is None:
                after = History(with_change(before.history.changes, change, since))
                self._check_final(org_member(org), before.history, after, change.at)
                self._check_running(assigned.plan, after, change.at)
            field = ORG if key is None else key_field(key_member(key))
            oldest = self._clock() - self._longest_kept
            first = self._default() if key is None else []
            self._records.change(
                org_member(org),
                field,
                lambda old: encode(lasting(with_change(_changes(old) or first, change, since), oldest)),
            )
            # Other processes know by then: a lower quota may be reached though nobody calls.
            self.period_ends.enter(org_member(org), int((self._clock() + ASSIGNED_SECONDS) * 1000))
        self._kept.clear()
        return assigned

    def get(self, org: str, key: str | None = None) -> Assigned | None:
        """What an organisation, or one API key of it, has now; None where there is no plan of its own and no default one."""
        found = self.of(org_member(org))
        history = found.history if key is None else found.keys.get(key_member(key))
        return None if history is None else history.at(self._clock())

    def history(self, org: str) -> list[Change]:
        """What an organisation was assigned, the earliest first."""
        return list(self.of(org_member(org)).history.changes)

    def name(self, org: str) -> str | None:
        """The name of the plan that an organisation, given as a member, has now."""
        assigned = self.of(org).assigned(self._clock())
        return None if assigned is None else assigned.plan

    def orgs(self, orgs: Sequence[str]) -> set[str]:
        """Those of the organisations, as members, to which a plan was ever assigned; none where no plan is declared."""
        return self._records.orgs(orgs) if self.declared.is_on else set()

    def of(self, org: str) -> CustomerPlans:
        """The plans of an organisation, given as a member; kept for some seconds.

        Raises:
            UsageUnavailable: Redis does not answer, or `plan_of` failed.
        """
        known = self._kept.known([org]).get(org)
        if known is not None:
            return known
        asked_at = self._kept.generation
        with self._engine.guard():
            found = self._read(org)
        self._kept.keep({org: found}, asked_at)
        return found

    def _read(self, org: str) -> CustomerPlans:
        declared = self.declared
        if not declared.is_on or org in _NOBODY:
            return CustomerPlans(declared, History(()))
        if declared.plan_of is not None:
            return CustomerPlans(declared, History(self._asked(org), declared.default))
        histories: dict[str, History] = {}
        for field, text in self._records.read(org).items():
            changes = _changes(text)
            if changes is None:
                self._records.damaged(org, field)
            else:
                histories[field] = History(changes, declared.default if field == ORG else None)
        own = histories.pop(ORG, None) or History((), declared.default)
        return CustomerPlans(declared, own, {field.partition(" ")[2]: one for field, one in histories.items()})

    def _asked(self, org: str) -> list[Change]:
        assert self.declared.plan_of is not None
        try:
            with elsewhere():
                found: object = self.declared.plan_of(org_name_of(org))
            if found is None:
                return []
            if not isinstance(found, Assigned):
                raise TypeError(f"it must return Assigned(plan=...) or None, not {found!r:.100}")
            found.check(self.declared.by_name)
            if found.plan is not None:
                check_reach(self.declared.by_name[found.plan], found, self._settings)
        except Exception as error:
            raise UsageUnavailable(f"plan_of failed for an organisation: {error}") from error
        return [Change(-math.inf if found.from_ is None else found.from_, replace(found, from_=None))]

    def _begin(self, since: float, assigned: Assigned, *, now: bool, is_first: bool) -> int:
        """When a change begins that holds `since` then."""
        if now:
            # Calls are told apart by half-hours for as long as they have to be.
            return self._settings.layers.middle.floor(math.floor(since))
        return assigned.calendar.period(math.floor(since)).start if is_first else math.floor(since)

    def _check_final(self, org: str, before: History, after: History, at: float) -> None:
        """A final statement never moves, and so its period doesn't."""
        running = before.period(int(self._clock()))
        moved = [one for one in _since(before, running, max(0, at)) if after.period(one.start) != one]
        finals = self.statements.kept(org, [period.start for period in moved]) if moved else []
        for period, is_final in zip(moved, finals, strict=True):
            if is_final:
                raise ConfigurationError(
                    f"from_ would move the billing period that began {rfc3339(period.start)}, whose statement is final: "
                    "anchor, timezone and now can change from a later time on"
                )

    def _check_running(self, plan: str | None, after: History, at: float) -> None:
        """What the running periods began with may be from before history began."""
        if plan is None or not self._settings.history:
            return
        meta, now = self._schema.meta, int(max(self._clock(), at))
        since = packed_since(self._engine.client, self._schema, partial(self._engine.damage.note, meta))
        begin = since if since == math.inf else self._settings.layers.day.ceil(int(since))
        timezone, declared = after.timezone(now), self.declared.by_name[plan]
        check_running(declared, timezone, lambda per: after.period(now, per), self._settings, begin)

    def _default(self) -> list[Change]:
        """What a customer had before the first assignment, if it was paid for: its billing periods stay as they were."""
        plan = self.declared.by_name.get(self.declared.default or "")
        return [Change(0, Assigned(plan=plan.name))] if plan is not None and plan.prices else []

    @property
    def _longest_kept(self) -> int:
        return max(kept["day"] for kept in self._settings.retention.values()) + (366 + LATE_DAYS) * 86_400


def _changes(text: str) -> list[Change] | None:
    return decode(text) if text else []


def _since(history: History, running: Period, at: float) -> list[Period]:
    """The billing periods before the running one that end after an instant, the latest first."""
    found: list[Period] = []
    period = running
    while period.start > at:
        period = history.period(period.start - 1)
        found.append(period)
    return found
