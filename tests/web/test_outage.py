"""Redis goes away: views say so quickly, and recover."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support import ServerProcess
from tests.web.conftest import ACME, OPERATOR, OperatorOrKey, put_keys
from tests.web.hosts import HOSTS, Api, Host
from usage_middleware import Viewer
from usage_middleware.report.reports import VIEWS

if TYPE_CHECKING:
    from usage_middleware import Usage


@pytest.fixture
def unhurried() -> None:
    """An answer may take as long as it may in production."""


@pytest.fixture(scope="module")
def own_server() -> Iterator[ServerProcess]:
    with ServerProcess(appendonly="yes") as running:
        yield running


@pytest.fixture
def api(host: Host, own_server: ServerProcess, make_usage: Callable[..., Usage]) -> Api:
    usage = make_usage(own_server.tcp_url, shutdown_timeout=0.1)
    put_keys(usage)
    return Api(host, host.make(usage, auth=OperatorOrKey(usage.keys), cache_seconds=0), ACME)


def refused(api: Api, path: str) -> None:
    began = time.monotonic()
    reply = api.get(path)
    assert time.monotonic() - began < 2
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "usage_unavailable", "5")
    assert reply.json["error"] == "Service Unavailable"
    assert reply.json["param"] is None


def test_a_dead_redis_is_503_and_recovers(api: Api, own_server: ServerProcess) -> None:
    assert api.get("/summary").status == 200
    own_server.stop()
    try:
        for view in VIEWS:
            refused(api, view.path)
    finally:
        own_server.start()
    assert api.get("/summary").status == 200


def test_a_silent_redis_is_503_within_two_seconds(own_server: ServerProcess, make_usage: Callable[..., Usage]) -> None:
    usage = make_usage(own_server.tcp_url, shutdown_timeout=0.1)
    put_keys(usage)
    with_keys = Api(HOSTS[4], HOSTS[4].make(usage, auth=OperatorOrKey(usage.keys)), ACME)
    by_callable = Api(HOSTS[4], HOSTS[4].make(usage, auth=lambda _: Viewer.organization("acme")))
    fresh = make_usage(own_server.tcp_url, shutdown_timeout=0.1)
    unconnected = Api(HOSTS[4], HOSTS[4].make(fresh, auth=OperatorOrKey(fresh.keys)), ACME)
    own_server.pause()
    try:
        for api in (with_keys, by_callable, unconnected):
            refused(api, "/summary")
    finally:
        own_server.resume()
    for api in (with_keys, by_callable, unconnected):
        assert api.get("/summary").status == 200


def test_a_silent_redis_is_503_for_all_who_ask_at_once(own_server: ServerProcess, make_usage: Callable[..., Usage]) -> None:
    """Nobody keeps others waiting while it connects, or while it sends what Redis does not take."""
    usage = make_usage(own_server.tcp_url, shutdown_timeout=0.1)
    viewers = [Viewer.organization(f"org {number}") for number in range(4)]
    apis = [Api(HOSTS[4], HOSTS[4].make(usage, auth=lambda _, one=one: one, cache_seconds=0)) for one in viewers]
    assert apis[0].get("/summary").status == 200
    own_server.pause()
    try:
        with ThreadPoolExecutor(16) as pool:
            for _ in pool.map(lambda api: refused(api, "/summary"), 4 * apis):
                pass
    finally:
        own_server.resume()


def test_health_says_that_redis_is_gone(own_server: ServerProcess, make_usage: Callable[..., Usage]) -> None:
    usage = make_usage(own_server.tcp_url, shutdown_timeout=0.1)
    api = Api(HOSTS[4], HOSTS[4].make(usage, auth=OperatorOrKey(usage.keys)), OPERATOR)
    own_server.stop()
    try:
        assert api.get("/health").json["status"] == "failing"
        assert api.get("/openapi.json").status == 200
    finally:
        own_server.start()
