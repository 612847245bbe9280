"""Plans over HTTP against an oracle that counts every call by itself: random plans, zones, anchors and changes."""

from __future__ import annotations

import math
import random
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from tests.seeds.traffic import Traffic
from tests.support import Clock, examples
from usage_middleware import KeyInfo, Plan, Price, Quota, Usage, Viewer
from usage_middleware.periods import DAY, HOUR, rfc3339

ZONES = (
    "UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Cairo", "America/Havana",
    "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Beirut",
)  # fmt: skip
KEYS = tuple(f"key_{number}" for number in range(4))
STEP = 1_800
START = int(datetime(2026, 1, 20, tzinfo=UTC).timestamp())


class Call(NamedTuple):
    """Some calls of one key."""

    at: int
    key: str
    status: int
    times: int


class Assignment(NamedTuple):
    """A change of the plan."""

    at: int
    plan: str
    anchor: date
    zone: str
    now: bool


class Oracle:
    """Billing periods and their sums, from boundary to boundary and call by call."""

    def __init__(self, until: int) -> None:
        self.until = until
        self.calls: list[Call] = []
        self.assignments: list[Assignment] = []

    def boundaries(self) -> list[int]:
        """Where billing periods begin and end."""
        first, *others = self.assignments
        calendar = pending = first
        found = [_boundary_before(first, first.at)]
        changes = sorted(others)
        while found[-1] <= self.until:
            end = _boundary_after(calendar, found[-1])
            change = next((one for one in changes if one.at < end), None)
            if change is not None:
                changes.remove(change)
                pending = change
                if change.now and change.at // STEP * STEP > found[-1]:
                    found.append(change.at // STEP * STEP)
                    calendar = change
                continue
            if pending[2:4] != calendar[2:4]:
                later = _boundary_after(pending, end - 1)
                end = later if end < later < end + 27 * HOUR else end
                calendar = pending
            found.append(end)
        return found

    def plan_at(self, at: int) -> str | None:
        """Whose prices hold in a period that begins then."""
        first, *others = self.assignments
        found = first.plan if at >= _boundary_before(first, first.at) else None
        for one in others:
            effective = one.at // STEP * STEP if one.now else one.at
            found = one.plan if effective <= at else found
        return found

    def used(self, start: int, end: int) -> Counter[tuple[str, int]]:
        """Calls by key and status."""
        found: Counter[tuple[str, int]] = Counter()
        for call in self.calls:
            if start <= call.at < end:
                found[call.key, call.status] += call.times
        return found


def _first_days(anchor: date, around: date) -> list[date]:
    months = (around.year * 12 + around.month - 1 + shift for shift in range(-2, 4))
    found = []
    for month in months:
        after = date((month + 1) // 12, (month + 1) % 12 + 1, 1)
        last = (after - timedelta(1)).day
        found.append(date(month // 12, month % 12 + 1, min(anchor.day, last)))
    return found


def _begins(day: date, zone: str) -> int:
    """The first quarter of an hour of a local day."""
    at = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) - 15 * HOUR
    while datetime.fromtimestamp(at, ZoneInfo(zone)).date() < day:
        at += 900
    return at


def _all_boundaries(calendar: Assignment, at: int) -> list[int]:
    return [_begins(day, calendar.zone) for day in _first_days(calendar.anchor, datetime.fromtimestamp(at, UTC).date())]


def _boundary_after(calendar: Assignment, at: int) -> int:
    return min(found for found in _all_boundaries(calendar, at) if found > at)


def _boundary_before(calendar: Assignment, at: int) -> int:
    return max(found for found in _all_boundaries(calendar, at) if found <= at)


def _cost(price: Price, quantity: int) -> Fraction:
    """Unit by unit."""
    if price.flat is not None:
        return Fraction(price.flat)
    units = max(0, quantity - price.included)
    if price.package is not None:
        return Fraction(price.package[1]) * math.ceil(Fraction(units, price.package[0]))
    tiers = price.volume or price.graduated
    whole = next(each for bound, each in tiers if bound is None or units <= bound)
    if price.volume:
        return Fraction(whole) * units
    each = (next(price for bound, price in tiers if bound is None or unit <= bound) for unit in range(1, units + 1))
    return sum(map(Fraction, each), Fraction(0))


def _cents(amount: Fraction) -> Decimal:
    exact = Decimal(amount.numerator) / Decimal(amount.denominator)
    return exact.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _price(chance: random.Random, number: int) -> Price:
    def each() -> str:
        return str(Decimal(chance.randrange(10**9)).scaleb(-chance.choice((2, 4, 8))))

    def tiers() -> list[tuple[int | None, str]]:
        bounds = sorted(chance.sample(range(1, 200), chance.randrange(3)))
        return [*((bound, each()) for bound in bounds), (None, each())]

    ways: Sequence[Callable[[], dict[str, Any]]] = (
        lambda: {"flat": each()},
        lambda: {"unit": each(), "included": chance.randrange(50)},
        lambda: {"graduated": tiers()},
        lambda: {"volume": tiers()},
        lambda: {"package": (chance.randrange(1, 60), each())},
    )
    return Price(f"p{number}", billable=chance.choice(("all", "successful", "not_refused")), **chance.choice(ways)())


def _quantity(price: Price, used: Counter[tuple[str, int]], key: str | None = None) -> int:
    counts: dict[str, Callable[[int], bool]] = {
        "all": lambda status: True,
        "successful": lambda status: 200 <= status < 300,
        "not_refused": lambda status: status != 429,
    }
    return sum(n for (who, status), n in used.items() if key in (None, who) and counts[price.billable](status))


@pytest.mark.parametrize("seed", range(examples(8)))
def test_every_period_is_what_was_called_in_it(make_usage: Callable[..., Usage], seed: int) -> None:
    chance, clock = random.Random(seed), Clock(START)
    plans = {
        name: Plan(
            name,
            Quota("calls", 1 << 40),
            Quota("own", 1 << 40, by="key", billable="successful"),
            prices=[_price(chance, number) for number in range(chance.randrange(1, 4))],
            currency=chance.choice(("EUR", "USD")),
        )
        for name in ("one", "two")
    }
    usage = make_usage(plans=list(plans.values()), flush_interval=3600, clock=clock, namespace=f"t{secrets.token_hex(6)}")
    for number, key in enumerate(KEYS):
        usage.keys.put("acme", KeyInfo(key, key.title()), secret="sk" if number == 0 else None)
    oracle = Oracle(START + 90 * DAY)
    times = sorted(START + chance.randrange(90 * DAY) for _ in range(60))
    for place, at in enumerate(times):
        clock.set(at)
        if place == 0 or chance.random() < 0.08:
            _assign(usage, oracle, chance, at)
        else:
            call = Call(at, chance.choice(KEYS), chance.choice((200, 200, 201, 404, 429, 500)), chance.randrange(1, 40))
            _count(usage, clock, call)
            oracle.calls.append(call)
    clock.set(oracle.until)
    assert usage.flush()
    _check(usage, clock, oracle, plans)


def _assign(usage: Usage, oracle: Oracle, chance: random.Random, at: int) -> None:
    anchor = date(2026, 1, chance.choice((1, 15, 28, 29, 30, 31)))
    now = bool(oracle.assignments) and chance.random() < 0.3
    change = Assignment(at, chance.choice(("one", "two")), anchor, chance.choice(ZONES), now)
    usage.plans.assign("acme", change.plan, anchor=change.anchor, timezone=change.zone, now=change.now)
    oracle.assignments.append(change)


def _count(usage: Usage, clock: Clock, call: Call) -> None:
    when = datetime.fromtimestamp(call.at, UTC).isoformat()
    Traffic(usage, clock).calls(when, times=call.times, key=call.key, status=call.status)


def _check(usage: Usage, clock: Clock, oracle: Oracle, plans: dict[str, Plan]) -> None:
    api = Traffic(usage, clock).api("sk", cache_seconds=0)
    boundaries = oracle.boundaries()
    for start, end in pairwise(boundaries):
        if start < clock() - 40 * DAY or start > clock():
            continue
        found = api.get(f"/cost?period={rfc3339(start)}").json
        assert (found.get("period"), found.get("plan")) == (
            {"start": rfc3339(start), "end": rfc3339(end)},
            oracle.plan_at(start),
        ), (oracle.assignments, boundaries, found)
        used = oracle.used(start, end)
        _check_cost(found, plans[found["plan"]], used)
        _check_keys(usage, clock, start, plans[found["plan"]], used)
    _check_limits(api.get("/limits").json, oracle, boundaries, clock)


def _check_cost(found: Any, plan: Plan, used: Counter[tuple[str, int]]) -> None:
    for line, price in zip(found["lines"], plan.prices, strict=True):
        quantity = _quantity(price, used)
        assert (line["quantity"], Decimal(line["amount"])) == (quantity, _cents(_cost(price, quantity))), price
    amounts = [Decimal(line["amount"]) for line in found["lines"]]
    assert Decimal(found["total"]) == sum(amounts) == sum(Decimal(row["amount"]) for row in found["rows"])


def _check_keys(usage: Usage, clock: Clock, start: int, plan: Plan, used: Counter[tuple[str, int]]) -> None:
    """Each key is shown its own part, and nothing of the others."""
    for key in KEYS[:2]:
        api = Traffic(usage, clock).api("sk", auth=_sees(key), cache_seconds=0)
        reply = api.get(f"/cost?period={rfc3339(start)}")
        assert not [other for other in KEYS if other != key and other.encode() in reply.body]
        for line, price in zip(reply.json["lines"], plan.prices, strict=True):
            assert line["quantity"] == _quantity(price, used, key)
            whole = _quantity(price, used)
            part = _cents(_cost(price, whole)) * line["quantity"] / whole if whole else Decimal(0)
            assert abs(Decimal(line["amount"]) - part) < Decimal("0.01")


def _sees(key: str) -> Callable[[Any], Viewer]:
    return lambda _: Viewer.key("acme", key)


def _check_limits(found: Any, oracle: Oracle, boundaries: list[int], clock: Clock) -> None:
    start = max(at for at in boundaries if at <= clock())
    used = oracle.used(start, math.ceil(clock()) + 1)
    rows = {row["key_id"]: row["used"] for row in found["limits"]}
    assert rows.pop(None) == sum(used.values())
    successful = Price("p", billable="successful", flat="0")
    assert rows == {key: n for key in KEYS if (n := _quantity(successful, used, key))}
