"""Redis is found by every kind of URL and client, and says clearly when it can't serve."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from tests.faults import replication
from tests.support import ClusterProcess, ServerProcess, eventually, free_port
from usage_middleware.errors import ConfigurationError, UsageUnavailable
from usage_middleware.store.address import parse
from usage_middleware.store.engine import Engine

PASSWORD = "hunter2/secret"
QUOTED = "hunter2%2Fsecret"


@pytest.fixture(scope="module")
def protected() -> Iterator[ServerProcess]:
    """A server that asks for a password."""
    server = ServerProcess()
    server.start()
    with server.client() as client:
        client.config_set("requirepass", PASSWORD)
    yield server
    server.remove()


@pytest.fixture(scope="module")
def sentinel(server: ServerProcess) -> Iterator[int]:
    """The port of a real sentinel that knows `server` as the service `orders`."""
    watching = replication.sentinel(server)
    yield watching.port
    watching.remove()


def round_trip(engine: Engine, namespace: str) -> None:
    """Both clients work, return bytes and do not retry."""
    name = f"{namespace}:{{a}}:x"
    engine.client.set(name, b"\xff")
    assert engine.read_client.get(name) == b"\xff"
    assert engine.client.execute_command("EVAL", "return redis.call('GET', KEYS[1])", 1, name) == b"\xff"
    engine.close()


def test_tcp(server: ServerProcess, namespace: str) -> None:
    engine = Engine(server.tcp_url)
    assert engine.kind == "redis"
    assert engine.embedded_data_dir is None
    round_trip(engine, namespace)


def test_unix(server: ServerProcess, namespace: str) -> None:
    round_trip(Engine(server.url), namespace)


def test_a_database_may_be_chosen(server: ServerProcess, namespace: str) -> None:
    for url in (f"redis://127.0.0.1:{server.port}/3", f"redis://127.0.0.1:{server.port}?db=3", f"{server.url}?db=3"):
        engine = Engine(url)
        assert engine.client.connection_pool.connection_kwargs["db"] == 3
        round_trip(engine, namespace)


def test_cluster(cluster: ClusterProcess, namespace: str) -> None:
    engine = Engine(f"{cluster.url},127.0.0.1:{cluster.nodes[1].port}")
    assert engine.kind == "cluster"
    for org in range(12):
        engine.client.set(f"{namespace}:{{{org}}}:x", org)
    round_trip(engine, namespace)


def test_sentinel(sentinel: int, namespace: str) -> None:
    engine = Engine(f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel}/orders/2")
    assert engine.kind == "sentinel"
    round_trip(engine, namespace)


def test_a_service_that_the_sentinels_do_not_know(sentinel: int) -> None:
    engine = Engine(f"redis+sentinel://:{QUOTED}@127.0.0.1:{sentinel}/other?sentinel_password={QUOTED}")
    with pytest.raises(UsageUnavailable, match="sentinel") as failed, engine.guard():
        engine.client.ping()
    assert PASSWORD not in str(failed.value)
    engine.close()


def test_the_environment_names_redis(server: ServerProcess, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USAGE_REDIS_URL", server.url)
    engine = Engine()
    assert engine.kind == "redis"
    round_trip(engine, namespace)


def test_tls_is_asked_for() -> None:
    options = "ssl_ca_certs=/ca.pem&ssl_check_hostname=no"
    for url in ("rediss://host/1", "rediss+sentinel://host/orders"):
        pool = Engine(f"{url}?{options}").client.connection_pool
        connection = pool.make_connection() if hasattr(pool, "make_connection") else pool.connection_class
        assert issubclass(type(connection), redis.SSLConnection)
        assert connection.ca_certs == "/ca.pem"
        assert connection.check_hostname is False


CLIENTS = [
    {},
    {"decode_responses": True},
    {"protocol": 3, "decode_responses": True},
    {"socket_timeout": 77, "retry": Retry(NoBackoff(), 9), "health_check_interval": 30, "client_name": "app"},
    {"encoding": "latin-1"},
]


@pytest.mark.parametrize("options", CLIENTS)
@pytest.mark.parametrize("by", ["unix", "tcp"])
def test_a_client_shows_where_redis_is(server: ServerProcess, namespace: str, by: str, options: dict[str, Any]) -> None:
    place = {"unix_socket_path": str(server.socket)} if by == "unix" else {"host": "127.0.0.1", "port": server.port}
    with redis.Redis(db=4, **place, **options) as client:
        client.ping()
        engine = Engine(client)
        kept = engine.client.connection_pool.connection_kwargs
        assert (kept["db"], kept["socket_timeout"], kept["protocol"], kept["decode_responses"]) == (4, 3.0, 2, False)
        assert kept["retry"].get_retries() == 0
        round_trip(engine, namespace)
        assert client.ping(), "the given client is not closed"


class RegionalConnection(redis.SSLConnection):
    """A connection class of an application's own, with an argument of its own."""

    def __init__(self, *, region: str, **options: Any) -> None:
        super().__init__(**options)
        self.region = region


def test_a_client_shows_how_to_log_in_and_over_which_tls() -> None:
    options: dict[str, Any] = {"username": "app", "password": PASSWORD, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    pool = redis.ConnectionPool(
        connection_class=RegionalConnection, host="one", region="eu", health_check_interval=9, **options
    )
    found = Engine(redis.Redis(connection_pool=pool)).client.connection_pool.make_connection()
    assert (found.host, found.region, found.ca_certs, found.check_hostname) == ("one", "eu", "/ca.pem", False)
    assert (found.username, found.password) == ("app", PASSWORD)
    assert found.health_check_interval == 0, "what is no place and no login is ours"


def test_a_client_of_a_url_with_a_password(protected: ServerProcess, namespace: str) -> None:
    with redis.Redis.from_url(f"unix://:{QUOTED}@{protected.socket}", decode_responses=True) as client:
        round_trip(Engine(client), namespace)


def test_a_cluster_client(cluster: ClusterProcess, namespace: str) -> None:
    client = redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[2].port, decode_responses=True, protocol=3)
    engine = Engine(client)
    assert engine.kind == "cluster"
    round_trip(engine, namespace)
    assert client.get(f"{namespace}:{{none}}") is None
    client.close()


def test_a_client_that_a_sentinel_made(sentinel: int, namespace: str) -> None:
    found = Sentinel([("127.0.0.1", sentinel)], decode_responses=True, db=2)  # type: ignore[no-untyped-call]
    client = found.master_for("orders")  # type: ignore[no-untyped-call]
    engine = Engine(client)
    assert engine.kind == "sentinel"
    assert engine.client.connection_pool.connection_kwargs["db"] == 2
    round_trip(engine, namespace)
    client.close()
    for peer in found.sentinels:
        peer.close()


def test_what_is_not_a_synchronous_client_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="synchronous"):
        Engine(redis.asyncio.Redis())
    with pytest.raises(ConfigurationError, match="master_for"):
        Engine(Sentinel([("127.0.0.1", 1)]))  # type: ignore[no-untyped-call]
    with pytest.raises(ConfigurationError, match=r"redis\+cluster://"):
        Engine(42)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        f"valkey://:{QUOTED}@localhost",
        f":{QUOTED}@localhost",
        f"redis://:{PASSWORD}@localhost",
        f"redis+sentinel://:{PASSWORD}@localhost/orders",
        f"redis://:{QUOTED}@localhost:port",
        f"redis://:{QUOTED}@localhost:70000",
        f"redis://:{QUOTED}@one,two",
        f"redis://:{QUOTED}@localhost/db",
        f"redis://:{QUOTED}@localhost?db=x",
        f"redis://:{QUOTED}@localhost?{QUOTED}=1",
        f"redis://:{QUOTED}@[::1",
        f"redis://:{QUOTED}@loc℀lhost",
        f"unix://:{QUOTED}@relative/path",
        "unix://",
        f"redis+cluster://:{QUOTED}@localhost/1",
        f"redis+cluster://:{QUOTED}@localhost?db=2",
        f"redis+sentinel://:{QUOTED}@localhost",
        f"redis+sentinel://:{QUOTED}@localhost/orders/x",
    ],
)
def test_a_url_of_no_shape_is_refused_at_once_without_repeating_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Engine(url or "x")
    assert "hunter2" not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "nodes", "options"),
    [
        ("redis://", (("localhost", 6379),), {}),
        ("REDIS://host", (("host", 6379),), {}),
        ("redis://[::1]:7000/5", (("::1", 7000),), {"db": 5}),
        ("redis://user:p%40ss@host", (("host", 6379),), {"username": "user", "password": "p@ss"}),
        ("redis+cluster://:p@a,b:7000,[fe80::1]:1", (("a", 6379), ("b", 7000), ("fe80::1", 1)), {"password": "p"}),
        ("redis://host?socket_timeout=9.5&client_name=app", (("host", 6379),), {"socket_timeout": 9.5, "client_name": "app"}),
    ],
)
def test_what_a_url_says(url: str, nodes: tuple[tuple[str, int], ...], options: dict[str, Any]) -> None:
    assert (parse(url).nodes, parse(url).options) == (nodes, options)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "unix", "redis+sentinel"])
def test_no_password_in_reprs_messages_and_logs(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    place = {"unix": "/nowhere/socket", "redis+sentinel": f"127.0.0.1:{free_port()}/orders"}
    engine = Engine(f"{scheme}://user:{QUOTED}@{place.get(scheme, f'127.0.0.1:{free_port()}')}?client_name=app")
    with pytest.raises(UsageUnavailable) as failed, engine.guard():
        engine.client.ping()
    for shown in (repr(engine), engine.label, str(failed.value), repr(failed.value.__cause__), caplog.text):
        assert "hunter2" not in shown
    assert failed.value.__suppress_context__
    engine.close()


def test_a_wrong_password_is_told_as_such(protected: ServerProcess) -> None:
    for url in (f"unix://:wrong@{protected.socket}", protected.url):
        engine = Engine(url)
        with pytest.raises(UsageUnavailable, match="password"), engine.guard():
            engine.client.ping()
        engine.close()


def test_nothing_is_connected_before_the_first_use() -> None:
    for url in ("redis://192.0.2.1", "redis+cluster://192.0.2.1", "redis+sentinel://192.0.2.1/orders", "unix:///nowhere"):
        Engine(url).close()


@pytest.mark.slow
def test_a_silent_server_fails_a_view_within_two_seconds() -> None:
    with ServerProcess() as server:
        engines = [Engine(server.url), Engine(server.tcp_url)]
        engines.append(Engine(server.tcp_url))
        engines[2].read_client.ping()
        server.pause()
        for engine in engines:
            begun = time.monotonic()
            with pytest.raises(UsageUnavailable, match="did not answer in time"), engine.guard():
                engine.read_client.ping()
            assert time.monotonic() - begun < 2
            engine.close()


@pytest.mark.slow
def test_a_unix_server_that_does_not_accept_is_unavailable() -> None:
    with ServerProcess(tcp_backlog=1) as server:
        server.pause()
        engines = [Engine(f"{server.url}?socket_timeout=0.05&socket_connect_timeout=0.05") for _ in range(4)]
        for engine in engines:
            with pytest.raises(UsageUnavailable), engine.guard():
                engine.client.ping()
            engine.close()


@pytest.mark.slow
def test_a_command_is_sent_once() -> None:
    with ServerProcess() as server:
        engine = Engine(f"{server.url}?socket_timeout=0.2")
        engine.client.ping()
        server.pause()
        with pytest.raises(UsageUnavailable), engine.guard():
            engine.client.incr("once")
        server.resume()
        with server.client() as client:
            assert eventually(lambda: client.get("once")) == b"1"
        engine.close()


@pytest.mark.slow
def test_connections_come_back_after_a_restart() -> None:
    with ServerProcess() as server:
        engine = Engine(server.url)
        engine.client.ping()
        server.stop()
        with pytest.raises(UsageUnavailable), engine.guard():
            engine.client.ping()
        server.start()
        assert engine.client.ping()
        engine.close()


@pytest.mark.parametrize("kind", ["redis", "cluster"])
def test_a_forked_child_makes_its_own_connections(kind: str, server: ServerProcess, cluster: ClusterProcess) -> None:
    engine = Engine(server.url if kind == "redis" else cluster.url)
    name = f"fork-{kind}-{os.getpid()}"
    engine.client.set(name, "parent")
    inherited = engine.client
    child = os.fork()
    if child == 0:
        ok = engine.client is not inherited and engine.client.get(name) == b"parent"
        engine.close()
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert engine.client is inherited
    assert engine.client.get(name) == b"parent"
    engine.close()
