"""`/health`: what an operator is told of Redis, of every worker and of this process, and what it warns of."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import START, Clock, ClusterProcess, ServerProcess, record_call
from usage_middleware.report import health as report_health
from usage_middleware.report.health import Health

if TYPE_CHECKING:
    from usage_middleware import Usage

MakeUsage = Callable[..., "Usage"]


def health(usage: Usage) -> Health:
    return report_health.health(usage.reader)


def add(usage: Usage, n: int = 1) -> None:
    for _ in range(n):
        record_call(usage.recorder, ("acme", "key_7"), "GET /a", (), 200, 1000, 50, ())


def codes(found: Health) -> set[str]:
    return {warned.code for warned in found.warnings}


def test_every_worker_is_listed_with_what_it_said(make_usage: MakeUsage) -> None:
    one, two = make_usage(), make_usage()
    for usage in one, two:
        add(usage, 3)
        assert usage.flush()
    found = health(make_usage())
    assert {worker.worker for worker in found.workers} == {usage.recorder.stats().worker for usage in (one, two)}
    worker = found.workers[0]
    assert (worker.host, worker.backlog_calls, worker.dropped, worker.spool_calls) == (socket.gethostname(), 0, 0, 0)
    assert (worker.flushed_through_ms, worker.seen_ms) == (int(START * 1000), int(START * 1000))
    assert worker.script == one.recorder.stats().script
    assert found.recorder["backlog_calls"] == 0


def test_a_redis_that_keeps_everything_is_ok(make_usage: MakeUsage) -> None:
    with ServerProcess(appendonly="yes", save="3600 1") as server:
        usage = make_usage(server.url, clock=lambda: START)
        found = health(usage)
        assert (found.status, found.warnings) == ("ok", [])
        assert found.redis["reachable"] is True
        assert found.redis["eviction_policy"] == "noeviction"
        assert (found.redis["append_only"], found.redis["snapshots"]) == (True, True)
        assert found.redis["version"].startswith(("valkey ", "redis "))
        usage.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "noeviction"])
def test_anything_but_noeviction_is_a_warning(make_usage: MakeUsage, policy: str) -> None:
    with ServerProcess(maxmemory_policy=policy) as server:
        usage = make_usage(server.url)
        found = health(usage)
        assert found.status == "warning"
        assert codes(found) == {"persistence"} | ({"eviction_policy"} if policy != "noeviction" else set())
        said = next((one.message for one in found.warnings if one.code == "eviction_policy"), "")
        assert ("counters silently" in said, "pepper" in said) == (policy != "noeviction", policy == "allkeys-lru")
        usage.close()


def test_almost_full(make_usage: MakeUsage) -> None:
    with ServerProcess() as server:
        usage = make_usage(server.url)
        with server.client() as client:
            client.config_set("maxmemory", client.info()["used_memory"] * 21 // 20)
        assert "memory" in codes(health(usage))
        usage.close()


@pytest.mark.parametrize("forbidden", [["-config"], ["-info"], ["-config", "-info"]])
def test_what_redis_does_not_tell_is_unknown(
    make_usage: MakeUsage, server: ServerProcess, namespace: str, forbidden: list[str]
) -> None:
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", namespace, "on", ">x", "~*", "+@all", *forbidden)
        found = health(make_usage(server.url.replace("unix://", f"unix://{namespace}:x@")))
        admin.execute_command("ACL", "DELUSER", namespace)
    assert found.redis["reachable"] is True
    assert (found.redis["eviction_policy"] is None) == (len(forbidden) == 2)
    assert (found.redis["version"] is None) == ("-info" in forbidden)
    assert found.status == ("ok" if len(forbidden) == 2 else "warning")


def test_no_redis(make_usage: MakeUsage) -> None:
    usage = make_usage("unix:///nowhere/at/all", shutdown_timeout=0.01)
    found = health(usage)
    assert (found.status, found.redis["reachable"], found.workers) == ("failing", False, [])
    add(usage)
    usage.flush()
    assert codes(health(usage)) == {"redis_unreachable", "not_writing"}
    assert health(usage).recorder["backlog_calls"] == 1


def test_a_recorder_that_refuses(make_usage: MakeUsage) -> None:
    add(one := make_usage())
    assert one.flush()
    other = make_usage(slot_minutes=15, shutdown_timeout=0.01)
    add(other)
    assert not other.flush()
    found = health(other)
    assert found.status == "failing"
    assert any("slot_minutes" in warned.message for warned in found.warnings)


def test_dropped_calls_and_a_clock_that_is_off(make_usage: MakeUsage, clock: Clock) -> None:
    usage = make_usage()
    usage.recorder._flusher.status.drop("acme", 4)
    add(usage)
    assert usage.flush()
    found = health(usage)
    assert {"dropped", "clock"} <= codes(found)
    assert abs((found.workers[0].skew_ms or 0) - (usage.recorder.stats().skew_ms or 1)) < 5_000


def test_drops_are_told_while_redis_is_away(make_usage: MakeUsage) -> None:
    usage = make_usage("unix:///nowhere/at/all", backlog_bytes=4_000, shutdown_timeout=0.01)
    usage.recorder._aggregate._crowded = lambda: None
    for number in range(100):
        record_call(usage.recorder, ("acme", "key_7"), f"GET /{number}", (), 200, 1000, 50, ())
        record_call(usage.recorder, bytes(32), f"GET /{number}", (), 200, 1000, 50, ())
    assert not usage.flush()
    found = health(usage)
    told = found.recorder
    assert told["dropped"].keys() == {"acme"}
    assert told["dropped"]["acme"] + told["dropped_unresolved"] + told["backlog_calls"] == 200
    assert min(told["dropped"]["acme"], told["dropped_unresolved"]) > 0
    (sentence,) = (warned.message for warned in found.warnings if warned.code == "dropped")
    assert f"dropped {told['dropped']['acme']} calls, and {told['dropped_unresolved']} of callers that" in sentence


def test_a_worker_that_falls_silent(make_usage: MakeUsage, clock: Clock) -> None:
    add(usage := make_usage())
    assert usage.flush()
    key = f"{usage.settings.namespace}:{{*}}:worker:{usage.recorder.stats().worker}"
    usage.engine.client.hset(key, "skew_ms", "")
    clock.advance(45)
    found = health(make_usage())
    assert "late" in codes(found)
    assert any("45 s" in warned.message for warned in found.warnings)


def test_what_waits_in_the_spool(make_usage: MakeUsage, tmp_path: Path) -> None:
    gone = make_usage("unix:///nowhere/at/all", spool=tmp_path, shutdown_timeout=0.01)
    add(gone, 5)
    gone.recorder.close()
    usage = make_usage(spool=tmp_path)
    usage.recorder._started_in = os.getpid()  # no thread of its own: it would send what is to be seen waiting
    add(usage)
    usage.recorder._flusher.status.state = "away"
    usage.recorder._flusher.recover(lambda: True, now=True)
    assert usage.flush()
    found = health(usage)
    assert (found.workers[0].spool_files, found.workers[0].spool_calls) == (1, 5)
    assert "spool" in codes(found)


def test_versions_that_differ(make_usage: MakeUsage) -> None:
    for script in "one", "two":
        add(usage := make_usage())
        assert usage.flush()
        key = f"{usage.settings.namespace}:{{*}}:worker:{usage.recorder.stats().worker}"
        usage.engine.client.hset(key, "script", script)
    assert "versions" in codes(health(make_usage()))


def test_a_worker_of_another_version(make_usage: MakeUsage) -> None:
    add(usage := make_usage())
    assert usage.flush()
    key = f"{usage.settings.namespace}:{{*}}:worker:{usage.recorder.stats().worker}"
    usage.engine.client.hset(key, "pid", "none of your business")
    assert [worker.pid for worker in health(usage).workers] == [0]


def test_a_worker_of_an_older_version_is_read(make_usage: MakeUsage) -> None:
    """Version 0.1 called three fields differently."""
    add(usage := make_usage())
    assert usage.flush()
    key = f"{usage.settings.namespace}:{{*}}:worker:{usage.recorder.stats().worker}"
    usage.engine.client.hdel(key, "wrong_type", "blocked", "blocked_reason")
    usage.engine.client.hset(key, mapping={"in_the_way": 3, "held": 2, "held_reason": "NOPERM"})
    found = health(make_usage())
    (worker,) = found.workers
    assert (worker.wrong_type, worker.blocked, worker.blocked_reason) == (3, 2, "NOPERM")
    assert {"wrong_type", "blocked"} <= codes(found)


def test_a_cluster(make_usage: MakeUsage, cluster: ClusterProcess) -> None:
    usage: Any = make_usage(cluster.url)
    add(usage)
    assert usage.flush()
    found = health(usage)
    assert (found.redis["kind"], found.redis["nodes"], len(found.workers)) == ("cluster", 3, 1)
