"""Faults of the server: it stops, dies, forgets, fills up, refuses. Every call is counted once all the same."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.faults.conftest import MakeWorld
from tests.faults.harness import World
from tests.faults.proxy import Loss
from tests.faults.resp import encoded
from tests.store.cells import MINUTE, cell
from tests.support import ServerProcess, eventually, free_port, record_call
from usage_middleware.options import Settings
from usage_middleware.record.chunk_sender import MOST_FAULTS, PARTS_AFTER
from usage_middleware.record.outbox import OrgQueue
from usage_middleware.report.health import health
from usage_middleware.store import chunk as chunking
from usage_middleware.store.payload import encode_chunk
from usage_middleware.store.schema import Schema

ENDLESS = "while true do end"
#: Calls of a chunk of more than a megabyte.
TOO_MANY = 2_000


def refuses(world: World, word: str) -> None:
    """Wait until the recorder has been refused for this reason."""
    eventually(lambda: word in world.usage.recorder.stats().reason)


def test_a_server_that_stands_still(make_world: MakeWorld) -> None:
    world = make_world()
    world.server.pause()
    world.traffic.go_on_for(3)
    assert world.state == "away"
    world.server.resume()
    world.check()


@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
def test_a_server_that_is_killed_and_comes_back(make_world: MakeWorld, appendfsync: str) -> None:
    world = make_world(server={"appendonly": "yes", "appendfsync": appendfsync})
    for _ in range(2):
        world.server.kill()
        world.is_away()
        world.traffic.go_on()
        world.server.start()
        world.is_back()
        world.traffic.go_on()
    world.check()


def test_a_server_that_comes_back_without_its_last_second(make_world: MakeWorld) -> None:
    """What `everysec` loses with the machine's power: the end of the file, here in the middle of a command."""
    world = make_world(server={"appendonly": "yes", "appendfsync": "everysec", "auto_aof_rewrite_percentage": 0})
    file = next(Path(world.server.folder, "appendonlydir").glob("*.incr.aof"))
    before = file.stat().st_size
    world.traffic.go_on(300)
    eventually(world.usage.flush)
    world.server.kill()
    assert file.stat().st_size > before + 10_000
    with file.open("r+b") as log:
        log.truncate(before + 5_000)
    world.server.start()
    world.check()


def test_a_server_that_comes_back_empty(make_world: MakeWorld) -> None:
    """No file at all: what was acknowledged more than ten seconds ago is lost, all later calls are sent again."""
    world = make_world()
    world.server.kill()
    world.is_away()
    world.server.start()
    world.is_back()
    world.check()


def test_scripts_are_flushed(make_world: MakeWorld) -> None:
    world = make_world()
    with world.admin() as admin:
        for _ in range(20):
            admin.script_flush()
            world.traffic.go_on(10)
    world.check()
    assert world.proxy.requests["EVAL"] >= 2


def test_memory_runs_out_and_is_raised(make_world: MakeWorld) -> None:
    world = make_world()
    with world.admin() as admin:
        admin.config_set("maxmemory", 1)
        refuses(world, "maxmemory")
        world.traffic.go_on()
        admin.config_set("maxmemory", 0)
    world.check()


def test_a_server_that_becomes_a_replica(make_world: MakeWorld) -> None:
    world = make_world()
    with world.admin() as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", free_port())
        refuses(world, "read only replica")
        world.traffic.go_on()
        admin.config_set("replica-serve-stale-data", "no")
        admin.config_set("replica-read-only", "no")
        refuses(world, "Link with MASTER")
        world.traffic.go_on()
        admin.execute_command("REPLICAOF", "NO", "ONE")
    world.check()


def test_too_few_replicas(make_world: MakeWorld) -> None:
    world = make_world()
    with world.admin() as admin:
        admin.config_set("min-replicas-to-write", 1)
        refuses(world, "NOREPLICAS")
        world.traffic.go_on()
        admin.config_set("min-replicas-to-write", 0)
    world.check()


def test_a_server_that_can_not_save(make_world: MakeWorld) -> None:
    world = make_world(server={"save": "3600 1000000"})
    in_the_way = world.server.folder / "dump.rdb"
    in_the_way.mkdir()
    with world.admin() as admin:
        admin.bgsave()
        refuses(world, "MISCONF")
        world.traffic.go_on()
        in_the_way.rmdir()
        eventually(lambda: not admin.info("persistence")["rdb_bgsave_in_progress"])
        admin.bgsave()
    world.check()


def test_a_server_that_is_loading(make_world: MakeWorld) -> None:
    world = make_world(server={"appendonly": "yes", "appendfsync": "always"})
    with world.admin() as admin:
        admin.bgrewriteaof()
        eventually(lambda: not admin.info("persistence")["aof_rewrite_in_progress"])
        assert admin.dbsize() > 200
    world.server.kill()
    world.is_away()
    world.server.options["key_load_delay"] = 5000
    world.server.options["loading_process_events_interval_bytes"] = 1024
    start_without_waiting(world.server)
    refuses(world, "oading")
    world.traffic.go_on()
    eventually(world.server.answers, 60)
    world.check()


def start_without_waiting(server: ServerProcess) -> None:
    """Start a server that has more to load than a test waits for."""
    answers = server.answers
    server.answers = lambda: True  # type: ignore[method-assign]
    try:
        server.start()
    finally:
        server.answers = answers  # type: ignore[method-assign]


def test_a_server_that_is_busy_with_another_script(make_world: MakeWorld) -> None:
    world = make_world(server={"busy_reply_threshold": 50})
    with world.admin() as admin, world.client() as other:
        other.connection_pool.connection_kwargs["socket_timeout"] = 0.1
        with pytest.raises(redis.TimeoutError):
            other.eval(ENDLESS, 0)
        refuses(world, "BUSY")
        world.traffic.go_on()
        admin.script_kill()
    world.check()


@pytest.mark.parametrize("times", [1, 2])
def test_a_script_is_killed(make_world: MakeWorld, times: int) -> None:
    world = make_world(server={"busy_reply_threshold": 20})
    with world.admin() as admin:
        for _ in range(times):
            world.proxy.lose(Loss.REPLACE, data=encoded("EVAL", ENDLESS, 0))
            eventually(lambda: killed(admin))
            world.traffic.go_on()
    world.check()


def killed(admin: Any) -> bool:
    """True when a script ran and was killed."""
    with suppress(redis.exceptions.ResponseError):
        return bool(admin.script_kill())
    return False


def test_rights_are_taken_away(make_world: MakeWorld) -> None:
    world = make_world()
    for command in ("evalsha", "hset", "zadd", "hmget", "set", "multi"):
        with world.admin() as admin:
            admin.execute_command("ACL", "SETUSER", "default", f"-{command}")
            world.traffic.go_on(100)
            assert not world.usage.flush()
            admin.execute_command("ACL", "SETUSER", "default", f"+{command}")
        world.is_back()
        world.traffic.go_on()
    world.check()


def test_rights_to_one_organisation_are_taken_away(make_world: MakeWorld) -> None:
    world = make_world()
    with world.admin() as admin:
        allowed = [f"~{world.namespace}:{{{org}}}:*" for org in ("acme", "initech", r"\*")]
        admin.execute_command("ACL", "SETUSER", "default", "resetkeys", *allowed)
        eventually(lambda: world.usage.recorder.stats().retries > 3)
        world.traffic.go_on()
        assert world.state == "ok"
        (blocked,) = eventually(lambda: [one for one in health(world.usage.reader).warnings if one.code == "blocked"])
        assert "permission" in blocked.message
        admin.execute_command("ACL", "SETUSER", "default", "allkeys")
    world.check()
    assert not world.usage.recorder.stats().blocked


def test_the_password_changes(make_world: MakeWorld) -> None:
    world = make_world()
    with world.client() as admin:
        admin.config_set("requirepass", "another")
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        world.is_away()
        world.traffic.go_on()
        admin.config_set("requirepass", "")
    world.check()


def test_a_payload_that_is_too_large(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that the server never takes is set aside after a while, its calls are counted as dropped, the rest goes on."""
    world = make_world(max_members=100_000, flush_interval=60)
    with world.admin() as admin:
        admin.config_set("proto-max-bulk-len", 1_048_576)
    with world.traffic.paused():
        eventually(world.usage.flush)
        with monkeypatch.context() as unlimited:
            unlimited.setattr(chunking, "CHUNK_WORK", 10**9)
            for number in range(TOO_MANY):
                record_call(world.usage.recorder, ("acme", "key_1"), f"GET /{number:0120}", (), 200, 1000, 1, ())
            assert not world.usage.flush()
    for _ in range(PARTS_AFTER + MOST_FAULTS):
        world.usage.flush()
        world.traffic.go_on(2)
    world.ledger.drop("acme", TOO_MANY)
    world.check()


def test_no_chunk_is_too_large_for_any_server() -> None:
    """The least that `proto-max-bulk-len` can be set to is a megabyte."""
    settings = Settings(dimensions=("one", "two", "three"), counters=("a", "b"))
    schema = Schema(settings)
    waiting = OrgQueue(schema, "o" * 128)
    for number in range(2000):
        name = f"{number:0128}"
        waiting.put(
            *cell(
                org="o" * 128, key=name, endpoint=name, tags=(name,) * 3, counts=(2**60,) * 2, minute=MINUTE + 60 * (number % 9)
            )
        )
    waiting.seal(MINUTE)
    sizes = [len(encode_chunk(schema, "a" * 32, chunk, 1, MINUTE).data) for chunk in waiting.pending]
    assert 100_000 < max(sizes) < 1_048_576


def test_a_key_of_the_wrong_type_is_skipped(make_world: MakeWorld) -> None:
    world = make_world()
    day = time.strftime("%Y-%m-%d", time.gmtime())
    wrong_type = [
        f"{world.namespace}:{{acme}}:board:1d:{day}:endpoint:calls",
        f"{world.namespace}:{{globex}}:series:1d:{day[:7]}:key:key_1",
    ]
    with world.admin() as admin:
        for key in wrong_type:
            admin.delete(key)
            admin.set(key, "mine")
        eventually(lambda: world.usage.recorder.stats().wrong_type > 3)
        world.check(without=tuple(wrong_type))
        assert [admin.get(key) for key in wrong_type] == [b"mine", b"mine"]
