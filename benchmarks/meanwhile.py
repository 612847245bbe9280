"""What the host's own requests notice of dear questions: how long they take alone, and while ten questions run at once.

`benchmarks.heavy` prints it. The host is a FastAPI application under uvicorn: each of its requests waits two milliseconds for
something else, then checks fifty rows, which takes a millisecond or two. They come in at a fixed rate, whether or not the last
ones are answered. Seconds alone and seconds meanwhile take turns, since other work on the machine comes and goes.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks import apps
from tests.support import Clock, eventually, free_port
from usage_middleware import UsageMiddleware, Viewer
from usage_middleware.web import mount_usage

#: Requests of the host a second, how many seconds they are measured at a time, and how often.
RATE, SECONDS, ROUNDS = 200, 4.5, 2
AT_ONCE = 10
_ORDERS = b"GET /v1/orders/7 HTTP/1.1\r\nhost: x\r\nx-api-key: sk_1\r\n\r\n"


class Order(BaseModel):
    """A row of the host's answers."""

    id: int
    name: str
    price: float
    tags: list[str]
    at: datetime


class Waits(NamedTuple):
    """How long the host's requests took, milliseconds."""

    p50: float
    p99: float
    worst: float


async def orders(customer: int) -> list[Order]:
    """What the host does for a request."""
    await asyncio.sleep(0.002)
    row = {"name": "a thing", "price": "9.90", "tags": ["red", "round"], "at": "2026-11-20T13:45:20Z"}
    return [Order.model_validate({"id": customer + number, **row}) for number in range(50)]


def app() -> FastAPI:
    """For uvicorn: the host, with the usage API of the organisation that the environment names."""
    options: dict[str, Any] = msgspec.json.decode(os.environ["MEANWHILE_OPTIONS"])
    usage = apps.new_usage(os.environ["MEANWHILE_URL"], clock=Clock(), **options)
    host = FastAPI()
    host.get("/v1/orders/{customer}")(orders)
    host.add_middleware(UsageMiddleware, usage=usage)
    viewer = Viewer.organization(os.environ["MEANWHILE_ORG"])
    mount_usage(host, "/usage", usage, auth=lambda _: viewer, cache_seconds=0, limit=None)
    return host


@contextmanager
def served(url: str, options: Mapping[str, Any], org: str) -> Iterator[int]:
    """The port of the host, in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "benchmarks.meanwhile:app", "--port", str(port)]
    told = {"MEANWHILE_URL": url, "MEANWHILE_OPTIONS": msgspec.json.encode(options).decode(), "MEANWHILE_ORG": org}
    with subprocess.Popen([*command, "--log-level", "error", "--no-access-log"], env={**os.environ, **told}) as process:
        try:
            eventually(lambda: _ask(port, "/v1/orders/7") == 200, 20)
            yield port
        finally:
            process.terminate()


def _ask(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
    except OSError:
        return 0
    finally:
        connection.close()
    return answer.status


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_ORDERS)
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(length)


async def _waits(port: int, seconds: float) -> list[float]:
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
    took: list[float] = []

    async def ask(due: float) -> None:
        pair = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        await _one(*pair)
        idle.append(pair)
        took.append(time.perf_counter() - due)

    begun = time.perf_counter()
    tasks = []
    for number in range(int(RATE * seconds)):
        due = begun + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(due)))
    await asyncio.gather(*tasks)
    return took


def _summed_up(took: list[float]) -> Waits:
    took = sorted(took)
    return Waits(*(took[min(len(took) - 1, int(len(took) * share))] * 1000 for share in (0.5, 0.99, 1)))


class Measured(NamedTuple):
    """The host's requests alone and meanwhile, and the statuses of the answers to the questions."""

    alone: Waits
    meanwhile: Waits
    statuses: list[int]


def measure(port: int, asked: int, path: str, rounds: int = ROUNDS) -> Measured:
    """How long the host's requests take, alone and while ten ask a question again and again, on the port `asked`.

    Who asks is a process of its own: its threads must not keep the one that measures waiting.
    """
    alone, meanwhile, statuses = list[float](), list[float](), list[int]()
    for _ in range(rounds):
        alone += asyncio.run(_waits(port, SECONDS))
        arguments = [str(asked), f"/usage{path}", str(SECONDS + 1)]
        with subprocess.Popen([sys.executable, "-m", "benchmarks.meanwhile", *arguments], stdout=subprocess.PIPE) as asking:
            time.sleep(0.7)
            meanwhile += asyncio.run(_waits(port, SECONDS))
            told, _ = asking.communicate()
        statuses += [int(status) for status in told.split()]
    return Measured(_summed_up(alone), _summed_up(meanwhile), statuses)


def ask_on(port: int, path: str, seconds: float) -> list[int]:
    """Ask from ten threads for so long; the statuses. After 429 they wait as a client does that reads `Retry-After: 1`."""
    until, statuses = time.monotonic() + seconds, list[int]()

    def ask() -> None:
        while time.monotonic() < until:
            statuses.append(_ask(port, path))
            time.sleep(statuses[-1] == 429)

    threads = [threading.Thread(target=ask) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


if __name__ == "__main__":
    print(*ask_on(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
