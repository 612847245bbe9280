"""Under uvicorn and gunicorn: throughput and latency with and without the middleware, in turns, the flusher running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.load import Load, load, tool
from benchmarks.measure import spread
from benchmarks.tables import table
from tests.support import ServerProcess, eventually, free_port

COMMANDS: Mapping[str, Sequence[str]] = {
    "uvicorn, FastAPI": (
        "uvicorn", "benchmarks.served:asgi", "--factory", "--no-access-log", "--log-level", "warning", "--port",
    ),
    "gunicorn, 4 threads, Flask": (
        "gunicorn", "benchmarks.served:wsgi()", "-k", "gthread", "--threads", "4", "--keep-alive", "30",
        "--log-level", "warning", "-b",
    ),
}  # fmt: skip
BARE, OURS = "bare", "counted"


def run(quick: bool) -> str:
    """The tables of this part."""
    rounds, seconds = (2, 6) if quick else (5, 6)
    rows = [row for name in COMMANDS for row in _compare(name, 100, rounds, seconds)]
    rows += _compare("uvicorn, FastAPI", 1_000, max(rounds - 2, 1), 11)
    header = ["server", "API keys", "", "requests a second", "p50, ms", "p99, ms", "p99.9, ms", "worst, ms"]
    return (
        f"One worker, 16 connections, load from {tool()} on the same machine, flushed every 5 s; medians and quartiles of "
        f"{rounds} turns. With 1,000 keys each flush carries 5,000 distinct series.\n\n{table(header, rows)}"
    )


def _compare(name: str, keys: int, rounds: int, seconds: float) -> list[Sequence[object]]:
    found: dict[str, list[Load]] = {BARE: [], OURS: []}
    with ExitStack() as stack:
        redis = stack.enter_context(ServerProcess())
        ports = {BARE: stack.enter_context(_serve(name, None)), OURS: stack.enter_context(_serve(name, redis.url))}
        for port in ports.values():
            load(port, 1, keys)
        for number in range(rounds):
            for side in (BARE, OURS) if number % 2 == 0 else (OURS, BARE):
                found[side].append(load(ports[side], seconds, keys))
    return [*(_row(name, keys, side, many) for side, many in found.items()), _ratio(name, keys, found)]


def _row(name: str, keys: int, side: str, many: Sequence[Load]) -> Sequence[object]:
    rate = spread([one.rate for one in many])
    times = (spread(samples).text(2) for samples in list(zip(*many, strict=True))[1:])
    return name, f"{keys:,}", side, rate.text(0), *times


def _ratio(name: str, keys: int, found: Mapping[str, Sequence[Load]]) -> Sequence[object]:
    pairs = list(zip(found[OURS], found[BARE], strict=True))
    ratios = (spread([ours[place] / bare[place] for ours, bare in pairs]).text(2) for place in range(5))
    return name, f"{keys:,}", "counted / bare", *ratios


@contextmanager
def _serve(name: str, redis_url: str | None) -> Iterator[int]:
    """A server on a free port, up to its end."""
    port = free_port()
    address = str(port) if "uvicorn" in name else f"127.0.0.1:{port}"
    environment = {**os.environ, "BENCHMARK_REDIS_URL": redis_url or ""}
    process = subprocess.Popen([sys.executable, "-m", *COMMANDS[name], address], env=environment)
    try:
        eventually(lambda: _answers(port), 20)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/items/1", timeout=2) as found:
            return bool(found.status == 200)
    except OSError:
        return False
