"""The proxy loses what it is told to lose, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import redis

from tests.faults.proxy import Loss, Proxy
from tests.faults.resp import encoded
from tests.support import ServerProcess, eventually, quick_client


@pytest.fixture
def proxy(server: ServerProcess) -> Iterator[Proxy]:
    with Proxy(server.port) as running:
        yield running


@pytest.fixture
def through(proxy: Proxy) -> Iterator[redis.Redis]:
    with quick_client(host="127.0.0.1", port=proxy.port, socket_timeout=1) as client:
        yield client


def test_passes_everything_on(proxy: Proxy, through: redis.Redis, namespace: str) -> None:
    large = b"\r\n$" * 500_000
    through.set(namespace, large)
    with through.pipeline(transaction=True) as pipeline:
        pipeline.get(namespace)
        pipeline.lrange("nothing", 0, -1)
        pipeline.get("nothing")
        assert pipeline.execute() == [large, [], None]
    eventually(lambda: proxy.replies["EXEC"] == 1)
    assert proxy.requests["SET"] == proxy.replies["SET"] == 1
    through.delete(namespace)


@pytest.mark.parametrize(
    ("loss", "served"),
    [
        (Loss.REQUEST, False),
        (Loss.HALF_REQUEST, False),
        (Loss.REPLY, True),
        (Loss.HALF_REPLY, True),
        (Loss.SILENCE, True),
    ],
)
def test_loses_what_it_is_told_to(proxy: Proxy, through: redis.Redis, namespace: str, loss: Loss, served: bool) -> None:
    proxy.lose(loss, names={"INCRBY"})
    with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
        through.incr(namespace)
    assert proxy.met == {loss: 1}
    eventually(lambda: proxy.replies["INCRBY"] == int(served))
    assert through.get(namespace) == (b"1" if served else None)
    assert through.incr(namespace) == 1 + served
    through.delete(namespace)


def test_answers_itself_and_asks_something_else(proxy: Proxy, through: redis.Redis) -> None:
    proxy.lose(Loss.ANSWER, names={"GET"}, data=b"-MISCONF no\r\n")
    with pytest.raises(redis.ResponseError, match="MISCONF"):
        through.get("nothing")
    proxy.lose(Loss.REPLACE, names={"GET"}, data=b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n")
    assert through.get("nothing") == b"hi"


def test_refuses_and_accepts_again(proxy: Proxy, through: redis.Redis) -> None:
    through.ping()
    proxy.refuse()
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            through.ping()
    proxy.accept()
    assert through.ping()


def test_hangs_up(proxy: Proxy, server: ServerProcess) -> None:
    for reset in (False, True):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as peer:
            peer.sendall(encoded("PING"))
            assert peer.recv(99) == b"+PONG\r\n"
            proxy.hang_up(reset=reset)
            if reset:
                with pytest.raises(ConnectionResetError):
                    peer.recv(99)
            else:
                assert peer.recv(99) == b""
