"""Makes synchronous redis-py clients of our own: for an address, or like a client that the user has."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple, Protocol

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from usage_middleware.errors import ConfigurationError
from usage_middleware.store.address import SCHEMES, Address, ServerKind, parse

#: redis-py's connections carry things of their pool and client that a copy must not share.
_NOT_COPIED = frozenset(
    {"connection_pool", "parser_class", "retry_on_timeout", "retry_on_error", "cache", "cache_config", "cache_factory"}
    | {"event_dispatcher", "himport_registry", "redis_connect_func", "himport_fieldsets", "legacy_responses"}
)
_NOT_COPIED_PREFIXES = ("maint", "orig_", "oss_cluster")


class Limits(NamedTuple):
    """How long a client waits, in seconds: for a connection, and for an answer."""

    connect: float
    answer: float


class Connector(Protocol):
    """Makes clients of one server.

    Attributes:
        kind: one server, a cluster, sentinels, or the embedded server.
        label: what to call the server in messages; holds no password.
    """

    kind: ServerKind
    label: str

    def connect(self, limits: Limits) -> Any:
        """A new client with a pool of its own. That of a cluster asks for the nodes at once; others do no I/O."""


def connector(source: object) -> Connector:
    """What makes clients for a URL, or like the redis-py client that is given.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(source, str):
        return _OfAddress(parse(source))
    if isinstance(source, (redis.asyncio.Redis, redis.asyncio.RedisCluster)):
        raise ConfigurationError("an asyncio client can't be used: pass a synchronous redis.Redis, or a URL")
    if isinstance(source, redis.RedisCluster):
        return _LikeCluster(source)
    if isinstance(source, redis.Redis):
        if isinstance(source.connection_pool, SentinelConnectionPool):
            return _LikeSentinel(source.connection_pool)
        return _LikeClient(source.connection_pool)
    if isinstance(source, Sentinel):
        raise ConfigurationError('pass the client that the sentinels lead to: sentinel.master_for("service")')
    raise ConfigurationError(f"Redis is given as a URL ({SCHEMES}) or a redis-py client, not as {type(source).__name__}")


class UnixConnection(UnixDomainSocketConnection):
    """redis-py's, without its AttributeError where the server does not accept in time."""

    def _connect(self) -> socket.socket:
        try:
            found: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        except TimeoutError:
            raise ConnectionRefusedError("the server did not accept the connection in time") from None
        return found


def ours(limits: Limits) -> dict[str, Any]:
    """The connection arguments that are the same everywhere.

    A retry of the driver's counts a call twice, hence none; the recorder's chunks are numbered and sent again by itself.
    """
    return {
        "socket_connect_timeout": limits.connect,
        "socket_timeout": limits.answer,
        "protocol": 2,
        "decode_responses": False,
        "encoding": "utf-8",
        "encoding_errors": "strict",
    }


def no_retry() -> Retry:
    """A command is sent once."""
    return Retry(NoBackoff(), 0)


class _OfAddress:
    def __init__(self, address: Address) -> None:
        self._address = address
        self.kind = address.kind
        self.label = address.label

    def connect(self, limits: Limits) -> Any:
        options = {**ours(limits), **self._address.options}
        if self.kind == "cluster":
            return _cluster(self._address.nodes, {**options, "ssl": self._address.tls})
        if self.kind == "sentinel":
            return self._behind_sentinels(limits, options)
        return _client(self._connection_class(), {**options, **self._place()})

    def _connection_class(self) -> type:
        if self._address.path is not None:
            return UnixConnection
        return SSLConnection if self._address.tls else Connection

    def _place(self) -> dict[str, Any]:
        if self._address.path is not None:
            return {"path": self._address.path}
        host, port = self._address.nodes[0]
        return {"host": host, "port": port}

    def _behind_sentinels(self, limits: Limits, options: dict[str, Any]) -> Any:
        login = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
        tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
        asking = {**ours(_shorter(limits)), **login, **tls, "ssl": self._address.tls, "retry": no_retry()}
        sentinel = Sentinel(self._address.nodes, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
        pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
            self._address.service, sentinel, **options, ssl=self._address.tls, retry=no_retry()
        )
        return redis.Redis.from_pool(pool)


class _LikeClient:
    kind: ServerKind = "redis"

    def __init__(self, pool: ConnectionPool) -> None:
        self._class = UnixConnection if pool.connection_class is UnixDomainSocketConnection else pool.connection_class
        self._options = _copied(pool.connection_kwargs)
        place = self._options.get("path") or f"{self._options.get('host')}:{self._options.get('port')}"
        self.label = f"the given client's {place}"

    def connect(self, limits: Limits) -> Any:
        return _client(self._class, {**self._options, **ours(limits)})


class _LikeSentinel:
    kind: ServerKind = "sentinel"

    def __init__(self, pool: SentinelConnectionPool) -> None:
        self._pool = pool
        self._options = _copied(pool.connection_kwargs)
        self.label = f"the given client's service {pool.service_name}"

    def connect(self, limits: Limits) -> Any:
        given = self._pool.sentinel_manager
        asking = {**_copied(given.sentinel_kwargs), **ours(_shorter(limits)), "retry": no_retry()}
        places = [peer.connection_pool.connection_kwargs for peer in given.sentinels]
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            [(place["host"], place["port"]) for place in places], given.min_other_sentinels, asking
        )
        pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
            self._pool.service_name, sentinel, connection_class=self._pool.connection_class,
            is_master=self._pool.is_master, **{**self._options, **ours(limits), "retry": no_retry()},
        )  # fmt: skip
        return redis.Redis.from_pool(pool)


class _LikeCluster:
    kind: ServerKind = "cluster"

    def __init__(self, client: redis.RedisCluster) -> None:
        manager = client.nodes_manager
        self._nodes = tuple((node.host, node.port) for node in manager.startup_nodes.values())
        self._options = _copied(manager.connection_kwargs)
        self._address_remap = getattr(manager, "address_remap", None)
        self.label = "the given client's cluster"

    def connect(self, limits: Limits) -> Any:
        return _cluster(self._nodes, {**self._options, **ours(limits)}, address_remap=self._address_remap)


def _client(connection_class: type, options: dict[str, Any]) -> Any:
    pool = ConnectionPool(connection_class=connection_class, **{**options, "retry": no_retry()})
    return redis.Redis.from_pool(pool)


def _cluster(nodes: tuple[tuple[str, int], ...], options: dict[str, Any], **cluster: Any) -> Any:
    startup = [ClusterNode(host, port) for host, port in nodes]  # type: ignore[no-untyped-call]
    return redis.RedisCluster(startup_nodes=startup, retry=no_retry(), **cluster, **options)


def _copied(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in options.items() if name not in _NOT_COPIED and not name.startswith(_NOT_COPIED_PREFIXES)
    }


def _shorter(limits: Limits) -> Limits:
    # Several sentinels may have to be asked before one answers.
    return Limits(limits.connect / 2, limits.answer / 2)
