"""Reads of closed and of open slots go in one trip, and what is wrong with one of them is said."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from tests.support import ClusterProcess, ServerProcess
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.engine import Engine
from usage_middleware.store.reads import Read, fetch, hand_out


def send(client: Any, reads: list[Read], damage: DamageLog) -> None:
    hand_out(fetch(client, reads, damage), damage)


class Got(list[Any]):
    """What reads were given, and in which order."""

    def read(self, *command: object, is_open: bool) -> Read:
        """A read whose reply is noted under its Redis key."""
        return Read(command, is_open, lambda _, reply: self.append((command[1], reply)))


def test_one_trip(engine: Engine, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client, got, trips = engine.read_client, Got(), list[object]()
    one, two = f"{namespace}:1", f"{namespace}:2"
    client.mset({one: "a", two: "b"})
    kind = client.connection_pool.connection_class
    sent = kind.send_packed_command

    def send_packed_command(self: Any, data: object, **how: Any) -> None:
        trips.append(data)
        sent(self, data, **how)

    monkeypatch.setattr(kind, "send_packed_command", send_packed_command)
    send(client, [got.read("GET", two, is_open=True), got.read("GET", one, is_open=False)], DamageLog())
    assert got == [(one, b"a"), (two, b"b")]
    send(client, [got.read("GET", one, is_open=False)], DamageLog())
    send(client, [got.read("GET", two, is_open=True)], DamageLog())
    assert got[2:] == [(one, b"a"), (two, b"b")]
    assert len(trips) == 3


@pytest.mark.parametrize("is_open", [False, True])
def test_a_key_of_another_type_costs_itself(engine: Engine, namespace: str, is_open: bool) -> None:
    engine.client.rpush(f"{namespace}:list", "x")
    engine.client.hset(f"{namespace}:hash", "field", "1")
    got, damage = Got(), DamageLog()
    names = [f"{namespace}:{name}" for name in ("list", "hash")]
    send(engine.read_client, [got.read("HGET", name, "field", is_open=is_open) for name in names], damage)
    assert got == [(names[1], b"1")]
    assert f"{namespace}:list (holds another type)" in str(damage)


@pytest.mark.parametrize(
    ("command", "error", "why"),
    [
        (("HGET", "of too few"), ResponseError, "wrong number of arguments"),
        (("NOSUCH", "command"), ResponseError, "unknown command"),
    ],
)
def test_what_redis_refuses_to_queue(
    engine: Engine, namespace: str, command: tuple[str, ...], error: type[Exception], why: str
) -> None:
    """Not that the transaction was discarded, which says nothing. The connection may be used again."""
    got = Got()
    reads = [got.read("GET", f"{namespace}:1", is_open=True), got.read(*command, is_open=True)]
    with pytest.raises(error, match=why):
        send(engine.read_client, reads, DamageLog())
    assert got == []
    send(engine.read_client, reads[:1], DamageLog())
    assert got == [(f"{namespace}:1", None)]


@pytest.mark.slow
def test_a_right_that_is_missing() -> None:
    with ServerProcess() as server, server.client() as admin:
        engine, got = Engine(server.url), Got()
        for denied in "get", "multi":
            admin.execute_command("ACL", "SETUSER", "default", f"-{denied}")
            with pytest.raises(NoPermissionError):
                send(engine.read_client, [got.read("GET", "1", is_open=True)], DamageLog())
            admin.execute_command("ACL", "SETUSER", "default", f"+{denied}")
        send(engine.read_client, [got.read("GET", "1", is_open=True)], DamageLog())
        assert got == [("1", None)]
        engine.close()


def test_a_cluster(cluster: ClusterProcess) -> None:
    engine, got = Engine(cluster.url), Got()
    engine.client.mset({"{a}:1": "a", "{a}:2": "b"})
    send(engine.read_client, [got.read("GET", "{a}:2", is_open=True), got.read("GET", "{a}:1", is_open=False)], DamageLog())
    assert got == [("{a}:1", b"a"), ("{a}:2", b"b")]
    engine.close()
