"""A small load generator, used where wrk is not installed. Each connection sends its next request when it has the answer."""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial

import msgspec

from benchmarks.apps import KINDS


class _Connection(asyncio.Protocol):
    """One connection: it sends requests until the deadline and records how long each answer took."""

    def __init__(self, number: int, keys: int, deadline: float, took: list[float]) -> None:
        self._turn = number
        self._keys = keys
        self._deadline = deadline
        self._took = took
        self._left = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        key, kind = self._turn % self._keys, KINDS[self._turn // self._keys % len(KINDS)]
        self._turn += 31
        self._begun = time.perf_counter()
        self._transport.write(b"GET /v1/%s/7 HTTP/1.1\r\nhost: x\r\nx-api-key: sk_%026d\r\n\r\n" % (kind.encode(), key))

    def data_received(self, data: bytes) -> None:
        self._left += data
        head, found, body = self._left.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        self._left = b""
        now = time.perf_counter()
        self._took.append(now - self._begun)
        if now < self._deadline:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.done.set_result(None)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


async def _load(port: int, connections: int, seconds: float, keys: int) -> list[float]:
    took: list[float] = []
    loop, deadline = asyncio.get_running_loop(), time.perf_counter() + seconds
    made = [
        await loop.create_connection(partial(_Connection, number, keys, deadline, took), "127.0.0.1", port)
        for number in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    return took


if __name__ == "__main__":
    port, connections, keys = (int(argument) for argument in sys.argv[1:4])
    took = sorted(asyncio.run(_load(port, connections, float(sys.argv[4]), keys)))
    shares = (0.5, 0.99, 0.999)
    print(
        msgspec.json.encode(
            [len(took) / float(sys.argv[4]), *(took[int(len(took) * share)] * 1000 for share in shares), took[-1] * 1000]
        ).decode()
    )
