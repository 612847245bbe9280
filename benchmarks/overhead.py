"""Overhead of a request, in process: what each middleware adds to the bare application, in microseconds of CPU."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks import apps, django_app, peers
from benchmarks.calls import Cost, asgi_sampler, cost_since, cpu_now, wsgi_sampler
from benchmarks.measure import Spread, added, in_turns, spread
from benchmarks.tables import table
from tests.support import ServerProcess
from usage_middleware import Limit, Plan, Quota, Usage, UsageMiddleware, WSGIUsageMiddleware

BARE, OURS, PLAIN = "bare", "usage_middleware", "usage_middleware, without tag and counter"
PLANNED = "usage_middleware, plans declared"
#: Seconds between flushes: never. What a flush costs is measured separately.
NEVER = 1e9
#: Looked at after calls were counted, never by a request.
PLANS: Mapping[str, Any] = {
    "plans": (Plan("free", Limit("requests", 60), Quota("calls", 10_000), Quota("own", 1_000, by="key")),),
    "default_plan": "free",
}


class Framework(NamedTuple):
    """A framework, its application, and the peers that exist for it."""

    make: Callable[[Usage | None], Any]
    wrap: Callable[[Any, Usage], Any]
    peers: Mapping[str, peers.Make]
    is_asgi: bool


FRAMEWORKS: Mapping[str, Framework] = {
    "Starlette": Framework(apps.starlette_app, UsageMiddleware, peers.STARLETTE, True),
    "FastAPI": Framework(apps.fastapi_app, UsageMiddleware, peers.FASTAPI, True),
    "Flask": Framework(apps.flask_app, WSGIUsageMiddleware, peers.FLASK, False),
    "Django": Framework(django_app.django_app, WSGIUsageMiddleware, peers.DJANGO, False),
}


class Measured(NamedTuple):
    """The samples of one process by variant, and why some peers don't run."""

    samples: dict[str, list[Cost]]
    missing: dict[str, str]


def run(quick: bool) -> str:
    """The tables of this part."""
    requests, rounds = (300, 5) if quick else (2_000, 21)
    with ServerProcess() as server:
        parts = [_of_framework(name, server.url, requests, rounds) for name in FRAMEWORKS]
        return "\n\n".join([*parts, _with_flusher(server.url, 3 if quick else 9)])


def _of_framework(name: str, url: str, requests: int, rounds: int) -> str:
    known = FRAMEWORKS[name].peers
    groups = [[peer for peer in known if (peer in peers.APART) is apart] for apart in (False, True)]
    measured = [_in_process(name, url, group, requests, rounds) for group in groups if group]
    found: dict[str, tuple[Spread, Spread]] = {}
    for one in measured:
        found = {**_added(one.samples), **found}
    missing = {peer: why for one in measured for peer, why in one.missing.items()}
    bare = spread([cost.request for cost in measured[0].samples[BARE]])
    return f"**{name}**: the bare application takes {bare.text()} µs a request.\n\n{_table(found, missing)}"


def _added(samples: Mapping[str, Sequence[Cost]]) -> dict[str, tuple[Spread, Spread]]:
    """What each variant adds to the bare application: in the thread of the request, and in all threads."""
    within = added({name: [cost.request for cost in many] for name, many in samples.items()}, BARE)
    in_all = added({name: [cost.process for cost in many] for name, many in samples.items()}, BARE)
    return {name: (within[name], in_all[name]) for name in within}


def _table(found: Mapping[str, tuple[Spread, Spread]], missing: Mapping[str, str]) -> str:
    ours = found[OURS][0].median
    rows = [
        [name, within.text(), f"{within.median / ours:.1f}", in_all.text()]
        for name, (within, in_all) in sorted(found.items(), key=lambda row: row[1])
    ]
    rows += [[name, f"does not run here: {why}", "", ""] for name, why in missing.items()]
    return table(["around the application", "adds to a request, µs (quartiles)", "times ours", "in all threads, µs"], rows)


def _in_process(name: str, url: str, group: list[str], requests: int, rounds: int) -> Measured:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (name, url, group, requests, rounds))


def _measure(name: str, url: str, group: list[str], requests: int, rounds: int) -> Measured:
    framework = FRAMEWORKS[name]
    with _usage(url) as usage, _usage(url, **PLANS) as planned:
        made = {BARE: framework.make(None), OURS: framework.make(usage), PLAIN: framework.wrap(framework.make(None), usage)}
        made[PLANNED] = framework.make(planned)
        others, missing = peers.made({peer: framework.peers[peer] for peer in group})
        samplers = _samplers(framework, made | others, requests)
        in_turns(samplers, 1)
        return Measured(in_turns(samplers, rounds), missing)


def _usage(url: str, **more: Any) -> Usage:
    return apps.new_usage(url, namespace="overhead", flush_interval=NEVER, **more)


def _samplers(framework: Framework, made: Mapping[str, Any], requests: int) -> dict[str, Callable[[], Cost]]:
    if not framework.is_asgi:
        return {name: wsgi_sampler(app, requests) for name, app in made.items()}
    loop = asyncio.new_event_loop()
    return {name: asgi_sampler(app, loop, requests) for name, app in made.items()}


def _with_flusher(url: str, rounds: int) -> str:
    rows = [[name, rate, *_cpu(name, url, rate * 5, rounds)] for name in FRAMEWORKS for rate in (1_250, 5_000)]
    header = ["framework", "requests a second", "in the request, µs", "and adding up, µs", "and delivering, µs"]
    return f"All CPU of the process, 100 keys by 5 endpoints, flushed every 5 s:\n\n{table(header, rows)}"


def _cpu(name: str, url: str, requests: int, rounds: int) -> list[str]:
    framework = FRAMEWORKS[name]
    with apps.new_usage(url, namespace="flusher", flush_interval=NEVER) as usage:
        made = {BARE: framework.make(None), OURS: framework.make(usage)}
        drive = _samplers(framework, made, requests)
        flushed: list[float] = []

        def with_flush() -> Cost:
            cost = drive[OURS]()
            begun = cpu_now()
            usage.flush()
            flushed.append(cost_since(begun, requests).process)
            return cost

        samples = in_turns({BARE: drive[BARE], OURS: with_flush}, rounds)
    within, in_all = _added(samples)[OURS]
    everything = [
        one.process - bare.process + more for one, bare, more in zip(samples[OURS], samples[BARE], flushed, strict=True)
    ]
    return [within.text(), in_all.text(), spread(everything).text()]
