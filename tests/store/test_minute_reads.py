"""The minutes of many half-hours, read by one command, are what their hashes hold: with damage, and where no script may run."""

from __future__ import annotations

import random
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.support import ClusterProcess, ServerProcess
from usage_middleware.options import Settings
from usage_middleware.periods import HOUR, MINUTE, Slot, resolutions, slot_names
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.engine import Engine
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.store.reads import Read
from usage_middleware.store.schema import Schema

#: 2026-11-20T13:45:00Z
NOW = 1_795_182_300
#: Neither begins where a half-hour does.
START, END = NOW - 60 * HOUR - 7 * MINUTE, NOW + MINUTE
LAYERS = resolutions()


@pytest.fixture
def schema(namespace: str) -> Schema:
    return Schema(Settings(namespace=namespace, history=False))


def place(schema: Schema, minute: int, key: str | None) -> tuple[str, str]:
    """The Redis key and the field of a minute's calls."""
    at = slot_names(Slot(LAYERS.minute, minute), LAYERS.middle.seconds)
    block = ("acme", LAYERS.minute.name, at.block)
    of = schema.series(*block) if key is None else schema.series_of(*block, "key", key)
    return of, f"{at.field} calls"


def fill(client: Any, schema: Schema, key: str | None) -> dict[int, int]:
    """Calls in some minutes of each half-hour, and others around them."""
    chance, found = random.Random(1), dict[int, int]()
    with client.pipeline(transaction=False) as pipe:
        for minute in range(START - HOUR, END + HOUR, MINUTE):
            counted = chance.choice((0, 1, 7, -3, 10**12))
            of, field = place(schema, minute, key)
            pipe.hset(of, field.replace("calls", "bytes"), 5)
            if counted:
                pipe.hset(of, field, counted)
                if START <= minute < END:
                    found[minute] = counted
        pipe.execute()
    return found


def minutes(
    client: Any, schema: Schema, key: str | None = None, damage: DamageLog | None = None, start: int = START
) -> dict[int, int]:
    batch = ReadBatch(client, schema, "acme", NOW, damage=damage)
    found = batch.minutes(key, "calls", start, END)
    batch.read()
    return found.value


@pytest.mark.parametrize("key", [None, "key_1"])
def test_they_are_what_was_counted(engine: Engine, schema: Schema, key: str | None) -> None:
    counted = fill(engine.client, schema, key)
    assert minutes(engine.read_client, schema, key) == counted
    last = {minute: number for minute, number in counted.items() if minute >= END - 9 * MINUTE}
    assert minutes(engine.read_client, schema, key, start=END - 9 * MINUTE) == last


def test_a_damaged_number_costs_itself(engine: Engine, schema: Schema) -> None:
    counted, damage = fill(engine.client, schema, None), DamageLog()
    engine.client.hset(*place(schema, START + HOUR, None), "x")
    counted.pop(START + HOUR, None)
    assert minutes(engine.read_client, schema, damage=damage) == counted
    assert "the number of a minute" in str(damage)
    assert schema.namespace in str(damage)


def test_a_key_of_another_type_costs_itself(engine: Engine, schema: Schema) -> None:
    counted, damage = fill(engine.client, schema, None), DamageLog()
    of, _ = place(schema, START + HOUR, None)
    engine.client.delete(of)
    engine.client.rpush(of, "x")
    left = {minute: number for minute, number in counted.items() if place(schema, minute, None)[0] != of}
    assert minutes(engine.read_client, schema, damage=damage) == left
    assert of in str(damage)


def test_without_the_right_to_run_scripts(server: ServerProcess, schema: Schema, namespace: str) -> None:
    """As on a server of before Redis 7, which has no such command."""
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", namespace, "reset", "on", ">secret", "~*", "+@all", "-eval_ro")
        counted = fill(admin, schema, None)
        with server.client(username=namespace, password="secret") as client:
            with pytest.raises(ResponseError):
                client.execute_command("EVAL_RO", "return 1", 0)
            assert minutes(client, schema) == counted
        admin.execute_command("ACL", "DELUSER", namespace)


def connections(engine: Engine) -> int:
    """How many the server has had."""
    return int(engine.client.info("stats")["total_connections_received"])


@pytest.mark.slow
def test_a_server_without_the_command_keeps_its_connections(schema: Schema) -> None:
    """Other errors that say "unknown command" mean that it is the wrong server."""
    with ServerProcess("--rename-command", "EVAL_RO", "") as old:
        engine = Engine(old.tcp_url)
        counted = fill(engine.client, schema, None)
        assert minutes(engine.read_client, schema) == counted
        before = connections(engine)
        assert minutes(engine.read_client, schema) == counted
        assert connections(engine) == before
        engine.close()


def test_in_a_cluster(cluster: ClusterProcess, schema: Schema) -> None:
    with cluster.client() as client:
        counted = fill(client, schema, None)
        assert minutes(client, schema) == counted


def test_few_commands_read_many_half_hours(engine: Engine, schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none of them keeps other clients waiting for long. What they cost is what the half-hours cost."""
    reads, costs = list[Read](), list[int]()
    put = ReadBatch._put

    def noted(self: ReadBatch, read: Read) -> None:
        reads.append(read)
        put(self, read)

    monkeypatch.setattr(ReadBatch, "_put", noted)
    batch = ReadBatch(engine.read_client, schema, "acme", NOW, charge=costs.append)
    batch.minutes(None, "calls", START, END)
    batch.read()
    assert [len(read.keys) for read in reads] == [50, 50, 21]
    assert batch.keys == 121
    assert costs[0] == 2 * 121


def test_what_reads_cost_is_told_while_they_are_put_together(schema: Schema) -> None:
    """Thousands of them are work before the first one is sent: whoever does it takes turns with others by then."""
    costs = list[int]()
    batch = ReadBatch(None, schema, "acme", NOW, charge=costs.append)
    for number in range(1_001):
        batch.seen_of("key", [f"key_{number}"])
    assert costs == [501]
