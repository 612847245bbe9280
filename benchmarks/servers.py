"""Under uvicorn and gunicorn: throughput and latency, bare, counted and with the peers, in turns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

from benchmarks import peers
from benchmarks.load import Load, load, tool
from benchmarks.measure import in_turns, spread
from benchmarks.served import BARE, OURS
from benchmarks.tables import table
from tests.support import ServerProcess, eventually, free_port


class Server(NamedTuple):
    """A web server: its command up to the address, how it wants the address, and the peers of its framework."""

    command: Sequence[str]
    address: str
    peers: Mapping[str, peers.Make]


SERVERS: Mapping[str, Server] = {
    "uvicorn, FastAPI": Server(
        ("uvicorn", "benchmarks.served:asgi", "--factory", "--no-access-log", "--log-level", "warning", "--port"),
        "{port}",
        peers.FASTAPI,
    ),
    "gunicorn, 4 threads, Flask": Server(
        ("gunicorn", "benchmarks.served:wsgi()", "-k", "gthread", "--threads", "4", "--keep-alive", "30",
         "--log-level", "warning", "--no-control-socket", "-b"),
        "127.0.0.1:{port}",
        peers.FLASK,
    ),
}  # fmt: skip
HEADER = ("around the application", "requests a second", "p50, ms", "p99, ms", "p99.9, ms", "worst, ms")


def run(quick: bool) -> str:
    """The tables of this part."""
    rounds, seconds = (2, 6) if quick else (5, 6)
    parts = [_compare(name, 100, rounds, seconds) for name in SERVERS]
    parts.append(_compare("uvicorn, FastAPI", 1_000, max(rounds - 2, 1), 11))
    introduction = (
        f"One worker, 16 connections, load from {tool()} on the same machine, flushed every 5 s; medians and quartiles of "
        f"{rounds} turns, {max(rounds - 2, 1)} with 1,000 keys. With 1,000 keys each flush carries 5,000 distinct series; the "
        "peers do not count by key. Below each table: the same, divided by the bare application's in the same turn."
    )
    return "\n\n".join([introduction, *parts])


def _compare(name: str, keys: int, rounds: int, seconds: float) -> str:
    known = {peer: make for peer, make in SERVERS[name].peers.items() if peer not in peers.NO_PEERS}
    running, missing = peers.made(known)
    with ExitStack() as stack:
        redis = stack.enter_context(ServerProcess())
        ports = {around: stack.enter_context(_serve(name, around, redis.url)) for around in (BARE, OURS, *running)}
        for port in ports.values():
            load(port, 1, keys)
        found = in_turns({around: partial(load, port, seconds, keys) for around, port in ports.items()}, rounds)
    absolute = [[around, *_cells(loads)] for around, loads in found.items()]
    relative = [[f"{around} / {BARE}", *_ratios(loads, found[BARE])] for around, loads in found.items() if around != BARE]
    text = f"**{name}, {keys:,} API keys**\n\n{table(HEADER, absolute)}\n\n{table(HEADER, relative)}"
    return text + "".join(f"\n\n{peer} does not run here: {why}" for peer, why in missing.items())


def _cells(loads: Sequence[Load]) -> list[str]:
    rates, *times = zip(*loads, strict=True)
    return [spread(rates).text(0), *(spread(samples).text(2) for samples in times)]


def _ratios(loads: Sequence[Load], bare: Sequence[Load]) -> list[str]:
    pairs = list(zip(loads, bare, strict=True))
    return [spread([one[place] / other[place] for one, other in pairs]).text(2) for place in range(len(Load._fields))]


@contextmanager
def _serve(name: str, around: str, redis_url: str) -> Iterator[int]:
    """A server on a free port, stopped at the end."""
    port, server = free_port(), SERVERS[name]
    environment = {**os.environ, "BENCHMARK_AROUND": around, "BENCHMARK_REDIS_URL": redis_url}
    process = subprocess.Popen([sys.executable, "-m", *server.command, server.address.format(port=port)], env=environment)
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
