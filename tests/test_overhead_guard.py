"""A guard, not a timed test: what the middlewares add to a request, as a multiple of a fixed piece of Python."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from benchmarks import apps, peers
from benchmarks.calls import Cost, asgi_sampler, cost_since, cpu_now, wsgi_sampler
from benchmarks.measure import in_turns
from usage_middleware import Usage

REQUESTS, ROUNDS = 200, 15
#: What was measured is a half of this, on a busy machine too: noise does not reach it, three times as much does.
MOST_ASGI, MOST_WSGI = 3.2, 6.0


def reference() -> Cost:
    """A fixed piece of work that is of the same kind: calls, tuples, dictionaries."""
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


def with_sums(sampler: Callable[[], Cost], usage: Usage) -> Callable[[], Cost]:
    """The same requests, and the work that they leave for another thread."""

    def sampled() -> Cost:
        begun = cpu_now()
        sampler()
        usage.recorder._aggregate.sum()
        return cost_since(begun, REQUESTS)

    return sampled


def least(**variants: Callable[[], Cost]) -> dict[str, float]:
    """The least of several samples of each, taken in turns: what a request takes when nothing gets in its way."""
    in_turns(variants, 1)
    return {name: min(cost.process for cost in samples) for name, samples in in_turns(variants, ROUNDS).items()}


def test_asgi_overhead(make_usage: Callable[..., Usage]) -> None:
    usage = make_usage(dimensions=("project",), counters=("records",), flush_interval=1e6)
    loop = asyncio.new_event_loop()
    others: dict[str, Any] = {}
    if find_spec("prometheus_fastapi_instrumentator") is not None:
        others["peer"] = asgi_sampler(peers.instrumentator(apps.starlette_app), loop, REQUESTS)
    found = least(
        bare=asgi_sampler(peers.pass_through(apps.starlette_app), loop, REQUESTS),
        ours=with_sums(asgi_sampler(apps.starlette_app(usage), loop, REQUESTS), usage),
        reference=reference,
        **others,
    )
    loop.close()
    added = found["ours"] - found["bare"]
    assert added < MOST_ASGI * found["reference"], found
    assert "peer" not in found or added < found["peer"] - found["bare"], found


def test_wsgi_overhead(make_usage: Callable[..., Usage]) -> None:
    usage = make_usage(dimensions=("project",), counters=("records",), flush_interval=1e6)
    found = least(
        bare=wsgi_sampler(peers.wsgi_pass_through(apps.flask_app), REQUESTS),
        ours=with_sums(wsgi_sampler(apps.flask_app(usage), REQUESTS), usage),
        reference=reference,
    )
    assert found["ours"] - found["bare"] < MOST_WSGI * found["reference"], found
