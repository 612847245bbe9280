"""What Redis adds up for many API keys is what their hashes hold: with damage, and where no script may run."""

from __future__ import annotations

import random
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.support import ClusterProcess, ServerProcess
from usage_middleware.options import Settings
from usage_middleware.periods import DAY, Slot, cover, resolutions
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.engine import Engine
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.store.reads import Read
from usage_middleware.store.schema import Schema

#: 2026-11-20T13:45:20Z
NOW = 1_795_182_320
MEASURES = ("c.records", "calls", "s429")
KEYS = [f"key_{number}" for number in range(230)]
#: Half-hours of a day, and days of two months.
SLOTS = cover(NOW // DAY * DAY - 30 * DAY + 20 * 3600, NOW // DAY * DAY, now=NOW, layers=resolutions())


@pytest.fixture
def schema(namespace: str) -> Schema:
    return Schema(Settings(namespace=namespace, counters=("records",), history=False))


def fill(client: Any, schema: Schema) -> dict[str, dict[str, int]]:
    """Some counters of each key, and what they come to."""
    chance, found = random.Random(1), dict[str, dict[str, int]]()
    with client.pipeline(transaction=False) as pipe:
        for key in KEYS[::2]:
            for slot in (*chance.sample(SLOTS, 9), Slot(resolutions().day, NOW // DAY * DAY)):
                for measure in chance.sample([*MEASURES, "bytes"], 3):
                    counted = chance.choice((1, 7, -3, 10**12))
                    pipe.hset(name(schema, slot, key), f"{field(slot)} {measure}", counted)
                    if measure in MEASURES and slot in SLOTS:
                        sums = found.setdefault(key, {})
                        sums[measure] = sums.get(measure, 0) + counted
        pipe.execute()
    return found


def name(schema: Schema, slot: Slot, key: str) -> str:
    (block,) = ReadBatch(None, schema, "acme", NOW)._blocks.of([slot], None)
    return schema.series_of("acme", block.res, block.block, "key", key)


def field(slot: Slot) -> str:
    (block,) = ReadBatch(None, Schema(Settings()), "acme", NOW)._blocks.of([slot], None)
    return next(iter(block.slots))


def sums(client: Any, schema: Schema, damage: DamageLog | None = None) -> dict[str, dict[str, int]]:
    batch = ReadBatch(client, schema, "acme", NOW, damage=damage)
    found = batch.sums(SLOTS, KEYS, MEASURES)
    batch.read()
    return expected(found.value)


def expected(counted: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    wanted = {key: {one: number for one, number in row.items() if number} for key, row in counted.items()}
    return {key: row for key, row in wanted.items() if row}


def test_they_are_what_was_counted(engine: Engine, schema: Schema) -> None:
    counted = fill(engine.client, schema)
    assert len({slot.resolution.name for slot in SLOTS}) == 2
    assert sums(engine.read_client, schema) == expected(counted)


@pytest.mark.parametrize(("damaged", "counts"), [("x", 0), ("1.5e1", 15), ("0x10", 0), (str(2**60), 2**60), ("9" * 30, 0)])
def test_a_damaged_number_costs_itself(engine: Engine, schema: Schema, damaged: str, counts: int) -> None:
    counted, damage = fill(engine.client, schema), DamageLog()
    place = name(schema, SLOTS[-1], "key_1")
    engine.client.hset(place, f"{field(SLOTS[-1])} calls", damaged)
    counted["key_1"] = {"calls": counts}
    assert sums(engine.read_client, schema, damage) == expected(counted)
    assert (place in str(damage)) is (counts == 0)


def test_a_key_of_another_type_costs_itself(engine: Engine, schema: Schema) -> None:
    counted, damage = fill(engine.client, schema), DamageLog()
    place = name(schema, SLOTS[-1], "key_1")
    engine.client.rpush(place, "x")
    assert sums(engine.read_client, schema, damage) == expected(counted)
    assert place in str(damage)


def test_without_the_right_to_run_scripts(server: ServerProcess, schema: Schema, namespace: str) -> None:
    """As on a server of before Redis 7, which has no such command."""
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", namespace, "reset", "on", ">secret", "~*", "+@all", "-eval_ro")
        counted = fill(admin, schema)
        with server.client(username=namespace, password="secret") as client:
            with pytest.raises(ResponseError):
                client.execute_command("EVAL_RO", "return 1", 0)
            assert sums(client, schema) == expected(counted)
        admin.execute_command("ACL", "DELUSER", namespace)


def test_in_a_cluster(cluster: ClusterProcess, schema: Schema) -> None:
    with cluster.client() as client:
        counted = fill(client, schema)
        assert sums(client, schema) == expected(counted)


def test_other_clients_do_not_wait_for_all_of_them(engine: Engine, schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command has a hundred keys at most."""
    commands: list[tuple[Any, ...]] = []
    put = ReadBatch._put

    def noted(self: ReadBatch, read: Read) -> None:
        commands.append(read.command)
        put(self, read)

    monkeypatch.setattr(ReadBatch, "_put", noted)
    sums(engine.read_client, schema)
    assert {command[0] for command in commands} == {"EVAL_RO"}
    assert max(command[2] for command in commands) == 100
