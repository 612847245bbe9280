"""Clients of the embedded server: to connect is to take a share in it, and to start it where it does not run."""

from __future__ import annotations

import os
import socket
from typing import Any

import redis
from redis.connection import ConnectionPool

from usage_middleware.store.address import ServerKind
from usage_middleware.store.connect import Limits, UnixConnection, no_retry, ours
from usage_middleware.store.embedded.server import EmbeddedServer


class EmbeddedConnection(UnixConnection):
    """A connection that has the server running before it connects."""

    def __init__(self, *, embedded: EmbeddedServer, **options: Any) -> None:
        super().__init__(path=str(embedded.socket), **options)  # type: ignore[no-untyped-call]
        self._embedded = embedded

    def _connect(self) -> socket.socket:
        self._embedded.join()
        try:
            return super()._connect()
        except OSError:
            self._embedded.revive()
            return super()._connect()


class Embedded:
    """The connector of the embedded server (see `store.connect.Connector`)."""

    kind: ServerKind = "embedded"

    def __init__(self, data_dir: str | os.PathLike[str] | None = None) -> None:
        self._server = EmbeddedServer(data_dir)
        self.data_dir = self._server.data_dir
        self.label = f"the embedded server in {self.data_dir}"

    def connect(self, limits: Limits) -> Any:
        """A new client with a pool of its own; the server starts with its first connection."""
        pool = ConnectionPool(connection_class=EmbeddedConnection, embedded=self._server, retry=no_retry(), **ours(limits))
        return redis.Redis.from_pool(pool)

    def leave(self) -> None:
        """Give back this process's share in the server."""
        self._server.leave()
