"""A name server that does not answer: no flush, no view and no end of a process waits for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import World
from tests.faults.proxy import Proxy
from tests.faults.test_ends import WSGI, answers, sent_by_the_next_process, takes_less_than, unavailable
from tests.support import ServerProcess, eventually
from tests.web.conftest import ACME, OperatorOrKey, put_keys
from tests.web.hosts import Api
from usage_middleware import Usage
from usage_middleware.store.timeboxed import MOST_THREADS

pytestmark = pytest.mark.slow

NAME = "redis.test"


class NameServer:
    """Knows one name, and answers while `answers` is set."""

    def __init__(self, find: Callable[..., Any]) -> None:
        self._find = find
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, host: Any, *arguments: Any, **options: Any) -> Any:
        """As `socket.getaddrinfo`."""
        if host != NAME:
            return self._find(host, *arguments, **options)
        if not self.answers.wait(30):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self._find("127.0.0.1", *arguments, **options)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    found = NameServer(socket.getaddrinfo)
    monkeypatch.setattr(socket, "getaddrinfo", found)
    yield found
    found.answers.set()


@pytest.fixture
def proxy(server: ServerProcess) -> Iterator[Proxy]:
    with Proxy(server.port) as found:
        yield found


def url(proxy: Proxy) -> str:
    return f"redis://{NAME}:{proxy.port}/0"


def fail(names: NameServer, proxy: Proxy) -> None:
    """The name server falls silent, and connections break."""
    names.answers.clear()
    proxy.hang_up(reset=True)


def test_a_flush_does_not_wait_for_a_name_server(
    names: NameServer, proxy: Proxy, server: ServerProcess, namespace: str
) -> None:
    world = World(namespace, url(proxy), server.client)
    world.start()
    fail(names, proxy)
    world.traffic.go_on()
    world.is_away()
    with takes_less_than(3):
        assert not world.usage.flush()
    assert sum(thread.name == "usage-connect" for thread in threading.enumerate()) <= MOST_THREADS
    names.answers.set()
    world.check()
    world.close()


def test_the_end_does_not_wait_for_a_name_server(
    names: NameServer, proxy: Proxy, server: ServerProcess, namespace: str, tmp_path: Path
) -> None:
    world = World(namespace, url(proxy), server.client, spool=str(tmp_path), shutdown_timeout=1.0, flush_interval=60)
    world.start()
    world.traffic.stop()
    fail(names, proxy)
    with takes_less_than(2.5):
        world.usage.close()
    assert len(list(tmp_path.iterdir())) == 1
    sent_by_the_next_process(server.url, namespace, tmp_path)
    world.check_stored()


def test_a_view_does_not_wait_for_a_name_server(names: NameServer, proxy: Proxy, make_usage: Callable[..., Usage]) -> None:
    usage = make_usage(url(proxy), shutdown_timeout=0.1)
    put_keys(usage)
    fresh = make_usage(url(proxy), shutdown_timeout=0.1)
    apis = [Api(WSGI, WSGI.make(one, auth=OperatorOrKey(one.keys)), ACME) for one in (usage, fresh)]
    assert answers(apis[0])
    fail(names, proxy)
    for api in apis * 6:
        unavailable(api)
    assert sum(thread.name == "usage-connect" for thread in threading.enumerate()) <= MOST_THREADS
    names.answers.set()
    for api in apis:
        eventually(partial(answers, api))
