"""Over TLS too every wait for Redis has an end: replies, the records that carry them, and the handshake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.harness import World
from tests.faults.passage import Passage, certificate
from tests.faults.test_ends import TRICKLE, WSGI, answers, sent_by_the_next_process, takes_less_than, unavailable
from tests.support import ServerProcess, eventually
from tests.web.conftest import ACME, OperatorOrKey, put_keys
from tests.web.hosts import Api
from usage_middleware import Usage

pytestmark = pytest.mark.slow


class Way(NamedTuple):
    """The way to Redis: bytes of records, then TLS, then bytes of replies.

    Attributes:
        outer: what can make records slow, and the handshake.
        inner: what can make each byte of a reply a record of its own, and slow.
        url: Redis, through both.
    """

    outer: Passage
    inner: Passage
    url: str

    def well(self) -> None:
        """As quick as can be again, on new connections."""
        self.outer.rate = self.inner.rate = 0
        self.outer.hang_up()


@pytest.fixture
def way(server: ServerProcess, tmp_path: Path) -> Iterator[Way]:
    context, trusted = certificate(tmp_path)
    with Passage(server.port, context) as inner, Passage(inner.port) as outer:
        yield Way(outer, inner, f"rediss://127.0.0.1:{outer.port}/0?ssl_ca_certs={trusted}")


@pytest.fixture
def make_world(server: ServerProcess, way: Way, namespace: str) -> Iterator[Callable[..., World]]:
    with ExitStack() as ending:

        def make(**options: str | float) -> World:
            world = World(namespace, way.url, server.client, **options)
            ending.callback(world.close)
            world.start()
            return world

        yield make


PLACES = pytest.mark.parametrize("place", ["inner", "outer"])


def trickling(way: Way, place: str) -> None:
    """Bytes come one by one, none of them late."""
    getattr(way, place).rate = TRICKLE


@PLACES
def test_a_byte_a_second_does_not_hold_up_a_flush(make_world: Callable[..., World], way: Way, place: str) -> None:
    world = make_world()
    trickling(way, place)
    world.traffic.go_on()
    world.is_away()
    with takes_less_than(3):
        assert not world.usage.flush()
    way.well()
    world.check()


@PLACES
def test_a_byte_a_second_does_not_hold_up_the_end(
    make_world: Callable[..., World], way: Way, place: str, server: ServerProcess, tmp_path: Path
) -> None:
    world = make_world(spool=str(tmp_path / "spool"), shutdown_timeout=1.0)
    trickling(way, place)
    world.traffic.go_on()
    world.traffic.stop()
    with takes_less_than(2.5):
        world.usage.close()
    way.well()
    sent_by_the_next_process(server.url, world.namespace, tmp_path / "spool")
    world.check_stored()


@PLACES
def test_a_byte_a_second_is_a_503_within_two_seconds(make_usage: Callable[..., Usage], way: Way, place: str) -> None:
    """In a process that has asked before, and in one that has to shake hands first."""
    usage, fresh = (make_usage(way.url, shutdown_timeout=0.1) for _ in range(2))
    put_keys(usage)
    apis = [Api(WSGI, WSGI.make(one, auth=OperatorOrKey(one.keys)), ACME) for one in (usage, fresh)]
    assert answers(apis[0])
    trickling(way, place)
    for api in apis:
        unavailable(api)
    way.well()
    for api in apis:
        eventually(partial(answers, api))
