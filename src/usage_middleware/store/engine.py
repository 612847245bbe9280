"""The connection to Redis: clients of our own, made on first use in each process, for the writer and for the views."""

from __future__ import annotations

# redis-py needs this module, which can't be imported any more when the interpreter ends. The last flush may be the first one.
import concurrent.futures.thread  # noqa: F401
import os
from collections import defaultdict
from contextlib import AbstractContextManager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from usage_middleware import fork
from usage_middleware.store import deadline
from usage_middleware.store.address import Address, Limits, ServerKind, parse
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.driver_errors import guard

if TYPE_CHECKING:
    from usage_middleware.store.connect import GivenClient
    from usage_middleware.store.embedded.server import EmbeddedServer

#: The writer waits rather long: a chunk that is not acknowledged has to be sent again.
WRITE_LIMITS = Limits(connect=1.0, answer=3.0)
#: A view must answer within two seconds that Redis is away.
READ_LIMITS = Limits(connect=0.6, answer=1.2)


class Engine:
    """Redis, wherever it is.

    `source` is a URL (see `store.address.parse` for its forms), a synchronous redis-py client (`Redis`, `RedisCluster`, or one
    that a `Sentinel` made), or None: `$USAGE_REDIS_URL`, else the embedded server. A client only shows where Redis is and how
    to log in: ours are made like it, with our own time limits, without retries, and return bytes.

    The constructor connects to nothing and starts nothing. The first connection imports redis-py. After a fork the child makes
    connections of its own.

    Attributes:
        kind: `redis`, `cluster`, `sentinel` or `embedded`.
        label: where Redis is, for messages. Holds no password.
        damage: what was found damaged there.

    Raises:
        ConfigurationError: `source` is not one of these, or there is nothing to embed; says what to do.
    """

    def __init__(self, source: object = None, *, data_dir: str | os.PathLike[str] | None = None) -> None:
        self._source = _source(source if source is not None else os.environ.get("USAGE_REDIS_URL") or None, data_dir)
        self.kind: ServerKind = self._source.kind
        self.label = self._source.label
        self.damage = DamageLog()
        self._clients: dict[Limits, Any] = {}
        self._lock = RLock()
        #: One for each client: a cluster's asks for the nodes when it is made, and a view must not wait for the writer's.
        self._connecting: defaultdict[Limits, RLock] = defaultdict(RLock)
        fork.engines.add(self)

    @property
    def client(self) -> Any:
        """The writer's client: a `redis.Redis` or `redis.RedisCluster` that returns bytes and never retries."""
        return self._client(WRITE_LIMITS)

    @property
    def read_client(self) -> Any:
        """The views' client: as `client`, but it gives up sooner."""
        return self._client(READ_LIMITS)

    @property
    def embedded_data_dir(self) -> Path | None:
        """Where the embedded server keeps its data; None for any other Redis."""
        return getattr(self._source, "data_dir", None)

    def guard(self) -> AbstractContextManager[None]:
        """Inside it, errors of redis-py that mean "not now" are raised as `UsageUnavailable`, which says what to do next."""
        return guard(f"Redis ({self.label})")

    def close(self) -> None:
        """Close this process's connections; the last process to close stops the embedded server. It may be used again."""
        with self._lock:
            clients, self._clients = self._clients, {}
            for client in clients.values():
                client.close()
            leave = getattr(self._source, "leave", None)
            if leave is not None:
                leave()

    def __repr__(self) -> str:
        return f"<Engine {self.label}>"

    def _client(self, limits: Limits) -> Any:
        found = self._clients.get(limits)
        if found is None:
            with self._lock:
                connecting = self._connecting[limits]
            # A cluster's client asks for the nodes at once: what fails there fails as any command would.
            with self.guard(), deadline.held(connecting):
                found = self._clients.get(limits)
                if found is None:
                    found = self._clients[limits] = self._connect(limits)
        return found

    def _connect(self, limits: Limits) -> Any:
        with fork.importing:
            from usage_middleware.store.connect import connect
        return connect(self._source, limits)

    def after_fork_in_child(self) -> None:
        """Put the parent's connections aside: new ones are made on the next use."""
        _inherited.append(self._clients)
        self._clients = {}
        self._lock = RLock()
        self._connecting = defaultdict(RLock)


def is_cluster(client: Any) -> bool:
    """Whether a client is that of a cluster, whose keys lie on several nodes."""
    return hasattr(client, "get_node_from_key")


def _source(given: object, data_dir: str | os.PathLike[str] | None) -> Address | GivenClient | EmbeddedServer:
    if isinstance(given, str):
        return parse(given)
    if given is not None:
        from usage_middleware.store.connect import GivenClient

        return GivenClient(given)
    # Needs flock, which Windows does not have.
    from usage_middleware.store.embedded.server import EmbeddedServer

    return EmbeddedServer(data_dir)


#: A parent's clients, in its child. They are kept and never closed: closing one could wait forever for a lock that a thread
#: of the parent held.
_inherited: list[dict[Limits, Any]] = []
