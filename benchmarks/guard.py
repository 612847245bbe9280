"""`python3 run guard`: fails if the middlewares add much more to a request than they should.

The limits are multiples of a fixed piece of Python, measured in the same turns, so they hold on a slow or busy machine too.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec

from benchmarks import apps, peers
from benchmarks.calls import Cost, asgi_sampler, cost_since, cpu_now, wsgi_sampler
from benchmarks.measure import in_turns
from benchmarks.overhead import NEVER, PLANS
from benchmarks.tables import table
from tests.support import ServerProcess
from usage_middleware import Usage

REQUESTS, ROUNDS = 200, 15
#: Twice what was measured: noise does not reach it, three times the cost does.
MOST_ASGI, MOST_WSGI = 3.2, 6.0
BARE, OURS, PEER, REFERENCE = "bare", "counted", "prometheus-fastapi-instrumentator", "reference"

Samplers = Mapping[str, Callable[[], Cost]]


def main() -> None:
    """Measure both middlewares; print the costs, exit with status 1 if one is too high."""
    with ServerProcess() as server:
        found = {"ASGI": _least(server.url, _asgi), "WSGI": _least(server.url, _wsgi)}
    names = (BARE, OURS, PEER, REFERENCE)
    rows = [[kind, *(f"{costs[name]:.1f}" if name in costs else "-" for name in names)] for kind, costs in found.items()]
    print(table(["CPU of a request, µs", *names], rows))
    problems = _problems("ASGI", found["ASGI"], MOST_ASGI) + _problems("WSGI", found["WSGI"], MOST_WSGI)
    sys.exit("\n".join(problems) or None)


def _problems(kind: str, costs: Mapping[str, float], most: float) -> list[str]:
    added, allowed = costs[OURS] - costs[BARE], most * costs[REFERENCE]
    limits = {f"{most} times the reference": allowed}
    if PEER in costs:
        limits[f"what {PEER} adds"] = costs[PEER] - costs[BARE]
    return [
        f"{kind}: counting adds {added:.1f} µs to a request; {name} is {limit:.1f} µs."
        for name, limit in limits.items()
        if added >= limit
    ]


def _least(url: str, make: Callable[[Usage], Samplers]) -> dict[str, float]:
    """The least of several samples of each variant: what a request takes when nothing gets in its way. With plans declared."""
    with apps.new_usage(url, namespace="guard", flush_interval=NEVER, **PLANS) as usage:
        samplers = make(usage)
        variants = {**samplers, OURS: _with_sums(samplers[OURS], usage), REFERENCE: _reference}
        in_turns(variants, 1)
        return {name: min(cost.process for cost in samples) for name, samples in in_turns(variants, ROUNDS).items()}


def _asgi(usage: Usage) -> Samplers:
    applications = {BARE: peers.pass_through(apps.starlette_app), OURS: apps.starlette_app(usage)}
    if find_spec("prometheus_fastapi_instrumentator") is not None:
        applications[PEER] = peers.instrumentator(apps.starlette_app)
    loop = asyncio.new_event_loop()
    return {name: asgi_sampler(app, loop, REQUESTS) for name, app in applications.items()}


def _wsgi(usage: Usage) -> Samplers:
    applications = {BARE: peers.wsgi_pass_through(apps.flask_app), OURS: apps.flask_app(usage)}
    return {name: wsgi_sampler(app, REQUESTS) for name, app in applications.items()}


def _with_sums(sampler: Callable[[], Cost], usage: Usage) -> Callable[[], Cost]:
    """The same requests, and the work that they leave for another thread."""

    def sampled() -> Cost:
        begun = cpu_now()
        sampler()
        usage.recorder._aggregate.sum()
        return cost_since(begun, REQUESTS)

    return sampled


def _reference() -> Cost:
    """A fixed piece of work of the same kind: calls, tuples, dictionaries."""
    begun = cpu_now()
    for _ in range(REQUESTS):
        _work()
    return cost_since(begun, REQUESTS)


def _work() -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    for number in range(24):
        key = (number % 5, _name(number))
        found[key] = found.get(key, 0) + len(key[1])
    return found


def _name(number: int) -> str:
    return f"member {number % 7}"


if __name__ == "__main__":
    main()
