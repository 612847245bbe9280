"""Starts the examples under real web servers, calls them, and reads what they counted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import redis

from tests.support import eventually, free_port
from usage_middleware.options import Settings
from usage_middleware.store.schema import Schema

EXAMPLES = Path(__file__).parents[1] / "examples"
FASTAPI = str(EXAMPLES / "fastapi_app")
FLASK = str(EXAMPLES / "flask_app")


def uvicorn(port: int, *options: str) -> list[str]:
    """The command that serves the FastAPI example."""
    return [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", FASTAPI, "--port", str(port), *options]


def gunicorn(port: int, *options: str) -> list[str]:
    """The command that serves the Flask example, without gunicorn's socket in the home directory."""
    command = [sys.executable, "-m", "gunicorn", "app:app", "--chdir", FLASK, "--bind", f"127.0.0.1:{port}"]
    return [*command, "--no-control-socket", *options]


def request(method: str, port: int, path: str, **options: Any) -> httpx2.Response:
    """One request to a port of this machine, on a connection of its own.

    `verify=False` keeps httpx2 from loading the CA certificates for each request, which takes 40 ms.
    """
    return httpx2.request(method, f"http://127.0.0.1:{port}{path}", **{"timeout": 20, "verify": False, **options})


@dataclass
class Serving:
    """A running server, and the statuses of the calls to it."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path
    statuses: list[int] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """The number of calls it has answered."""
        return len(self.statuses)

    def call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Make one call, on a new connection, so that any worker may get it."""
        answer = request(method, self.port, path, **options)
        self.statuses.append(answer.status_code)
        return answer

    def call_all(self, calls: list[tuple[str, str, dict[str, Any]]]) -> None:
        """Make many calls, eight at a time."""
        with ThreadPoolExecutor(8) as pool:
            for answer in [pool.submit(self.call, method, path, **options) for method, path, options in calls]:
                answer.result()

    def view(self, path: str, key: str) -> dict[str, Any]:
        """The answer of a view to this key. Views are not counted."""
        answer = request("GET", self.port, path, headers={"X-API-Key": key})
        assert answer.status_code == 200, answer.text
        report: dict[str, Any] = answer.json()
        return report

    def is_counted(self, client: redis.Redis, namespace: str, *orgs: str) -> bool:
        """True if Redis has as many calls as were answered."""
        return counted(client, namespace, *orgs) >= self.sent

    def stop(self) -> None:
        """Send SIGTERM and wait until it exits."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def is_up(self) -> bool:
        """True if it answers. A connection is tried first: while the server starts, that costs less than a request."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            request("GET", self.port, "/usage/nothing", timeout=5)
        except (OSError, httpx2.TransportError):
            return False
        return True


@contextmanager
def serving(command: list[str], port: int, **environment: str) -> Iterator[Serving]:
    """Start a server and wait until it answers; stop it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("ab") as output:
            process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output)
        running = Serving(port, process, log)
        try:
            eventually(running.is_up, 60)
            yield running
            running.stop()
            assert "Traceback" not in log.read_text(), log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@contextmanager
def serving_example(
    kind: str, options: tuple[str, ...], redis_url: str, namespace: str, **environment: str
) -> Iterator[Serving]:
    """Serve an example (`uvicorn`: FastAPI, `gunicorn`: Flask) that counts in this Redis and namespace."""
    port = free_port()
    command = (uvicorn if kind == "uvicorn" else gunicorn)(port, *options)
    variables = {"USAGE_REDIS_URL": redis_url, "USAGE_NAMESPACE": namespace, "USAGE_FLUSH_INTERVAL": "0.2", **environment}
    with serving(command, port, **variables) as running:
        yield running


def counted(client: redis.Redis, namespace: str, *orgs: str) -> int:
    """The number of calls of these organisations in this month and, in its first hour, the month before."""
    schema, now = Schema(Settings(namespace=namespace)), datetime.now(UTC)
    months = {f"{now:%Y-%m}", f"{datetime.fromtimestamp(now.timestamp() - 3600, UTC):%Y-%m}"}
    hashes: list[dict[Any, Any]] = [client.hgetall(schema.series(org, "1d", month)) for org in orgs for month in months]
    return sum(int(number) for fields in hashes for name, number in fields.items() if name.endswith(b" calls"))


def workers(client: redis.Redis, namespace: str) -> int:
    """The number of workers that have reported."""
    return int(client.zcard(Schema(Settings(namespace=namespace)).workers))
