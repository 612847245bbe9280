"""Over months of calls, corrections, plans and statements, each key pays exactly for what it used: an oracle adds it up."""

from __future__ import annotations

import csv
import math
import random
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import pytest

from tests.seeds.traffic import Traffic
from tests.support import Clock, examples
from usage_middleware import KeyInfo, Plan, Price, Quota, Usage, Viewer
from usage_middleware.periods import DAY, HOUR, rfc3339
from usage_middleware.plans.billing import Period
from usage_middleware.report.statements import Biller

#: Some weeks before clocks change in Europe and America, in spring.
START = int(datetime(2026, 2, 10, tzinfo=UTC).timestamp())
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "America/Havana", "Asia/Beirut")
KEYS = tuple(f"key_{number}" for number in range(4))
TEAMS = {"key_0": "search", "key_1": "maps", "key_2": "maps"}
PLANS = {
    "steps": Plan(
        "steps",
        Quota("calls", 50),
        prices=(
            Price("base", flat="9.99"),
            Price("steps", graduated=((20, "0.07"), (60, "0.031"), (None, "0.0105"))),
        ),
        currency="EUR",
    ),
    "whole": Plan(
        "whole",
        prices=(
            Price("whole", billable="successful", volume=((30, "0.25"), (90, "0.2"), (None, "0.1"))),
            Price("records", of="records", package=(25, "0.35"), included=10),
        ),
        currency="EUR",
    ),
    "none": Plan("none"),
}


class Counted(NamedTuple):
    """What some calls, or a correction of them, have added."""

    at: int
    key: str
    status: int
    calls: int
    records: int


class Ledger:
    """Everything that was counted."""

    def __init__(self) -> None:
        self.entries: list[Counted] = []

    def used(self, period: Period, price: Price) -> Counter[str]:
        """How much each key used of what a price is of."""
        found: Counter[str] = Counter()
        for one in self.entries:
            if period.start <= one.at < period.end and (price.billable == "all" or 200 <= one.status < 300):
                found[one.key] += one.records if price.of == "records" else one.calls
        return found

    def left(self, at: int, key: str, status: int) -> tuple[int, int]:
        """How many calls and records there are of a key at an instant, so that no more are taken away."""
        some = [one for one in self.entries if (one.at, one.key, one.status) == (at, key, status)]
        return sum(one.calls for one in some), sum(one.records for one in some)


def bill(plan: Plan, ledger: Ledger, period: Period) -> Counter[str]:
    """What each key pays for a period, in cents."""
    found: Counter[str] = Counter()
    for price in plan.prices:
        used = ledger.used(period, price)
        cents = math.floor(_cost(price, sum(used.values())) * 100 + Fraction(1, 2))
        for key, part in _shares(cents, {key: n for key, n in used.items() if n > 0}).items():
            found[key] += part
    return found


def _cost(price: Price, quantity: int) -> Fraction:
    if price.flat is not None:
        return Fraction(price.flat)
    units = max(0, quantity - price.included)
    if price.package is not None:
        return Fraction(price.package[1]) * -(-units // price.package[0])
    tiers = price.volume or price.graduated

    def each(unit: int) -> Fraction:
        return Fraction(next(cost for bound, cost in tiers if bound is None or unit <= bound))

    return each(units) * units if price.volume else sum(map(each, range(1, units + 1)), Fraction(0))


def _shares(cents: int, used: Mapping[str, int]) -> dict[str, int]:
    """In proportion; the cents that are left go to the largest remainders."""
    if not used:
        return {"(unallocated)": cents}
    exact = {key: Fraction(cents * n, sum(used.values())) for key, n in used.items()}
    found = {key: math.floor(part) for key, part in exact.items()}
    for key in sorted(exact, key=lambda key: (found[key] - exact[key], key))[: cents - sum(found.values())]:
        found[key] += 1
    return found


class Firm:
    """Three workers, whoever does something next."""

    def __init__(self, make_usage: Callable[..., Usage], seed: int) -> None:
        self.chance, self.clock, self.ledger = random.Random(seed), Clock(START), Ledger()
        options: dict[str, Any] = {"plans": list(PLANS.values()), "counters": ("records",), "flush_interval": 3600}
        options |= {"clock": self.clock, "namespace": f"t{secrets.token_hex(6)}"}
        self.workers = [make_usage(**options) for _ in range(3)]
        for worker in self.workers:
            worker._alerting._is_on = False
        for key in KEYS:
            labels = {"team": TEAMS[key]} if key in TEAMS else {}
            self.workers[0].keys.put("acme", KeyInfo(key, key.title(), labels=labels))
        self.workers[0].plans.assign("acme", "steps", anchor=date(2026, 1, 31), timezone="Europe/Berlin")

    @property
    def worker(self) -> Usage:
        """Any of them."""
        return self.chance.choice(self.workers)

    @property
    def periods(self) -> list[Period]:
        """The billing periods so far, the latest first."""
        history = self.workers[0].plans.of("acme").history
        found = [history.period(math.ceil(self.clock()))]
        while found[-1].start > START:
            found.append(history.period(found[-1].start - 1))
        return found

    def go_on(self) -> None:
        """Something happens."""
        steps = (
            self.call, self.call, self.call, self.wait, self.wait, self.correct, self.move, self.backfill, self.assign,
            self.ask, self.close,
        )  # fmt: skip
        self.chance.choice(steps)()
        self.clock.advance(10)

    def call(self) -> None:
        key, status, records = self.chance.choice(KEYS), self.chance.choice((200, 201, 404)), self.chance.randrange(4)
        times, now = self.chance.randrange(1, 40), int(self.clock())
        when = datetime.fromtimestamp(now, UTC).isoformat()
        Traffic(self.worker, self.clock).calls(when, times=times, key=key, status=status, records=records)
        self.ledger.entries.append(Counted(now, key, status, times, times * records))

    def wait(self) -> None:
        self.clock.advance(self.chance.choice((HOUR, 7 * HOUR, DAY, 6 * DAY)) + self.chance.randrange(600))

    def correct(self) -> None:
        """Some calls were too many, or too few."""
        if self.ledger.entries:
            one = self.chance.choice(self.ledger.entries)
            calls, records = self.ledger.left(one.at, one.key, one.status)
            self._correct(one._replace(calls=-self.chance.randint(0, calls), records=-self.chance.randint(0, records)))
            self._correct(one._replace(calls=self.chance.randint(0, 9), records=self.chance.randint(0, 9)))

    def move(self) -> None:
        """Some calls were another key's: no sum changes."""
        if self.ledger.entries:
            one = self.chance.choice(self.ledger.entries)
            calls, records = self.ledger.left(one.at, one.key, one.status)
            self._correct(one._replace(calls=-calls, records=-records))
            self._correct(one._replace(key=self.chance.choice(KEYS), calls=calls, records=records))

    def _correct(self, what: Counted) -> None:
        if not what.calls and not what.records:
            return
        self.worker.correct(
            "acme", id=secrets.token_hex(8), at=datetime.fromtimestamp(what.at, UTC), key=what.key, endpoint="GET /v1/items",
            status=what.status, calls=what.calls, counts={"records": what.records}, reason="a mistake",
        )  # fmt: skip
        self.ledger.entries.append(what)

    def backfill(self) -> None:
        at = int(self.clock()) - self.chance.randrange(40 * DAY)
        if at > START:
            what = Counted(at, self.chance.choice(KEYS), 200, self.chance.randrange(1, 20), self.chance.randrange(9))
            row = {"org": "acme", "id": secrets.token_hex(8), "key": what.key, "endpoint": "GET /v1/items", "status": 200}
            amounts = {"calls": what.calls, "counts": {"records": what.records}}
            self.worker.backfill([{**row, **amounts, "at": datetime.fromtimestamp(at, UTC)}])
            self.ledger.entries.append(what)

    def assign(self) -> None:
        anchor = date(2026, 1, self.chance.choice((1, 28, 29, 30, 31)))
        plan, zone, now = self.chance.choice(list(PLANS)), self.chance.choice(ZONES), self.chance.random() < 0.4
        self.worker.plans.assign("acme", plan, anchor=anchor, timezone=zone, now=now)

    def ask(self) -> None:
        self.worker.reader.cost(org="acme", period=rfc3339(self.chance.choice(self.periods).start))

    def close(self) -> None:
        worker = self.worker
        context = worker.reader.context(Viewer.operator())
        Biller(context, "acme", context.plans.of("acme")).close()


@pytest.mark.parametrize("seed", range(examples(6)))
def test_each_key_pays_for_what_it_used(make_usage: Callable[..., Usage], seed: int) -> None:
    firm = Firm(make_usage, seed)
    for _ in range(60):
        firm.go_on()
    for worker in firm.workers:
        worker.plans._kept.clear()
        assert worker.flush()
    firm.clock.advance(10)
    periods = list(reversed(firm.periods))
    for period in periods:
        firm.worker.reader.cost(org="acme", period=rfc3339(period.start))
    firm.clock.advance(10)
    paid: Counter[str] = Counter()
    for period in periods:
        paid.update(_shown(firm.worker, firm.clock, period))
    history, owed = firm.workers[0].plans.of("acme").history, Counter[str]()
    for period in periods:
        assigned = history.priced(period)
        owed.update({} if assigned is None or assigned.plan is None else bill(PLANS[assigned.plan], firm.ledger, period))
    assert {key: cents for key, cents in paid.items() if cents} == {key: cents for key, cents in owed.items() if cents}


def _shown(worker: Usage, clock: Clock, period: Period) -> dict[str, int]:
    """What each key pays in a period, in cents; and all that is told of it adds up."""
    name = rfc3339(period.start)
    report = worker.reader.cost(org="acme", period=name)
    rows = {row.key_id or "": _cents(row.amount) for row in report.rows}
    total = _cents(report.total or "0")
    assert sum(rows.values()) == total == sum(_cents(line.amount) for line in report.lines)
    teams = worker.reader.cost(org="acme", period=name, by="label:team")
    assert {row.value: _cents(row.amount) for row in teams.rows} == _of_teams(rows)
    for query in ("", "&by=owner", "&by=label:team", "&table=lines"):
        body = (
            Traffic(worker, clock).api(auth=_organization, cache_seconds=0).get(f"/cost?format=csv&period={name}{query}").body
        )
        assert sum(_cents(row["amount"]) for row in csv.DictReader(body.decode().splitlines())) == total
    for key in KEYS:
        own = worker.reader.cost(Viewer.key("acme", key), period=name)
        assert _cents(own.total or "0") == rows.get(key, 0) == sum(_cents(line.amount) for line in own.lines)
    return rows


def _of_teams(rows: Mapping[str, int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for key, cents in rows.items():
        found[TEAMS.get(key, "(unallocated)")] += cents
    return dict(found)


def _organization(_: object) -> Viewer:
    return Viewer.organization("acme")


def _cents(amount: str) -> int:
    found = Decimal(amount) * 100
    assert found == int(found)
    return int(found)
