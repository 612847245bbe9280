"""Faults of the way to Redis: whatever is lost, cut, late or refused, every call is counted once."""

from __future__ import annotations

import pytest

from tests.faults.conftest import MakeWorld
from tests.faults.harness import seconds
from tests.faults.proxy import Loss
from tests.support import eventually

#: What a recorder asks of Redis again and again, and what it asks only now and then.
FREQUENT = ("EVALSHA", "MULTI", "EXEC")
RARE = ("EVAL", "HSETNX", "HMGET", "GET", "HSET", "ZADD", "EXPIRE")


@pytest.mark.parametrize("loss", [Loss.REPLY, Loss.REQUEST, Loss.HALF_REQUEST, Loss.HALF_REPLY])
def test_a_connection_breaks_around_a_chunk(make_world: MakeWorld, loss: Loss) -> None:
    world = make_world()
    world.proxy.lose(loss, times=10)
    world.proxy.lost_all()
    world.check()
    assert world.proxy.met[loss] == 10
    assert world.usage.recorder.stats().retries >= 10


def test_replies_that_never_come(make_world: MakeWorld) -> None:
    world = make_world()
    world.proxy.lose(Loss.SILENCE, times=3)
    world.proxy.lost_all()
    world.check()
    assert world.usage.recorder.stats().retries >= 3


@pytest.mark.parametrize("loss", [Loss.REPLY, Loss.REQUEST])
def test_every_command_is_lost_now_and_then(make_world: MakeWorld, loss: Loss) -> None:
    world = make_world()
    for command in (*FREQUENT, *RARE):
        world.proxy.lose(loss, times=2, names={command})
        world.traffic.go_on(100)
        if command in FREQUENT:
            world.proxy.lost_all()
    world.proxy.forgive()
    world.check()
    assert world.proxy.met[loss] >= 2 * len(FREQUENT)


def test_a_slow_link(make_world: MakeWorld) -> None:
    world = make_world()
    world.proxy.rate = 40_000
    world.traffic.go_on_for(seconds(10, 1.5))
    world.proxy.rate = 0
    world.check()


def test_a_link_slower_than_the_time_limit(make_world: MakeWorld) -> None:
    world = make_world()
    world.proxy.delay = 0.4
    world.is_away()
    world.traffic.go_on_for(seconds(30, 1.5))
    world.proxy.delay = 0
    world.check()


def test_connections_are_refused(make_world: MakeWorld) -> None:
    world = make_world()
    world.proxy.refuse()
    world.is_away()
    world.traffic.go_on_for(seconds(10, 1))
    world.proxy.accept()
    world.check()


def test_connections_are_reset_again_and_again(make_world: MakeWorld) -> None:
    world = make_world()
    for _ in range(20):
        world.proxy.hang_up(reset=True)
        world.traffic.go_on(20)
    world.check()


def test_packets_over_1400_bytes_vanish(make_world: MakeWorld) -> None:
    """Redis answers whatever is small: nothing is wrong with the chunks, and they arrive in parts."""
    world = make_world()
    world.proxy.largest = 1_400
    world.proxy.hang_up()
    eventually(lambda: world.proxy.vanished >= 2, 60)
    world.traffic.go_on()
    with world.client() as past:
        before = past.dbsize()
        eventually(lambda: world.proxy.replies["SETRANGE"] > 20, 60)
        assert past.dbsize() >= before
    world.check()
    assert world.usage.recorder.stats().dropped == {}


def test_parts_are_lost_too(make_world: MakeWorld) -> None:
    world = make_world()
    world.proxy.largest = 1_400
    eventually(lambda: world.proxy.replies["SETRANGE"] > 20, 60)
    for loss in (Loss.REPLY, Loss.REQUEST, Loss.HALF_REQUEST, Loss.SILENCE):
        for names in ({"SETRANGE"}, {"SET"}, {"EVALSHA"}):
            world.proxy.lose(loss, times=2, names=names)
            world.proxy.lost_all(30)
    world.check()
    assert world.usage.recorder.stats().dropped == {}
