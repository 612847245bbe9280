"""Workers in processes of their own, that count into one namespace through one proxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.faults.harness import put_keys, usage_of
from tests.faults.ledger import Ledger, assert_equal, differences
from tests.faults.proxy import Proxy
from tests.faults.webserver import command, environment
from tests.serving import Serving, request, serving
from tests.support import ServerProcess, eventually, free_port


class Workplace:
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

    def check_soon(self) -> None:
        """Compare every number, as soon as others have sent what was left to them."""
        with self.server.client() as client, suppress(AssertionError):
            eventually(lambda: not differences(client, self.namespace, self.ledger), 60)
        self.check()

    def stored(self, org: str) -> int:
        """How many calls of an organisation are counted."""
        with self.server.client() as client:
            tree = r"\*" if org == "*" else org
            names = client.keys(f"{self.namespace}:{{{tree}}}:series:1d:????-??")
            fields = [pair for name in names for pair in client.hgetall(name).items()]
        return sum(int(calls) for field, calls in fields if field.endswith(b" calls"))


def settled(running: Serving) -> bool:
    """Have a server deliver now; whether it could."""
    found: bool = request("GET", running.port, "/control/flush").json()
    return found
