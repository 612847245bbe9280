"""How long the views of plans take, for the organisations of `benchmarks.views`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import apps
from benchmarks.asking import LIMIT, ORG, Found, ask, owner
from benchmarks.probe import Probe
from tests.support import Clock
from usage_middleware import Limit, Plan, Price, Quota
from usage_middleware.web import usage_wsgi_app

if TYPE_CHECKING:
    from usage_middleware import Usage


class Question(NamedTuple):
    """A question, and the plan that the organisation has meanwhile."""

    path: str
    plan: str


#: Since when it has a plan: the begin of the running billing period.
FIRST = date(2026, 11, 1)
ORG_PLAN = Plan("org", Limit("requests", 600), Quota("calls", 10_000_000), Quota("records", 1_000_000, of="records"))
KEY_PLAN = Plan("key", *ORG_PLAN.parts, Limit("own-requests", 60, by="key"), Quota("own-calls", 100_000, by="key"))
PRICES = (Price("base", flat="19"), Price("records", of="records", graduated=((100_000, "0"), (None, "0.0004"))))
PLANS = (ORG_PLAN, KEY_PLAN, Plan("priced", prices=PRICES, currency="EUR"))
QUESTIONS: Mapping[str, Question] = {
    "limits, of the organisation": Question("/limits", "org"),
    "limits, of its keys, too": Question("/limits", "key"),
    "limits, of one key": Question("/limits?key_id=key_000000", "key"),
    "cost, current period": Question("/cost", "priced"),
}


def ask_all(url: str, options: Mapping[str, Any], client: Any, times: int) -> dict[str, Found]:
    """Ask everything about plans. Cold: nothing is known of a few seconds ago, but what closed slots held."""
    with apps.new_usage(url, clock=Clock(), **options, plans=PLANS) as usage:
        app = usage_wsgi_app(usage, auth=owner, cache_seconds=0, limit=LIMIT)
        probe = Probe(client)
        return {name: _measure(usage, app, question, probe, times) for name, question in QUESTIONS.items()}


def _measure(usage: Usage, app: Any, question: Question, probe: Probe, times: int) -> Found:
    usage.plans.assign(ORG, question.plan, from_=FIRST)
    ask(app, question.path)
    probe.restart()
    cold = [_cold(usage, app, question.path) for _ in range(times)]
    slowest, _ = probe.slowest()
    known = [ask(app, question.path) for _ in range(times)]
    assert {asked.status for asked in known} == {"200"}, known[0].body
    kept = statistics.median(asked.took for asked in known)
    return Found(statistics.median(cold), kept, slowest / 1000, len(known[0].body))


def _cold(usage: Usage, app: Any, path: str) -> float:
    usage.plans.used.clear()
    return ask(app, path).took
