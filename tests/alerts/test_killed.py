"""Workers that are killed: each threshold is created once, and its alert delivered at least once, always with the same id."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from standardwebhooks import Webhook as Verifier

from tests.alerts.receiver import receiving
from tests.alerts.worker import PLAN
from tests.support import ServerProcess, eventually, examples
from usage_middleware.alerts.delivery import LEASE_SECONDS
from usage_middleware.plans.plan import Quota

pytestmark = pytest.mark.slow
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAbCdEfGhIjk="


class Worker:
    """One process."""

    def __init__(self, options: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "tests.alerts.worker", json.dumps(options)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._input: IO[str] = self.process.stdin  # type: ignore[assignment]
        self._output: IO[str] = self.process.stdout  # type: ignore[assignment]

    def begun(self) -> Worker:
        """It, once it is ready."""
        assert self._output.readline() == "ready\n"
        return self

    def tell(self, calls: int) -> None:
        """Have it count calls."""
        self._input.write(f"{calls}\n")
        self._input.flush()

    def counted(self) -> None:
        """Wait until it has."""
        assert self._output.readline()

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        self._input.close()
        self._output.close()


@contextmanager
def worker(options: dict[str, Any]) -> Iterator[Worker]:
    found = Worker(options)
    try:
        yield found.begun()
    finally:
        found.kill()


@pytest.mark.parametrize(("killed_in", "before"), [("lease", 0), ("settle", 1)])
def test_a_webhook_is_delivered_though_a_worker_is_killed(
    server: ServerProcess, namespace: str, tmp_path: Path, killed_in: str, before: int
) -> None:
    """Between the creation of an alert and its delivery, and between its delivery and the note of that."""
    with receiving(tmp_path) as receiver:
        options = {
            "redis": server.url, "namespace": namespace, "began": time.monotonic(),
            "url": receiver.url, "secret": SECRET, "ca": receiver.ca,
        }  # fmt: skip
        with worker({**options, "killed_in": killed_in}) as first:
            first.tell(10)
            assert first.process.wait(60) == -9
        assert len(receiver.delivered) == before
        with worker({**options, "later": LEASE_SECONDS + 1}) as second:
            second.tell(1)
            eventually(lambda: len(receiver.delivered) > before)
            eventually(lambda: not _waiting(server, namespace))
        delivered = receiver.delivered
    assert len(delivered) == before + 1
    assert len({one.headers["webhook-id"] for one in delivered}) == 1
    for one in delivered:
        assert Verifier(SECRET).verify(one.body, dict(one.headers))
        assert json.loads(one.body)["data"]["threshold_percent"] == 10


@pytest.mark.parametrize("seed", range(examples(2)))
def test_thresholds_are_reached_once_though_workers_are_killed_at_any_time(
    server: ServerProcess, namespace: str, tmp_path: Path, seed: int
) -> None:
    chance, told = random.Random(seed), tmp_path / "told"
    options = {"redis": server.url, "namespace": namespace, "began": time.monotonic(), "file": str(told)}
    workers = [Worker(options) for _ in range(4)]
    for one in workers:
        one.begun()
    for _ in range(14):
        place = chance.randrange(4)
        workers[place].tell(chance.randint(1, 18))
        if chance.random() < 0.3:
            # Whatever it is at: counting, creating an alert, delivering it.
            time.sleep(chance.random() * 0.03)
            workers[place].kill()
            workers[place] = Worker(options).begun()
        else:
            workers[place].counted()
    for one in workers:
        one.kill()
    with worker({**options, "later": LEASE_SECONDS + 1}) as last:
        last.tell(1)
        last.counted()
        eventually(lambda: _told(told) and not _waiting(server, namespace))
        used = _used(server, namespace)
        (quota,) = (part for part in PLAN.parts if isinstance(part, Quota))
        expected = {percent for percent in quota.alerts if used >= percent}
        eventually(lambda: {percent for _, percent in _told(told)} >= expected)
    assert {percent for _, percent in _told(told)} == expected
    assert len({id for id, _ in _told(told)}) == len(expected)


def _told(file: Path) -> list[tuple[str, int]]:
    """What was told so far. A worker may have been killed in the midst of a line, which is then told again."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            id, percent = json.loads(line)
        except ValueError:
            continue
        found.append((id, percent))
    return found


def _waiting(server: ServerProcess, namespace: str) -> bool:
    """Whether an alert is still to be delivered."""
    with server.client() as client:
        return bool(client.exists(f"{namespace}:{{acme}}:outbox") or client.exists(f"{namespace}:{{*}}:outbox"))


def _used(server: ServerProcess, namespace: str) -> int:
    with server.client() as client:
        found: Any = client.hgetall(f"{namespace}:{{acme}}:series:1d:2026-11")
    return sum(int(number) for field, number in found.items() if field.endswith(b" calls"))
