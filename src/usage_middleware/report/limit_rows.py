"""A plan's limits and quotas beside what was used of them: a row for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from usage_middleware.periods import MINUTE, rfc3339
from usage_middleware.plans import units
from usage_middleware.plans.billing import Period
from usage_middleware.plans.plan import Limit, Per, Plan, Quota
from usage_middleware.plans.projection import projected
from usage_middleware.report.context import ReportContext
from usage_middleware.report.minutes import Minutes, MinutesOf
from usage_middleware.report.period_sums import PeriodReads, PeriodSums
from usage_middleware.report.plan_directory import CustomerPlans

Part: TypeAlias = Limit | Quota


class Projected(msgspec.Struct, frozen=True, kw_only=True):
    """How much will have been used when the period ends, if the latest days go on, and between what it may be."""

    value: int
    low: int
    high: int


class LimitRow(msgspec.Struct, frozen=True, kw_only=True):
    """A limit or a quota, and what was used of it.

    Attributes:
        kind: `rate` of a limit a minute, `quota` of an amount a period.
        scope: `org` if it is the whole organisation's, `key` if it is one API key's.
        key_id: whose it is; None of the organisation's.
        unit: what is counted: `calls`, `bytes`, or a counter.
        period_start: RFC 3339; of a rate the running minute.
        period_end: RFC 3339.
        limit: how much is allowed.
        used: how much was used since `period_start`.
        refused: of a rate, calls answered 429 since `peak_since`; None of a quota.
        remaining: how much is left; never below 0.
        over: whether more was used than is allowed.
        used_ratio: `used` a `limit`; None where nothing is allowed.
        projected: None of a rate, before the first whole day, of a period of a day, and where days aren't kept.
        reset: when the next period begins, seconds since the epoch.
        peak: of a rate, the most that was used in a minute.
        peak_at: when that minute began, RFC 3339; None without usage.
        peak_since: since when minutes are known, RFC 3339.
        would_refuse: of a rate, how much was used beyond it, minute by minute, since `peak_since`.
    """

    name: str
    kind: Literal["rate", "quota"]
    scope: Literal["org", "key"]
    key_id: str | None
    unit: str
    period_start: str
    period_end: str
    limit: int
    used: int
    refused: int | None
    remaining: int
    over: bool
    used_ratio: float | None
    projected: Projected | None
    reset: int
    peak: int | None
    peak_at: str | None
    peak_since: str | None
    would_refuse: int | None


class Meter(NamedTuple):
    """A limit or a quota, and whose it is: a key's, or the organisation's (None)."""

    part: Part
    key: str | None


class MeterReads:
    """Reads what was used of limits and quotas, all in one batch.

    Attributes:
        batch: others may ask it, too.
    """

    def __init__(self, context: ReportContext, org: str, *, fresh: bool = False) -> None:
        self.batch = context.batch(org)
        self.periods = PeriodReads(context, org, fresh=fresh, batch=self.batch)
        self.minutes = MinutesOf(context, org, self.batch)

    def read(self) -> None:
        """Read everything that was asked."""
        self.batch.read()
        self.periods.keep()
        self.minutes.keep()


class Meters:
    """Measures the limits and quotas of a customer.

    `fresh`: by what is counted now, not some seconds ago. `at`: an instant in the periods that are measured, by the plan of
    then, seconds since the epoch; None: now.
    """

    def __init__(self, context: ReportContext, org: str, *, fresh: bool = False, at: int | None = None) -> None:
        self._context = context
        self._fresh = fresh
        self._org = org
        self._at = context.now if at is None else at
        self.plans: CustomerPlans = context.plans.of(org)
        #: The same for all keys.
        self._periods: dict[Per, Period] = {}

    @property
    def plan(self) -> Plan | None:
        """The organisation's plan."""
        return self.plans.plan(self._at)

    def period(self, part: Part) -> Period:
        """The period of a limit or a quota."""
        if isinstance(part, Limit):
            # `now` is rounded up: what is counted by then may be of the minute before.
            start = int(self._context.moment) // MINUTE * MINUTE
            return Period(start, start + MINUTE)
        if part.per not in self._periods:
            self._periods[part.per] = self.plans.history.period(self._at, part.per)
        return self._periods[part.per]

    def of_org(self) -> list[Meter]:
        """Those of the whole organisation."""
        plan = self.plan
        return [] if plan is None else [Meter(part, None) for part in plan.parts if part.by == "org"]

    def of_key(self, key: str) -> list[Meter]:
        """Those of one key."""
        plan = self.plans.plan(self._at, key)
        return [] if plan is None else [Meter(part, key) for part in plan.parts if part.by == "key"]

    def reads(self) -> MeterReads:
        """An empty batch of reads."""
        return MeterReads(self._context, self._org, fresh=self._fresh)

    def rows(self, meters: Sequence[Meter]) -> list[LimitRow]:
        """A row for each, as far as it can be exact."""
        reads = self.reads()
        found = self.ask(meters, reads)
        reads.read()
        return found()

    def ask(self, meters: Sequence[Meter], reads: MeterReads) -> Callable[[], list[LimitRow]]:
        """A row for each, as far as it can be exact, known after `reads` was read."""
        later = self._ask_all(meters, reads)
        return lambda: [found for _, row in later if (found := row()) is not None]

    def quotas(self, meters: Sequence[Meter]) -> list[tuple[Quota, LimitRow]]:
        """Those that are quotas, each with its row."""
        asked = [meter for meter in meters if isinstance(meter.part, Quota)]
        reads = self.reads()
        later = self._ask_all(asked, reads)
        reads.read()
        return [(meter.part, found) for meter, row in later if isinstance(meter.part, Quota) and (found := row()) is not None]

    def _ask_all(self, meters: Sequence[Meter], reads: MeterReads) -> list[tuple[Meter, Callable[[], LimitRow | None]]]:
        # One kind after the other: a batch remembers the slots it was asked for last.
        later = {meter: self._ask(meter, reads) for meter in sorted(meters, key=lambda meter: meter.part.name)}
        return [(meter, later[meter]) for meter in meters]

    def _ask(self, meter: Meter, reads: MeterReads) -> Callable[[], LimitRow | None]:
        part, period = meter.part, self.period(meter.part)
        if isinstance(part, Limit):
            found = reads.minutes.ask(meter.key, part.of)
            return lambda: _rate_row(part, meter.key, period, found())
        sums = reads.periods.ask(meter.key, period, self._timezone, units.fields(part.of, part.billable))
        return lambda: _quota_row(part, meter.key, period, sums(), self._context.now)

    @property
    def _timezone(self) -> str:
        return self.plans.history.timezone(self._at)

    def used(self, meters: Sequence[Meter]) -> Mapping[Meter, int]:
        """How much was used of each, and no more than that: to find the greatest among many."""
        reads = self.reads()
        later: dict[Meter, Callable[[], int]] = {}
        for meter in meters:
            part = meter.part
            if isinstance(part, Limit):
                later[meter] = reads.minutes.ask_now(meter.key, part.of, self.period(part))
            else:
                fields = units.fields(part.of, part.billable)
                later[meter] = _used(reads.periods.ask(meter.key, self.period(part), self._timezone, fields, days=False), part)
        reads.read()
        return {meter: read() for meter, read in later.items()}


def _used(sums: Callable[[], PeriodSums | None], quota: Quota) -> Callable[[], int]:
    def read() -> int:
        found = sums()
        return 0 if found is None else units.quantity(found.total, quota.of, quota.billable)

    return read


def _quota_row(quota: Quota, key: str | None, period: Period, sums: PeriodSums | None, now: int) -> LimitRow | None:
    if sums is None:
        return None
    used = units.quantity(sums.total, quota.of, quota.billable)
    days = [units.quantity(day, quota.of, quota.billable) for day in sums.days]
    found = projected(used, days, period, now)
    return _row(
        quota,
        key,
        period,
        used,
        projected=None if found is None else Projected(value=found.value, low=found.low, high=found.high),
    )


def _rate_row(limit: Limit, key: str | None, period: Period, minutes: Minutes) -> LimitRow:
    peak_at, peak = minutes.peak
    return _row(
        limit,
        key,
        period,
        minutes.used.get(period.start, 0),
        refused=minutes.refused,
        peak=peak,
        peak_at=None if peak_at is None else rfc3339(peak_at),
        peak_since=rfc3339(minutes.since),
        would_refuse=sum(used - limit.amount for used in minutes.used.values() if used > limit.amount),
    )


def _row(
    part: Part,
    key: str | None,
    period: Period,
    used: int,
    *,
    projected: Projected | None = None,
    refused: int | None = None,
    peak: int | None = None,
    peak_at: str | None = None,
    peak_since: str | None = None,
    would_refuse: int | None = None,
) -> LimitRow:
    return LimitRow(
        name=part.name,
        kind="rate" if isinstance(part, Limit) else "quota",
        scope=part.by,
        key_id=key,
        unit=part.of,
        period_start=rfc3339(period.start),
        period_end=rfc3339(period.end),
        limit=part.amount,
        used=used,
        refused=refused,
        remaining=max(0, part.amount - used),
        over=used > part.amount,
        used_ratio=used / part.amount if part.amount else None,
        projected=projected,
        reset=period.end,
        peak=peak,
        peak_at=peak_at,
        peak_since=peak_since,
        would_refuse=would_refuse,
    )
