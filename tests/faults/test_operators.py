"""What operators do to a server while it runs: settings, rights, clients. Nothing is lost, and nothing counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from tests.faults.conftest import MakeWorld
from tests.support import eventually

pytestmark = pytest.mark.slow

#: What the recorder asks Redis for.
COMMANDS = (
    "evalsha", "eval", "get", "set", "del", "hget", "hset", "hmget", "hdel", "hlen", "hincrby", "hsetnx", "hgetall",
    "zadd", "zcount", "zmscore", "zremrangebyscore", "zrem", "exists", "expire", "pexpire", "ttl", "multi", "exec", "time",
    "script",
)  # fmt: skip


@contextmanager
def setting(admin: Any, name: str, value: str | int) -> Iterator[None]:
    """A setting is changed for a while."""
    before = admin.config_get(name)[name]
    admin.config_set(name, value)
    yield
    admin.config_set(name, before)


@contextmanager
def without_right(admin: Any, command: str) -> Iterator[None]:
    """A right is taken away for a while; that of the one who gives it back stays."""
    admin.execute_command("ACL", "SETUSER", "default", f"-{command}")
    yield
    admin.execute_command("ACL", "SETUSER", "default", f"+{command}")


@contextmanager
def once(admin: Any, *command: str | int) -> Iterator[None]:
    """A command of the operator's."""
    admin.execute_command(*command)
    yield


@contextmanager
def swapped(admin: Any) -> Iterator[None]:
    """Another database is in the place of ours for less than 10 s."""
    admin.execute_command("SWAPDB", 0, 1)
    yield
    admin.execute_command("SWAPDB", 0, 1)


@contextmanager
def switched_off(admin: Any) -> Iterator[None]:
    """Nobody may log in as this user."""
    admin.execute_command("ACL", "SETUSER", "default", "off")
    admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    yield
    admin.execute_command("ACL", "SETUSER", "default", "on")


Act = Callable[[Any], Any]
ACTS: dict[str, Act] = {
    "idle connections are closed": partial(setting, name="timeout", value=1),
    "too few clients may connect": partial(setting, name="maxclients", value=1),
    "little memory for clients": partial(setting, name="maxmemory-clients", value="1mb"),
    "memory is full": partial(setting, name="maxmemory", value=1),
    "only small commands": partial(setting, name="client-query-buffer-limit", value="1mb"),
    "slow scripts are told of at once": partial(setting, name="busy-reply-threshold", value=1),
    "AOF is switched on": partial(setting, name="appendonly", value="yes"),
    "clients are killed": lambda admin: once(admin, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
    "clients are paused": lambda admin: once(admin, "CLIENT", "PAUSE", 1500, "ALL"),
    "writes are paused": lambda admin: once(admin, "CLIENT", "PAUSE", 1500, "WRITE"),
    "scripts are flushed": lambda admin: once(admin, "SCRIPT", "FLUSH"),
    "functions are flushed": lambda admin: once(admin, "FUNCTION", "FLUSH"),
    "it is written to disk": lambda admin: once(admin, "SAVE"),
    "databases are swapped and swapped back": swapped,
    "the user is switched off": switched_off,
}


@pytest.mark.parametrize("act", ACTS.values(), ids=list(ACTS))
def test_an_operator_changes_the_server_while_it_runs(make_world: MakeWorld, act: Act) -> None:
    world = make_world()
    with world.admin() as admin:
        with act(admin):
            world.traffic.go_on_for(2.5)
        world.is_back()
        world.check()
    assert world.usage.recorder.stats().dropped == {}


def test_each_right_is_taken_away_for_a_while(make_world: MakeWorld) -> None:
    world = make_world()
    with world.admin() as admin:
        for command in COMMANDS:
            with without_right(admin, command):
                world.traffic.go_on(20)
                world.usage.flush()
                world.usage.flush()
            eventually(world.usage.flush)
        assert world.usage.recorder.stats().dropped == {}
        world.check()


def test_everything_is_flushed(make_world: MakeWorld) -> None:
    """The last 10 s are sent again: here that is all."""
    world = make_world()
    with world.admin() as admin:
        for command in ("FLUSHALL", "FLUSHDB"):
            admin.execute_command(command)
            world.traffic.go_on()
            eventually(world.usage.flush)
        world.check()
