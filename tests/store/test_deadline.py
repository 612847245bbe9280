"""Every connection of ours has an end for each command, and waits of one thread for one purpose have one end together."""

from __future__ import annotations

import socket
import threading
import time
import warnings
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest
import redis
from redis.sentinel import Sentinel

from tests.support import ClusterProcess, ServerProcess
from usage_middleware import gil
from usage_middleware.store import deadline
from usage_middleware.store.deadline import LimitedConnection, TimedSocket, left, within
from usage_middleware.store.engine import Engine


@pytest.fixture
def pair() -> Iterator[tuple[TimedSocket, socket.socket]]:
    """A socket of ours whose commands may take 0.1 s, and the other end of it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = TimedSocket(ours, 0.1)
        found.begin()
        yield found, theirs


def test_an_operation_begins_with_the_first_wait_and_ends_with_the_outer_one() -> None:
    assert left() == inf
    with within(10) as outer, within(60):
        assert 9 < left() <= 10
        assert left(3) == 3
        outer.end_by(time.monotonic() - 1)
        assert left() < 0
        with pytest.raises(TimeoutError):
            deadline.check()
    assert left() == inf


def test_an_operation_is_of_its_thread() -> None:
    found: list[float] = []
    with within(0):
        other = threading.Thread(target=lambda: found.append(left()))
        other.start()
        other.join()
    assert found == [inf]


def test_a_lock_is_waited_for_no_longer() -> None:
    lock = threading.Lock()
    with lock, within(0), pytest.raises(TimeoutError), deadline.held(lock):
        pass
    with within(0), deadline.held(lock):
        assert lock.locked()
    assert not lock.locked()


def trickle(ours: TimedSocket, theirs: socket.socket) -> None:
    """Send a byte and receive it, again and again."""
    while True:
        theirs.sendall(b"x")
        assert ours.recv(10) == b"x"


def test_bytes_that_come_one_by_one_do_not_make_time(
    pair: tuple[TimedSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    # They come quickly here.
    monkeypatch.setattr(deadline, "BYTES_A_SECOND", 10**9)
    with pytest.raises(TimeoutError):
        trickle(ours, theirs)
    ours.begin()
    theirs.sendall(b"abc")
    assert ours.recv_into(bytearray(10)) >= 3, "the next command has time of its own"


def test_a_long_reply_may_take_longer(pair: tuple[TimedSocket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(bytes(50_000))
    assert ours.recv(65536)
    assert 2 < ours._rest < 3


def test_a_process_that_was_stopped_reads_what_has_come_meanwhile(
    pair: tuple[TimedSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    stops = iter(range(0, 1_000_000, 60))
    # The process is stopped for a minute, wherever it looks at the clock.
    monkeypatch.setattr(deadline, "monotonic", lambda: float(next(stops)))
    monkeypatch.setattr(ours, "_seconds", 10)
    ours.begin()
    ours.sendall(b"PING")
    theirs.sendall(b"PONG")
    assert ours.recv(10) == b"PONG"
    with pytest.raises(TimeoutError):
        ours.recv(10)


def test_what_is_not_taken_has_an_end_too(pair: tuple[TimedSocket, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        pair[0].sendall(bytes(100_000_000))


def test_no_time_means_no_wait(pair: tuple[TimedSocket, socket.socket]) -> None:
    pair[0].settimeout(0)
    with pytest.raises(BlockingIOError):
        pair[0].recv(1)


def test_another_thread_may_end_it(pair: tuple[TimedSocket, socket.socket]) -> None:
    ours, _ = pair
    ours.settimeout(None)
    ours._rest = inf
    with within(60) as operation:
        threading.Timer(0.05, operation.end_by, (0.0,)).start()
        with pytest.raises(TimeoutError):
            ours.recv(1)


class OwnConnection(redis.Connection):
    """An application's."""


GIVEN = {
    "tcp": "redis://one",
    "tls": "rediss://one",
    "unix": "unix:///run/one",
    "sentinel": "redis+sentinel://one/orders",
    "sentinel over tls": "rediss+sentinel://one/orders",
    "a client": redis.Redis("one"),
    "a client by unix": redis.Redis(unix_socket_path="/run/one"),
    "a client over tls": redis.Redis("one", ssl=True),
    "a client with a class": redis.Redis(connection_pool=redis.ConnectionPool(connection_class=OwnConnection, host="one")),
    "a sentinel's client": Sentinel([("one", 1)]).master_for("orders"),  # type: ignore[no-untyped-call]
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=list(GIVEN))
def test_every_connection_has_it(given: Any) -> None:
    for client in (Engine(given).client, Engine(given).read_client):
        pool = client.connection_pool
        assert issubclass(pool.connection_class, LimitedConnection)
        for peer in pool.sentinel_manager.sentinels if hasattr(pool, "sentinel_manager") else ():
            assert issubclass(peer.connection_pool.connection_class, LimitedConnection)


def test_pipelines_of_a_cluster_warn_of_nothing(cluster: ClusterProcess) -> None:
    """redis-py 6.2 warned of an argument of its own."""
    engine = Engine(cluster.url)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for transaction in (True, False):
            with engine.client.pipeline(transaction=transaction) as pipeline:
                pipeline.set("{a}", 1)
                pipeline.get("{a}")
                assert pipeline.execute()[-1] == b"1"
    engine.client.delete("{a}")
    engine.close()


def test_every_connection_of_a_cluster_has_it(cluster: ClusterProcess) -> None:
    with cluster.client() as given:
        for source in (cluster.url, given):
            engine = Engine(source)
            for node in engine.client.get_nodes():
                pool = engine.client.get_redis_connection(node).connection_pool
                assert issubclass(pool.connection_class, LimitedConnection)
            engine.close()


@pytest.mark.parametrize("url", ["url", "tcp_url"])
def test_no_time_left_to_connect_is_a_timeout(server: ServerProcess, url: str) -> None:
    engine = Engine(getattr(server, url))
    with deadline.within(0), pytest.raises(redis.exceptions.TimeoutError):
        engine.read_client.ping()
    assert engine.read_client.ping()
    engine.close()


class Watching(gil.Pace):
    """Notes when its thread goes away, and when it comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def asleep(self) -> None:
        self.seen.append("asleep")

    def awake(self) -> None:
        self.seen.append("awake")


@pytest.fixture
def watching() -> Iterator[Watching]:
    """The pace of this thread."""
    found = Watching()
    gil.set_pace(found)
    yield found
    gil.set_pace(None)


def test_others_have_the_turn_while_the_server_takes_nothing(
    pair: tuple[TimedSocket, socket.socket], watching: Watching
) -> None:
    pair[0].sendall(b"PING")
    assert watching.seen == ["awake"]
    watching.seen.clear()
    with pytest.raises(TimeoutError):
        pair[0].sendall(bytes(100_000_000))
    assert watching.seen[-2:] == ["asleep", "awake"]


def test_others_have_the_turn_while_the_server_accepts_no_connection(server: ServerProcess, watching: Watching) -> None:
    connection = Engine(server.tcp_url).read_client.connection_pool.make_connection()
    try:
        connection.connect()
        assert watching.seen[:2] == ["asleep", "awake"]
    finally:
        connection.disconnect()


def test_a_socket_that_another_thread_has_closed_is_a_broken_connection(
    pair: tuple[TimedSocket, socket.socket], watching: Watching
) -> None:
    pair[0].close()
    for step in (lambda: pair[0].recv(1), lambda: pair[0].sendall(b"x")):
        with pytest.raises(OSError, match="Bad file"):
            step()
    assert "asleep" not in watching.seen


def test_others_have_the_turn_while_another_thread_asks_for_the_nodes_of_a_cluster(
    cluster: ClusterProcess, watching: Watching
) -> None:
    """Who asks waits for its turn before it lets go of the driver's lock."""
    engine = Engine(cluster.url)
    nodes, asks, goes_on = engine.client.nodes_manager, threading.Event(), threading.Event()
    if not hasattr(nodes, "_initialization_lock"):
        pytest.skip("this driver has no such lock")

    def ask() -> None:
        with nodes._initialization_lock:
            asks.set()
            assert goes_on.wait(10)

    other = threading.Thread(target=ask)
    other.start()
    assert asks.wait(10)
    watching.seen.clear()
    with within(0.05), pytest.raises(TimeoutError):
        nodes.initialize()
    assert watching.seen == ["asleep", "awake"]
    goes_on.set()
    other.join(10)
    nodes.initialize()
    engine.close()


def test_who_has_nothing_to_wait_for_does_not_leave_its_turn_to_others(pair: tuple[TimedSocket, socket.socket]) -> None:
    ours, theirs = pair
    pace = Watching()
    gil.set_pace(pace)
    try:
        theirs.sendall(b"PONG")
        assert ours.recv(10) == b"PONG"
        assert pace.seen == ["awake"]
        pace.seen.clear()
        with pytest.raises(TimeoutError):
            ours.recv(10)
        assert pace.seen == ["asleep", "awake"] * (len(pace.seen) // 2)
        assert pace.seen
    finally:
        gil.set_pace(None)
