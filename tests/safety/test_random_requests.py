"""Random keys, paths, methods, hosts and tags through a real server: memory stays flat, and totals agree to the call.

A million of them, in some ten minutes: `USAGE_FULL_SAFETY=1 pytest -s tests/safety/test_random_requests.py`. Another number:
`USAGE_SAFETY_REQUESTS=100000`.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.safety.flooded import METHODS as KNOWN_METHODS
from tests.serving import request
from tests.support import ServerProcess, eventually, free_port, there
from usage_middleware import KeyInfo, Usage, Viewer

FULL = os.environ.get("USAGE_FULL_SAFETY") == "1"
REQUESTS = int(os.environ.get("USAGE_SAFETY_REQUESTS", 1_000_000 if FULL else 6_000))
CONNECTIONS, PARTS, CUSTOMERS = 16, 10, 5
STATUSES = (200, 200, 201, 302, 400, 401, 403, 404, 409, 422, 429, 500, 503)
MEGABYTE = 2**20

pytestmark = pytest.mark.slow


class Asked(NamedTuple):
    """One request, and for whom it is to be counted."""

    raw: bytes
    org: str


def random_request(chance: random.Random) -> Asked:
    """Anything that a server lets through."""
    word = chance.randbytes(chance.randrange(1, 24)).hex()
    path = chance.choice((f"/items/{word}", f"/{word}", f"/status/{chance.choice(STATUSES)}", f"/%00{word}?{word}"))
    lines = [f"{chance.choice(KNOWN_METHODS)} {path} HTTP/1.1", f"Host: {word}.example", f"X-Project: {_tag(chance, word)}"]
    customer = chance.random() < 0.2
    if customer:
        lines.append(f"Authorization: Bearer sk_customer_{chance.randrange(CUSTOMERS)}")
    if not customer or chance.random() < 0.5:
        lines.append(f"{chance.choice(('X-API-Key', 'apikey'))}: {word}")
    return Asked("\r\n".join([*lines, "", ""]).encode("latin-1"), "acme" if customer else "default")


def _tag(chance: random.Random, word: str) -> str:
    return chance.choice(("", word, f"({word})", f"{word}:{{*}}", "(other)", "search"))


async def ask(port: int, many: list[Asked]) -> None:
    """Ask on one connection, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for one in many:
        writer.write(one.raw)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if length is not None:
            await reader.readexactly(int(length[1]))
    writer.close()
    await writer.wait_closed()


async def ask_all(port: int, many: list[Asked]) -> None:
    """Ask on several connections at once."""
    await asyncio.gather(*(ask(port, many[number::CONNECTIONS]) for number in range(CONNECTIONS)))


@contextmanager
def flooded(url: str, namespace: str, log: Path) -> Iterator[tuple[int, int]]:
    """The port and the process of a server."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.safety.flooded:app", "--port", str(port), "--no-access-log"]
    environment = {**os.environ, "USAGE_REDIS_URL": url, "USAGE_NAMESPACE": namespace}
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            eventually(lambda: _is_up(port))
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(20)


def _is_up(port: int) -> bool:
    try:
        return request("GET", port, "/control/stats").status_code == 200
    except Exception:
        return False


def resident(pid: int) -> int:
    """How much memory a process has, bytes."""
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read in /proc")
def test_random_requests(namespace: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    sent: Counter[str] = Counter()
    worker, redis_memory = [], []
    with (
        ServerProcess() as server,
        Usage(server.url, namespace=namespace, dimensions=("project",), counters=("records",)) as usage,
    ):
        for number in range(CUSTOMERS):
            usage.keys.put("acme", KeyInfo(f"key_{number}", "A customer's"), secret=f"sk_customer_{number}")
        with flooded(server.url, namespace, tmp_path / "log") as (port, pid), server.client() as client:
            for _ in range(PARTS):
                many = [random_request(chance) for _ in range(REQUESTS // PARTS)]
                asyncio.run(ask_all(port, many))
                sent.update(one.org for one in many)
                worker.append(resident(pid))
                redis_memory.append(client.info("memory")["used_memory"])
            assert request("GET", port, "/control/flush").json() is True
            stats = request("GET", port, "/control/stats").json()
        _check_totals(usage, sent)
        assert (stats["dropped"], stats["dropped_unresolved"], stats["lost"]) == ({}, 0, {})
        assert len(there(usage.reader.by_key(org="default", period="24h").keys)) <= 100 + 2
    print([f"{megabytes // MEGABYTE} MB" for megabytes in worker], [f"{found // MEGABYTE} MB" for found in redis_memory])
    # A part is time for new slots; what grows with requests would grow tenfold.
    assert worker[-1] - worker[1] < 24 * MEGABYTE
    assert redis_memory[-1] - redis_memory[1] < 24 * MEGABYTE


def _check_totals(usage: Usage, sent: Counter[str]) -> None:
    for org in sent:
        assert usage.reader.summary(org=org, period="24h").total_calls == sent[org]
        assert not usage.reconcile(org).differences
    everybody = usage.reader.summary(Viewer.operator(), period="24h")
    assert everybody.total_calls == sent.total()
    keys = there(usage.reader.by_key(org="acme", period="24h").keys)
    assert sum(key.request_count for key in keys) == sent["acme"]
    assert {key.key_id for key in keys} == {f"key_{number}" for number in range(CUSTOMERS)}
