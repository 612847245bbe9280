"""How long the views of plans take: the first answer of a process, the next ones, and what Redis does meanwhile."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks import apps
from benchmarks.asking import LIMIT, ORG, ask, owner
from benchmarks.probe import Probe
from benchmarks.seeding import Past, seed
from benchmarks.tables import table
from tests.support import START, Clock, ServerProcess
from usage_middleware import Assigned, Limit, Plan, Price, Quota, Usage
from usage_middleware.web import usage_wsgi_app


class Question(NamedTuple):
    """A question, and what the organisation has been assigned."""

    path: str
    plan: str
    timezone: str = "UTC"


ORG_PLAN = Plan("org", Limit("requests", 600), Quota("calls", 10_000_000), Quota("records", 1_000_000, of="records"))
KEY_PLAN = Plan("key", *ORG_PLAN.parts, Limit("own-requests", 60, by="key"), Quota("own-calls", 100_000, by="key"))
PRICES: Mapping[str, Price] = {
    "calls": Price("calls", graduated=((100_000, "0"), (None, "0.0004"))),
    "records": Price("records", of="records", graduated=((100_000, "0"), (None, "0.0004"))),
    "successful": Price("successful", billable="successful", unit="0.001"),
}
PLANS = (ORG_PLAN, KEY_PLAN, *(Plan(name, prices=[price], currency="EUR") for name, price in PRICES.items()))
NEW_YORK = "America/New_York"
QUESTIONS: Mapping[str, Question] = {
    "limits, of the organisation": Question("/limits", "org"),
    "limits, of its keys, too": Question("/limits", "key"),
    "limits, of one key": Question("/limits?key_id=key_000000", "key"),
    "by-group, with over_quota": Question("/by-group?range=24h", "org"),
    "cost of calls": Question("/cost", "calls"),
    "cost of calls, New York": Question("/cost", "calls", NEW_YORK),
    "cost of successful calls": Question("/cost", "successful"),
    "cost of records": Question("/cost", "records"),
    "cost of records, New York": Question("/cost", "records", NEW_YORK),
    "cost of records, a period that has ended": Question("/cost?period=previous", "records"),
}
#: All keys are used on each of the last 30 days.
SIZES: Mapping[str, Past] = {
    "50 x 1,000": Past(50, 1_000, 1_000, days=30, years_days=30),
    "200 x 10,000": Past(200, 10_000, 10_000, days=30, years_days=30),
}


class Took(NamedTuple):
    """Milliseconds: the first answer, one five seconds later, and the slowest Redis command of the first."""

    first: float
    again: float
    slowest: float


def run(quick: bool) -> str:
    """The tables of this part."""
    found = {name: _of_size(past, 1 if quick else 5) for name, past in list(SIZES.items())[: 1 if quick else 2]}
    rows = [[name, *(" / ".join(f"{each:.1f}" for each in one[name]) for one in found.values())] for name in QUESTIONS]
    text = "Milliseconds: the first answer of a process / one that comes 5 s later / the slowest command in Redis of the first."
    return f"{text}\n\n{table(['question', *found], rows)}"


def _of_size(past: Past, times: int) -> dict[str, Took]:
    with ServerProcess() as server, server.client() as client:
        options = {"namespace": "plans"}
        with apps.new_usage(server.url, clock=Clock(), **options) as usage:
            begun = time.monotonic()
            seed(usage, server.url, options, ORG, past, int(START))
            print(f"{past.keys:,} keys: seeded in {time.monotonic() - begun:.0f} s", flush=True)
        probe = Probe(client)
        return {name: _median([_measure(server.url, probe, one) for _ in range(times)]) for name, one in QUESTIONS.items()}


def _median(found: list[Took]) -> Took:
    return Took(*(statistics.median(each) for each in zip(*found, strict=True)))


def _measure(url: str, probe: Probe, question: Question) -> Took:
    """In a process that knows nothing yet, but is connected."""
    assigned = Assigned(plan=question.plan, timezone=question.timezone)
    clock = Clock()
    with apps.new_usage(url, namespace="plans", clock=clock, plans=PLANS, plan_of=lambda org: assigned) as usage:
        app = usage_wsgi_app(usage, auth=owner, cache_seconds=0, limit=LIMIT)
        assert ask(app, "/summary?period=24h").status == "200"
        probe.restart()
        first = _took(app, question.path)
        slowest, _ = probe.slowest()
        clock.advance(5)
        again = _took(app, question.path)
        _forget_statement(usage)
        return Took(first, again, slowest / 1000)


def _took(app: Any, path: str) -> float:
    asked = ask(app, path)
    assert asked.status == "200", asked.body
    return asked.took


def _forget_statement(usage: Usage) -> None:
    """A statement that was made is not to be there for the next measure."""
    for name in usage.engine.client.scan_iter("plans:*:statement:*"):
        usage.engine.client.delete(name)
