"""Workers come and go, gracefully or not: what they answered is counted once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest

from tests.faults.calling import Callers
from tests.faults.harness import put_keys, usage_of
from tests.faults.ledger import Ledger, assert_equal
from tests.faults.proxy import Loss, Proxy
from tests.faults.webserver import KINDS, command, environment
from tests.serving import Serving, serving
from tests.support import ServerProcess, eventually, free_port


class Place:
    """A server, a proxy before it, and a namespace, for workers in processes of their own."""

    def __init__(self, server: ServerProcess, proxy: Proxy, namespace: str) -> None:
        self.server = server
        self.proxy = proxy
        self.namespace = namespace
        self.ledger = Ledger()
        with usage_of(server.url, namespace) as usage:
            put_keys(usage)

    @contextmanager
    def serve(self, kind: str, *options: str, **usage_options: Any) -> Iterator[Serving]:
        """A web server whose recorder goes through the proxy."""
        port = free_port()
        variables = environment(self.proxy.url, self.namespace, **usage_options)
        with serving(command(kind, port, *options), port, **variables) as running:
            yield running

    def check(self) -> None:
        """Compare every number."""
        with self.server.client() as client:
            assert_equal(client, self.namespace, self.ledger)


@pytest.fixture
def place(namespace: str) -> Iterator[Place]:
    with ExitStack() as ending:
        server = ending.enter_context(ServerProcess())
        proxy = ending.enter_context(Proxy(server.port))
        yield Place(server, proxy, namespace)


def settled(running: Serving) -> bool:
    """Have a server deliver now; whether it could."""
    found: bool = httpx2.get(f"http://127.0.0.1:{running.port}/control/flush", timeout=20).json()
    return found


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("uvicorn", ()),
        ("uvicorn", ("--workers", "2")),
        ("gunicorn", ("--workers", "2", "--threads", "2")),
        ("gunicorn", ("--workers", "2", "--threads", "2", "--preload")),
        ("gunicorn", ("--workers", "2", "--threads", "2", "--max-requests", "50", "--max-requests-jitter", "20")),
    ],
    ids=["uvicorn", "uvicorn-workers", "gunicorn", "preload", "max-requests"],
)
def test_servers_and_their_workers(place: Place, kind: str, options: tuple[str, ...]) -> None:
    with place.serve(kind, *options) as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on(40)
        place.proxy.lose(Loss.REPLY, times=3)
        callers.go_on(40)
        place.proxy.hang_up(reset=True)
        callers.go_on(120 if "--max-requests" in options else 40)
    place.check()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_in_the_middle_of_traffic(place: Place, kind: str, how: signal.Signals) -> None:
    with place.serve(kind, flush_interval=60) as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on()
        running.process.send_signal(how)
        running.process.wait(20)
    with place.serve(kind) as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on()
    place.check()


def test_a_worker_dies_and_another_takes_its_place(place: Place) -> None:
    """SIGKILL without a journal loses what was not yet flushed: here nothing, as no call came since."""
    with place.serve("uvicorn") as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on()
        with callers.paused():
            eventually(lambda: settled(running))
            running.process.kill()
            running.process.wait(20)
    with place.serve("uvicorn") as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on()
    place.check()
