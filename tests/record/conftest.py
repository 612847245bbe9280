"""A recorder on a real server, whose flusher does nothing by itself, and a writer that fails where a test says so."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import fields
from typing import Any

import pytest

from tests.support import Clock, ServerProcess, quick_client
from usage_middleware.options import DeliveryOptions, Settings
from usage_middleware.record.recorder import Recorder
from usage_middleware.store.schema import Schema
from usage_middleware.store.writer import Writer

DELIVERY = {field.name for field in fields(DeliveryOptions)}
#: As long as it takes to try once.
AT_ONCE = 1e-9
MakeRecorder = Callable[..., Recorder]


class FaultyWriter(Writer):
    """Fails as the next of `faults` says, for organisations in `only` (all, where it is empty).

    `before` and `after` raise around the script; `garbage` sends what is no chunk.
    """

    def __init__(self, client: Callable[[], Any], schema: Schema) -> None:
        super().__init__(client, schema)
        self.faults: list[tuple[str, Exception]] = []
        self.only: set[str] = set()
        self.sent: list[tuple[str, int]] = []

    def send(self, worker: str, chunk: Any, previous: int, now: float, exempt: Collection[str] = (), **how: Any) -> Any:
        self.sent.append((chunk.org, chunk.number))
        self._org = chunk.org
        return super().send(worker, chunk, previous, now, exempt, **how)

    def _run(self, keys: tuple[str, ...], payload: bytes, *digest: str) -> Any:
        where, error = self.faults.pop(0) if self.faults and (not self.only or self._org in self.only) else ("", None)
        if where == "before" and error:
            raise error
        reply = super()._run(keys, payload if where != "garbage" else b"\x91\x07", *digest)
        if where == "after" and error:
            raise error
        return reply


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Any]:
    with server.client() as found:
        yield found


@pytest.fixture
def away() -> Any:
    """A client that reaches nobody."""
    return quick_client(unix_socket_path="/nowhere/at/all")


@pytest.fixture
def make_recorder(client: Any, namespace: str, clock: Clock) -> Iterator[MakeRecorder]:
    """`make_recorder(**options)`: options of `Settings`, `DeliveryOptions` and `Recorder`; flushes only when told to."""
    made: list[Recorder] = []

    def make(
        *,
        client: Any = client,
        monotonic: Clock | None = None,
        resolve: Callable[[Collection[bytes]], dict[bytes, tuple[str, str, bool]]] = lambda digests: {},
        writer: type[Writer] = FaultyWriter,
        **options: Any,
    ) -> Recorder:
        own = {name: options.pop(name) for name in ("known_keys", "routes") if name in options}
        told = {name: options.pop(name) for name in DELIVERY if name in options}
        usual = {"flush_interval": 3600, "clock": clock, "monotonic": monotonic or Clock(1000.0)}
        schema = Schema(Settings(**{"namespace": namespace, **options}))
        source = client if callable(client) else lambda: client
        recorder = Recorder(writer(source, schema), DeliveryOptions(**{**usual, **told}), resolve=resolve, **own)
        made.append(recorder)
        return recorder

    yield make
    for recorder in made:
        recorder.close()


@pytest.fixture
def counted(client: Any, namespace: str) -> Callable[..., int]:
    """`counted("acme")`: calls of an organisation as its days have them; `counted("acme", "dropped")`, ..."""

    def find(org: str = "acme", measure: str = "calls") -> int:
        key = f"{namespace}:{{{org}}}:series:1d:2026-11"
        return sum(int(value) for field, value in client.hgetall(key).items() if field.decode().endswith(f" {measure}"))

    return find
