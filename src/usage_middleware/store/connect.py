"""Makes synchronous redis-py clients of our own: for a URL, like a client of the application's, for the embedded server.

Only this module imports redis-py at the top, and only `store.engine` imports this module, when it first connects.
"""

from __future__ import annotations

# Sockets need it to find a host. Imported now, since a fork does not wait for a thread that connects.
import encodings.idna  # noqa: F401
import socket
from inspect import signature
from itertools import takewhile
from threading import RLock
from typing import TYPE_CHECKING, Any, cast

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, ClusterPipeline
from redis.connection import AbstractConnection, Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from usage_middleware.errors import ConfigurationError
from usage_middleware.store.address import SCHEMES, Address, Limits, ServerKind
from usage_middleware.store.deadline import acquire, limited

if TYPE_CHECKING:
    from usage_middleware.store.embedded.server import EmbeddedServer

#: Of the arguments that every connection of redis-py takes, those that say how to log in, and to which database.
_LOGIN = frozenset({"db", "username", "password", "credential_provider", "client_name"})


class GivenClient:
    """A client of the application's. It shows where Redis is and how to log in, and is never used itself.

    Attributes:
        kind: one server, a cluster or sentinels.
        label: what to call the server in messages; holds no password.

    Raises:
        ConfigurationError: it is no synchronous redis-py client.
    """

    def __init__(self, client: object) -> None:
        self.kind: ServerKind = "redis"
        if isinstance(client, redis.RedisCluster):
            self.kind, self.label = "cluster", "the given client's cluster"
        elif not isinstance(client, redis.Redis):
            raise ConfigurationError(_why_not(client))
        elif isinstance(client.connection_pool, SentinelConnectionPool):
            self.kind, self.label = "sentinel", f"the given client's service {client.connection_pool.service_name}"
        else:
            options = client.connection_pool.connection_kwargs
            place = options.get("path") or f"{options.get('host')}:{options.get('port')}"
            self.label = f"the given client's {place}"
        self.client: Any = client


def connect(source: Address | GivenClient | EmbeddedServer, limits: Limits) -> Any:
    """A new client with a pool of its own. That of a cluster asks for the nodes at once; others do no I/O."""
    if isinstance(source, Address):
        return _connect_to(source, limits)
    if not isinstance(source, GivenClient):
        return _client(EmbeddedConnection, {**_common(limits), "embedded": source})
    if source.kind == "cluster":
        return _cluster_like(source.client, limits)
    pool = source.client.connection_pool
    return _sentinel_like(pool, limits) if source.kind == "sentinel" else _client_like(pool, limits)


class UnixConnection(UnixDomainSocketConnection):
    """redis-py's, without its AttributeError where the server does not accept in time."""

    def _connect(self) -> socket.socket:
        try:
            found: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        except TimeoutError:
            raise ConnectionRefusedError("the server did not accept the connection in time") from None
        return found


class EmbeddedConnection(UnixConnection):
    """Starts the embedded server before it connects, and again where it is gone."""

    def __init__(self, *, embedded: EmbeddedServer, **options: Any) -> None:
        super().__init__(path=str(embedded.socket), **options)  # type: ignore[no-untyped-call]
        self._embedded = embedded

    def _connect(self) -> socket.socket:
        self._embedded.join()
        try:
            found = super()._connect()
        except OSError:
            self._embedded.revive()
            found = super()._connect()
        self._embedded.require_own(found)
        return found


class _DriversLock:
    """A lock that the driver holds while it waits for Redis: whoever waits for it has an end, and others compute meanwhile."""

    def __init__(self) -> None:
        self._lock = RLock()

    def __enter__(self) -> None:
        if not acquire(self._lock):
            raise TimeoutError("another thread asks for the nodes of the cluster")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class ClusterOf62(redis.RedisCluster):
    """That of redis-py 6.2, without an argument that it gives to its own pipelines, and warns of."""

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        """A pipeline."""
        return ClusterPipeline(
            nodes_manager=self.nodes_manager,
            commands_parser=self.commands_parser,
            startup_nodes=cast(Any, self.nodes_manager.startup_nodes),
            result_callbacks=self.result_callbacks,
            cluster_response_callbacks=self.cluster_response_callbacks,
            reinitialize_steps=self.reinitialize_steps,
            retry=self.retry,
            lock=self._lock,
            transaction=transaction,
        )


def _connect_to(address: Address, limits: Limits) -> Any:
    options = {**_common(limits), **address.options}
    if address.kind == "cluster":
        return _cluster(address.nodes, {**options, "connection_class": SSLConnection if address.tls else Connection})
    if address.kind == "sentinel":
        login = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
        tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
        sentinel = _sentinel(address.nodes, {**login, **tls, "ssl": address.tls}, limits)
        managed = SentinelManagedSSLConnection if address.tls else SentinelManagedConnection
        return _of_service(sentinel, address.service, {**options, "connection_class": managed})
    if address.path is not None:
        return _client(UnixConnection, {**options, "path": address.path})
    host, port = address.nodes[0]
    return _client(SSLConnection if address.tls else Connection, {**options, "host": host, "port": port})


def _client_like(pool: ConnectionPool, limits: Limits) -> Any:
    known = pool.connection_class
    options = {**_shown(pool.connection_kwargs, known), **_common(limits)}
    return _client(UnixConnection if known is UnixDomainSocketConnection else known, options)


def _cluster_like(client: redis.RedisCluster, limits: Limits) -> Any:
    manager = client.nodes_manager
    nodes = tuple((node.host, node.port) for node in manager.startup_nodes.values())
    given = manager.connection_kwargs
    known = given.get("connection_class", SSLConnection if given.get("ssl") else Connection)
    options = {**_shown(given, known), **_common(limits), "connection_class": known}
    return _cluster(nodes, {**options, "address_remap": getattr(manager, "address_remap", None)})


def _sentinel_like(pool: SentinelConnectionPool, limits: Limits) -> Any:
    given = pool.sentinel_manager
    peers = [peer.connection_pool.connection_kwargs for peer in given.sentinels]
    nodes = tuple((peer["host"], peer["port"]) for peer in peers)
    sentinel = _sentinel(nodes, _shown(given.sentinel_kwargs), limits, given.min_other_sentinels)
    options = {**_shown(pool.connection_kwargs, pool.connection_class), **_common(limits)}
    how = {"connection_class": pool.connection_class, "is_master": pool.is_master}
    return _of_service(sentinel, pool.service_name, {**options, **how})


def _client(connection_class: type, options: dict[str, Any]) -> Any:
    return redis.Redis.from_pool(ConnectionPool(connection_class=limited(connection_class), **options))


def _cluster(nodes: tuple[tuple[str, int], ...], options: dict[str, Any]) -> Any:
    options = {**options, "connection_class": limited(options["connection_class"])}
    options.pop("ssl", None)
    startup = [ClusterNode(host, port) for host, port in nodes[1:]]  # type: ignore[no-untyped-call]
    # Only with a URL does the driver take a connection class for its nodes.
    host, port = nodes[0]
    url = f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}"
    cluster = ClusterOf62 if redis.__version__.startswith("6.2.") else redis.RedisCluster
    found: Any = cluster(url=url, startup_nodes=startup, **options)
    # A lock that redis-py from 7 on holds while it asks for the nodes again.
    if hasattr(found.nodes_manager, "_initialization_lock"):
        found.nodes_manager._initialization_lock = _DriversLock()
    return found


def _sentinel(nodes: tuple[tuple[str, int], ...], options: dict[str, Any], limits: Limits, others: int = 0) -> Sentinel:
    # Several sentinels may have to be asked before one answers.
    shorter = Limits(limits.connect / 2, limits.answer / 2)
    found = Sentinel(nodes, others, {**options, **_common(shorter)})  # type: ignore[no-untyped-call]
    for peer in found.sentinels:
        peer.connection_pool.connection_class = limited(peer.connection_pool.connection_class)
    return found


def _of_service(sentinel: Sentinel, service: str | None, options: dict[str, Any]) -> Any:
    options = {**options, "connection_class": limited(options["connection_class"])}
    return redis.Redis.from_pool(SentinelConnectionPool(service, sentinel, **options))  # type: ignore[no-untyped-call]


def _common(limits: Limits) -> dict[str, Any]:
    """The arguments of every connection.

    Without retries: one of redis-py's would count a call twice. Chunks are numbered, and the recorder sends them again.
    """
    return {
        "socket_connect_timeout": limits.connect,
        "socket_timeout": limits.answer,
        "protocol": 2,
        "decode_responses": False,
        "encoding": "utf-8",
        "encoding_errors": "strict",
        "retry": Retry(NoBackoff(), 0),
    }


def _shown(options: dict[str, Any], connection_class: type = SSLConnection) -> dict[str, Any]:
    """The arguments of a client that say where Redis is, over which TLS, and how to log in.

    Those are what a connection class takes beyond all connections. The rest stays with the client: its decoding, its
    cache, and what its pool adds, which a second pool must not share.
    """
    own = takewhile(lambda base: base is not AbstractConnection, connection_class.__mro__)
    names = {"ssl", *_LOGIN}.union(*(signature(base).parameters for base in own))
    return {name: value for name, value in options.items() if name in names}


def _why_not(given: object) -> str:
    if isinstance(given, (redis.asyncio.Redis, redis.asyncio.RedisCluster)):
        return "an asyncio client can't be used: pass a synchronous redis.Redis, or a URL"
    if isinstance(given, Sentinel):
        return 'pass the client that the sentinels lead to: sentinel.master_for("service")'
    return f"Redis is given as a URL ({SCHEMES}) or a redis-py client, not as {type(given).__name__}"
