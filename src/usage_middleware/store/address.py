"""Where Redis is: parses and checks a URL, before anything is connected."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote

from usage_middleware.errors import ConfigurationError

ServerKind = Literal["redis", "cluster", "sentinel", "embedded"]

SCHEMES = "redis://, rediss://, unix://, redis+cluster:// and redis+sentinel://"
_REDIS_PORT = 6379
_SENTINEL_PORT = 26379
_NODE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:,/@\s]*)(?::(?P<port>\d{1,5}))?")
_NUMBERS = {"socket_timeout": float, "socket_connect_timeout": float, "max_connections": int, "db": int}
_TEXTS = frozenset(
    {"username", "password", "client_name", "sentinel_username", "sentinel_password"}
    | {"ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"}
)
_BOOLEANS = frozenset({"ssl_check_hostname", "socket_keepalive"})


class Limits(NamedTuple):
    """How long a client waits, in seconds: for a connection, and for an answer."""

    connect: float
    answer: float


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a URL.

    Attributes:
        kind: one server, a cluster, or sentinels that know where the server is.
        label: the URL without user, password and options, for messages.
        nodes: (host, port); of a unix socket none.
        path: the path of a unix socket; None of a server with nodes.
        service: the name under which sentinels know the server.
        tls: True for `rediss`.
        options: connection arguments: user name, password, db, time limits, certificates. Not shown.
    """

    kind: ServerKind
    label: str
    nodes: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    service: str | None = None
    tls: bool = False
    options: dict[str, Any] = field(default_factory=dict, repr=False)


def parse(url: str) -> Address:
    """Parse a Redis URL.

    - `redis://[user:password@]host[:port][/db]`, `rediss://` the same over TLS
    - `unix://[user:password@]/path/to/socket[?db=0]`
    - `redis+cluster://[user:password@]host[:port][,host[:port]...]` (TLS: `rediss+cluster://`)
    - `redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/db]` (TLS: `rediss+sentinel://`); user and
      password are the server's, those of the sentinels are `?sentinel_username=` and `?sentinel_password=`

    Options after `?`: `db`, `username`, `password`, `client_name`, `socket_timeout`, `socket_connect_timeout` (seconds),
    `socket_keepalive`, `max_connections`, and the `ssl_...` ones of redis-py.

    >>> parse("redis+sentinel://:secret@one,two:26380/orders/1")
    Address(kind='sentinel', label='redis+sentinel://one:26379,two:26380/orders/1', nodes=(('one', 26379), ('two', 26380)), \
path=None, service='orders', tls=False)

    Raises:
        ConfigurationError: it has none of these forms. The message never repeats the user, the password or the options.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in _READERS:
        shown = f", not {scheme.lower()}://" if found and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,31}", scheme) else ""
        raise ConfigurationError(f"a Redis URL begins with {SCHEMES}{shown}")
    # Not urlsplit: it refuses several nodes of which one is an IPv6 address, in some versions of Python.
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    netloc, slash, path = rest.partition("/")
    options = _options(query)
    if fragment or ("@" in path and scheme.lower() != "unix"):
        raise ConfigurationError("percent-encode the characters / ? # and @ in the user and password of a Redis URL")
    user_info, _, nodes = netloc.rpartition("@")
    if not nodes.isascii():
        raise ConfigurationError("write the host of a Redis URL in ASCII (xn--...)")
    return _READERS[scheme.lower()](scheme.lower(), nodes, unquote(slash + path), {**_credentials(user_info), **options})


def _credentials(user_info: str) -> dict[str, Any]:
    user, _, password = user_info.partition(":")
    given = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}


def _options(query: str) -> dict[str, Any]:
    return {name: _option(name, value) for name, value in parse_qsl(query, keep_blank_values=True)}


def _option(name: str, value: str) -> Any:
    try:
        if name in _NUMBERS:
            return _NUMBERS[name](value)
    except ValueError:
        raise ConfigurationError(f"the option {name} of the Redis URL must be a number") from None
    if name in _TEXTS:
        return value
    if name in _BOOLEANS:
        return value.lower() in ("1", "true", "yes")
    allowed = ", ".join(sorted({*_NUMBERS, *_TEXTS, *_BOOLEANS}))
    raise ConfigurationError(f"the Redis URL has an option that it can't have; it can have {allowed}")


def _server(scheme: str, nodes: str, path: str, options: dict[str, Any]) -> Address:
    found = _nodes(scheme, nodes, _REDIS_PORT)
    if len(found) > 1:
        raise ConfigurationError(f"{scheme}:// names one server; for several use redis+cluster:// or redis+sentinel://")
    if path.strip("/"):
        options = {"db": _database(scheme, path.strip("/")), **options}
    return Address("redis", f"{scheme}://{_joined(found)}{path}", found, tls=scheme == "rediss", options=options)


def _unix(scheme: str, nodes: str, path: str, options: dict[str, Any]) -> Address:
    if nodes or path in ("", "/"):
        raise ConfigurationError("a unix:// URL needs the whole path of a socket, as in unix:///run/redis/redis.sock")
    return Address("redis", f"unix://{path}", path=path, options=options)


def _cluster(scheme: str, nodes: str, path: str, options: dict[str, Any]) -> Address:
    found = _nodes(scheme, nodes, _REDIS_PORT)
    if path.strip("/") not in ("", "0") or options.pop("db", 0) != 0:
        raise ConfigurationError(f"a {scheme}:// URL ends after its nodes: a cluster has database 0 alone")
    return Address("cluster", f"{scheme}://{_joined(found)}", found, tls=scheme.startswith("rediss"), options=options)


def _sentinel(scheme: str, nodes: str, path: str, options: dict[str, Any]) -> Address:
    found = _nodes(scheme, nodes, _SENTINEL_PORT)
    service, _, database = path.strip("/").partition("/")
    if not service:
        raise ConfigurationError(f"a {scheme}:// URL names the service: {scheme}://host:port[,host:port]/service[/db]")
    if database:
        options = {"db": _database(scheme, database), **options}
    label = f"{scheme}://{_joined(found)}{path}"
    return Address("sentinel", label, found, service=service, tls=scheme.startswith("rediss"), options=options)


_READERS = {
    "redis": _server,
    "rediss": _server,
    "unix": _unix,
    "redis+cluster": _cluster,
    "rediss+cluster": _cluster,
    "redis+sentinel": _sentinel,
    "rediss+sentinel": _sentinel,
}


def _nodes(scheme: str, text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_node(scheme, part, default_port) for part in text.split(","))


def _node(scheme: str, text: str, default_port: int) -> tuple[str, int]:
    found = _NODE.fullmatch(text)
    port = int(found["port"] or default_port) if found else 0
    if found is None or not 0 < port < 65536:
        raise ConfigurationError(f"the {scheme}:// URL must name hosts as host or host:port, with a port from 1 to 65535")
    return unquote(found["host"]).strip("[]") or "localhost", port


def _joined(nodes: tuple[tuple[str, int], ...]) -> str:
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in nodes)


def _database(scheme: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(f"the database of a {scheme}:// URL is a number, as in {scheme}://.../0")
    return int(text)
