"""How many requests a second one Redis, and a cluster of three, can count, computed from their CPU time."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks import apps
from benchmarks.probe import Probe
from benchmarks.tables import table
from benchmarks.traffic import Traffic, record, requests
from tests.support import Clock, ClusterProcess, ServerProcess
from usage_middleware import Usage
from usage_middleware.store.schema import Schema

ORGANISATIONS, KEYS, WORKERS, INTERVAL = 300, 20, 4, 5


def run(quick: bool) -> str:
    """The tables of this part."""
    rates = (2_000,) if quick else (5_000, 20_000)
    rows = [_row(rate, tree, clustered) for rate in rates for tree in (True, False) for clustered in (False, True)]
    header = [
        "traffic, requests a second",
        "operator's tree",
        "Redis",
        "CPU a request, µs",
        "busiest node's share",
        "could count, requests a second",
    ]
    return (
        f"{ORGANISATIONS} organisations of {KEYS} keys, 20 endpoints, {WORKERS} workers, flushed every {INTERVAL} s. What "
        f"could be counted is where the busiest node's one core would be busy all the time.\n\n{table(header, rows)}"
        f"\n\n{_small_change(500 if quick else 5_000)}"
    )


def _small_change(many: int) -> str:
    """What matters where workers and organisations are many, and each of them does little."""
    with (
        ServerProcess() as server,
        server.client() as client,
        apps.new_usage(server.url, namespace="small", flush_interval=1e9) as usage,
    ):
        usage.flush()
        probe = Probe(client)
        for _ in range(200):
            usage.flush()
        sign = probe.work().cpu_us / 200
        probe.restart()
        for number, call in enumerate(requests(Traffic(5), many)):
            record(usage.recorder, f"org{number}", call)
        assert usage.flush()
        alone = probe.work().cpu_us / many
        now = int(time.time())
        _pretend_workers(client, Schema(usage.settings), now, 1_000)
        asked = statistics.median(_asking(usage, now) for _ in range(5))
    rows = [
        ["one call of an organisation that makes no other in these 5 s: µs of Redis", f"{alone:.0f}"],
        ["a worker's sign of life: µs of Redis", f"{sign:.0f}"],
        ["a view asks 1,000 workers how far they are: ms", f"{asked:.1f}"],
    ]
    return table(["where much is small", ""], rows)


def _pretend_workers(client: Any, schema: Schema, now: int, many: int) -> None:
    for number in range(many):
        client.zadd(schema.workers, {f"w{number}": now * 1000})
        client.hset(schema.worker(f"w{number}"), "flushed_through_ms", now * 1000)


def _asking(usage: Usage, now: int) -> float:
    begun = time.perf_counter()
    assert usage.reader.counters.complete_through(now) is not None
    return (time.perf_counter() - begun) * 1000


def _row(rate: int, operator_tree: bool, clustered: bool) -> Sequence[object]:
    with ClusterProcess() if clustered else ServerProcess() as redis:
        nodes = redis.nodes if isinstance(redis, ClusterProcess) else [redis]
        with ExitStack() as stack:
            probes = [Probe(stack.enter_context(node.client())) for node in nodes]
            count = _count(redis.url, rate, operator_tree, probes)
            spent = [probe.work().cpu_us for probe in probes]
    name = "cluster of three" if clustered else "one"
    shown = f"{sum(spent) / count:.1f}", f"{max(spent) / sum(spent):.0%}", f"{count / max(spent) * 1e6:,.0f}"
    return f"{rate:,}", "yes" if operator_tree else "no", name, *shown


def _count(url: str, rate: int, operator_tree: bool, probes: Sequence[Probe]) -> int:
    """Let four workers count ten seconds of traffic; returns the number of requests."""
    clock, chance = Clock(), random.Random(5)
    with ExitStack() as stack:
        options = {"namespace": "scale", "flush_interval": 1e9, "operator_tree": operator_tree, "clock": clock}
        usages = [stack.enter_context(apps.new_usage(url, **options)) for _ in range(WORKERS)]
        for usage in usages:
            usage.flush()
        for probe in probes:
            probe.restart()
        for number in range(2):
            _interval(usages, clock, rate, number, chance)
    return 2 * rate * INTERVAL


def _interval(usages: Sequence[Usage], clock: Clock, rate: int, number: int, chance: random.Random) -> None:
    for place, call in enumerate(requests(Traffic(KEYS), rate * INTERVAL, seed=number)):
        clock.advance(1 / rate)
        record(usages[place % WORKERS].recorder, f"org{chance.randrange(ORGANISATIONS)}", call)
    for usage in usages:
        assert usage.flush(), usage.recorder.stats().reason
