"""Finds the thresholds that an organisation and its keys have reached, and creates an alert for each, once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from usage_middleware.alerts.event import AlertData, AlertEvent, AlertPeriod
from usage_middleware.periods import rfc3339
from usage_middleware.plans.plan import Quota
from usage_middleware.report.closest_keys import MOST_KEYS, keys_used_since
from usage_middleware.report.context import ReportContext
from usage_middleware.report.fired import FiredAlert, fired_field, month_of
from usage_middleware.report.limit_rows import LimitRow, Meter, Meters
from usage_middleware.store.alert_outbox import AlertOutbox
from usage_middleware.store.members import org_name_of
from usage_middleware.store.ttl_cache import TTLCache

#: So many thresholds a process remembers to have been told of, for so many seconds.
_MOST_KNOWN, _KNOWN_SECONDS = 10_000, 3600.0
#: Keys that were used so long before the last evaluation are looked at again, seconds: chunks come late.
OVERLAP = 120


class Reached(NamedTuple):
    """A threshold that was reached."""

    quota: Quota
    row: LimitRow
    percent: int


class Thresholds:
    """Creates the alerts of organisations. `targets` is how many have to get each."""

    def __init__(self, outbox: AlertOutbox, targets: int, clock: Callable[[], float]) -> None:
        self._outbox = outbox
        self._targets = targets
        self._clock = clock
        self._known: TTLCache[tuple[str, str], bool] = TTLCache(clock, seconds=_KNOWN_SECONDS, size=_MOST_KNOWN)

    def evaluate(self, context: ReportContext, org: str, since: float | None, *, at: int | None = None) -> int:
        """Look at an organisation, and at its keys that were used `since` (None: in their periods); how many alerts are new.

        `at`: an instant in the periods that are looked at, seconds since the epoch, of which those that have ended are; None:
        those that run.
        """
        meters = Meters(context, org, fresh=True, at=at)
        if meters.plan is None and not meters.plans.keys:
            return 0
        since_ms = None if since is None else int((since - OVERLAP) * 1000)
        keys = keys_used_since(context, org, meters, since_ms)
        until = None if at is None else context.now
        rows = meters.quotas(_ended(meters, meters.of_org(), until))
        for begin in range(0, len(keys), MOST_KEYS):
            asked = [meter for key in keys[begin : begin + MOST_KEYS] for meter in meters.of_key(key)]
            rows += meters.quotas(_over_lowest(meters, _ended(meters, asked, until)))
        return sum(self._created(org, reached) for quota, row in rows for reached in _reached(quota, row))

    def _created(self, org: str, reached: Reached) -> bool:
        row = reached.row
        field = fired_field(reached.quota, row, reached.percent)
        if self._known.known([(org, field)]):
            return False
        asked_at = self._known.generation
        now = self._clock()
        event = _event(org, reached, field, now)
        items = {f"{event.id}.{number}": encode(Item(event, number, int(now * 1000))) for number in range(self._targets)}
        record = msgspec.json.encode(FiredAlert.of(row, reached.percent, event.id, event.timestamp))
        created = self._outbox.create(org, month_of(row), field, record, items, int(now * 1000))
        self._known.keep({(org, field): True}, asked_at)
        return created


class Item(NamedTuple):
    """An alert on its way to one target.

    Attributes:
        target: which of those that `on_alert` names.
        created_ms: since when it waits.
        attempts: how often it was tried.
    """

    event: AlertEvent
    target: int
    created_ms: int
    attempts: int = 0


def encode(item: Item) -> bytes:
    """An item as it is kept."""
    return msgspec.json.encode(item)


def decode(raw: bytes) -> Item | None:
    """The item that `encode` wrote; None if it is damaged."""
    try:
        return _decode(raw)
    except msgspec.MsgspecError:
        return None


_decode = msgspec.json.Decoder(Item).decode


def _reached(quota: Quota, row: LimitRow) -> Iterator[Reached]:
    for percent in quota.alerts:
        if row.used > 0 and row.used * 100 >= percent * row.limit:
            yield Reached(quota, row, percent)


def _ended(meters: Meters, asked: list[Meter], until: int | None) -> list[Meter]:
    """Those whose periods have ended until then; None: all."""
    return [meter for meter in asked if until is None or meters.period(meter.part).end <= until]


def _over_lowest(meters: Meters, asked: list[Meter]) -> list[Meter]:
    """Those quotas of keys that have reached any threshold."""
    quotas: Mapping[Meter, Quota] = {meter: meter.part for meter in asked if isinstance(meter.part, Quota)}
    used = meters.used(list(quotas))
    return [meter for meter, quota in quotas.items() if quota.alerts and _has_reached(quota, used[meter])]


def _has_reached(quota: Quota, used: int) -> bool:
    return used > 0 and used * 100 >= quota.alerts[0] * quota.amount


def _event(org: str, reached: Reached, field: str, now: float) -> AlertEvent:
    row = reached.row
    # The same for every process, and for every attempt.
    digest = hashlib.sha256(f"{org}\n{field}".encode("utf-8", "surrogatepass")).hexdigest()
    return AlertEvent(
        id=f"evt_{digest[:32]}",
        type="usage.threshold_reached",
        timestamp=rfc3339(now),
        data=AlertData(
            org_id=org_name_of(org),
            key_id=row.key_id,
            limit=row.name,
            threshold_percent=reached.percent,
            used=row.used,
            limit_amount=row.limit,
            period=AlertPeriod(start=row.period_start, end=row.period_end),
        ),
    )
