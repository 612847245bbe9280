"""What requests under uvicorn notice of a dense day that is packed in idle moments of the same process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks import apps
from benchmarks.load import Load, load, tool
from benchmarks.measure import spread
from benchmarks.memory import SIZES
from benchmarks.servers import HEADER
from benchmarks.tables import table
from benchmarks.traffic import record, requests
from tests.support import Clock, ServerProcess, eventually, free_port
from usage_middleware.periods import DAY
from usage_middleware.record import idle_packing

SIZE, ORG = SIZES[1], "dense"
OPTIONS: Mapping[str, Any] = {"operator_tree": False, "history": True}
KEYS, SECONDS = 100, 10
#: It takes no longer, seconds: then it tells of as many turns as there were.
MOST_SECONDS = 300.0


def asgi() -> Any:
    """For uvicorn. It looks at once whether something is to be packed."""
    idle_packing.EVERY = 1.0
    return apps.fastapi_app(apps.new_usage(os.environ["PACKING_URL"], namespace=os.environ["PACKING_NAMESPACE"], **OPTIONS))


def run(rounds: int) -> str:
    """The table."""
    ends = time.monotonic() + MOST_SECONDS
    with ExitStack() as stack:
        redis = stack.enter_context(ServerProcess())
        client = stack.enter_context(redis.client())
        _count_an_old_day(redis.url)
        ports = {name: stack.enter_context(_served(redis.url, name)) for name in ("idle", "packing")}
        for port in ports.values():
            load(port, 1, KEYS)
        before = _live(client)
        found = _in_turns(ports, rounds, ends)
        after = _live(client)
    rows = [[name, *_cells(loads)] for name, loads in found.items()]
    pairs = list(zip(found["packing"], found["idle"], strict=True))
    ratios = [spread([one[place] / other[place] for one, other in pairs]).text(2) for place in range(len(Load._fields))]
    text = (
        f"uvicorn, FastAPI, 16 connections, load from {tool()}; {len(pairs)} turns of {SECONDS} s. One process packs a day "
        f"of {SIZE.name} in idle moments, the other has nothing to pack. Of {before:,} Redis keys of half-hours, {after:,} "
        "were left"
    )
    return f"{text}:\n\n{table(HEADER, [*rows, ['packing / idle', *ratios]])}"


def _in_turns(ports: Mapping[str, int], rounds: int, ends: float) -> dict[str, list[Load]]:
    """One turn at least, then as many as there is time for."""
    found: dict[str, list[Load]] = {name: [] for name in ports}
    for number in range(rounds):
        if number and time.monotonic() + 2 * (SECONDS + 1) > ends:
            break
        names = sorted(ports, reverse=bool(number % 2))
        for name in names:
            found[name].append(load(ports[name], SECONDS, KEYS))
    return found


def _cells(loads: list[Load]) -> list[str]:
    rates, *times = zip(*loads, strict=True)
    return [spread(rates).text(0), *(spread(samples).text(2) for samples in times)]


def _count_an_old_day(url: str) -> None:
    """A day of calls that has been due for a while: in idle moments that takes minutes to pack."""
    clock = Clock(time.time())
    today = clock.now - clock.now % DAY
    with apps.new_usage(url, namespace="packing", flush_interval=1e9, clock=clock, **OPTIONS) as usage:
        for number, call in enumerate(requests(SIZE.traffic, SIZE.calls)):
            clock.set(today - 5 * DAY + number * DAY / SIZE.calls)
            record(usage.recorder, ORG, call)
        clock.set(today)
        usage.flush()


def _live(client: Any) -> int:
    """How many Redis keys of half-hours there are to pack."""
    return sum(1 for _ in client.scan_iter(match="packing:{dense}:*:30m:*", count=10_000))


@contextmanager
def _served(url: str, namespace: str) -> Iterator[int]:
    """A server on a free port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.while_packing:asgi", "--factory", "--port", str(port)]
    told = {"PACKING_URL": url, "PACKING_NAMESPACE": namespace}
    with subprocess.Popen([*command, "--log-level", "error", "--no-access-log"], env={**os.environ, **told}) as process:
        try:
            eventually(lambda: _is_listening(port), 60)
            yield port
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


def _is_listening(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
