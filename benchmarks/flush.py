"""What a flush costs in this process and in Redis, by number of keys, workers and seconds between flushes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import msgspec

from benchmarks import apps
from benchmarks.probe import Probe, Work
from benchmarks.tables import table
from benchmarks.traffic import Traffic, record, requests
from tests.support import START, Clock, ServerProcess
from usage_middleware import Usage
from usage_middleware.store.writer import Writer

RATE = 5_000
#: The clock begins twenty seconds before a minute ends, so that every run has a full share of two minutes.
BEGIN = START - START % 60 + 40


class Case(NamedTuple):
    """One row of the table."""

    keys: int
    skew: float
    workers: int
    interval: int


CASES = (
    *(Case(keys, skew, 4, 5) for skew in (0.0, 1.1) for keys in (10, 100, 1_000, 10_000)),
    *(Case(100, 0.0, 4, interval) for interval in (1, 15, 60)),
    *(Case(keys, 0.0, 1, 5) for keys in (100, 10_000)),
)
QUICK = (Case(100, 0.0, 4, 5), Case(10_000, 0.0, 4, 5))


class Sent(NamedTuple):
    """What was sent: bytes, and the increments and Redis keys in them."""

    bytes: int
    increments: int
    redis_keys: int


class Result(NamedTuple):
    """The total cost of one case."""

    requests: int
    client_us: float
    redis: Work
    sent: Sent


def run(quick: bool) -> str:
    """The tables of this part."""
    rows = []
    for case in QUICK if quick else CASES:
        with ServerProcess() as server, server.client() as client:
            rows.append(_row(case, measure(case, server.url, Probe(client), 1 if quick else 2)))
    header = [
        "keys", "workers", "flushed every", "increments", "Redis keys", "bytes sent",
        "CPU of the flusher, µs", "CPU of Redis, µs", "script, µs an increment", "slowest command, ms",
    ]  # fmt: skip
    return f"{RATE} requests a second, 20 endpoints; everything a request unless it says otherwise.\n\n{table(header, rows)}"


def _row(case: Case, found: Result) -> Sequence[object]:
    shape = "even" if case.skew == 0 else f"Zipf {case.skew}"
    count = found.requests
    return (
        f"{case.keys:,}, {shape}",
        case.workers,
        f"{case.interval} s",
        f"{found.sent.increments / count:.1f}",
        f"{found.sent.redis_keys / count:.2f}",
        f"{found.sent.bytes / count:.0f}",
        f"{found.client_us / count:.1f}",
        f"{found.redis.cpu_us / count:.1f}",
        f"{found.redis.script_us / found.sent.increments:.2f}",
        f"{found.redis.slowest_us / 1000:.1f}",
    )


def measure(case: Case, url: str, probe: Probe, flushes: int) -> Result:
    """Let workers count so many flushes' worth of calls (20 s at least), and add up what the flushes cost."""
    seconds = max(case.interval * flushes, 20)
    clock = Clock(BEGIN)
    with watched() as payloads, ExitStack() as stack:
        usages = [stack.enter_context(_worker(url, clock)) for _ in range(case.workers)]
        for usage in usages:  # The first one brings the script, the pepper and the agreement.
            usage.flush()
        probe.restart()
        payloads.clear()
        client_us = sum(_interval(case, usages, clock, number) for number in range(seconds // case.interval))
        return Result(RATE * seconds, client_us, probe.work(), _sent(payloads))


def _worker(url: str, clock: Clock) -> Usage:
    return apps.new_usage(url, namespace="flush", flush_interval=1e9, clock=clock)


def _interval(case: Case, usages: Sequence[Usage], clock: Clock, number: int) -> float:
    calls = list(requests(Traffic(case.keys, skew=case.skew), RATE * case.interval, seed=number))
    for place, call in enumerate(calls):
        clock.advance(1 / RATE)
        record(usages[place % len(usages)].recorder, "acme", call)
    return sum(_flushed(usage) for usage in usages)


def _flushed(usage: Usage) -> float:
    """Microseconds. That calls are added up is a cost of requests, and in their table: it is done before."""
    usage.recorder._aggregate.sum()
    begun = time.process_time()
    assert usage.flush(), usage.recorder.stats().reason
    return (time.process_time() - begun) * 1e6


@contextmanager
def watched() -> Iterator[list[bytes]]:
    """Collects what every writer of this process sends."""
    payloads: list[bytes] = []
    plain = Writer._run

    def kept(self: Writer, keys: tuple[str, ...], payload: bytes, *digest: str) -> Any:
        payloads.append(payload)
        return plain(self, keys, payload, *digest)

    Writer._run = kept  # type: ignore[method-assign]
    try:
        yield payloads
    finally:
        Writer._run = plain  # type: ignore[method-assign]


def _sent(payloads: Sequence[bytes]) -> Sent:
    increments = redis_keys = 0
    for payload in payloads:
        registry, series, boards = msgspec.msgpack.decode(payload)[5:8]
        increments += sum(len(entry[2]) for entry in (*series, *boards)) + sum(len(entry[6]) for entry in registry)
        redis_keys += len(series) + len(boards) + len(registry)
    return Sent(sum(map(len, payloads)), increments, redis_keys)
