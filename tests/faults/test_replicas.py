"""A primary with a replica, watched by a sentinel: the primary dies, also before the replica had everything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.faults.harness import ServerWorld, World
from tests.faults.ledger import assert_agreement, stored
from tests.faults.proxy import Proxy
from tests.faults.replication import SERVICE, ask, follow, sentinel
from tests.support import ServerProcess, eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def replica(primary: ServerProcess) -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        follow(running, primary)
        yield running


@pytest.fixture
def primary() -> Iterator[ServerProcess]:
    with ServerProcess(repl_diskless_sync_delay=0) as running:
        yield running


def test_a_sentinel_promotes_the_replica(primary: ServerProcess, replica: ServerProcess, namespace: str) -> None:
    with ExitStack() as ending:
        watching = sentinel(primary)
        ending.callback(watching.remove)
        world = World(namespace, f"redis+sentinel://127.0.0.1:{watching.port}/{SERVICE}", replica.client)
        ending.callback(world.close)
        asked = ending.enter_context(watching.client())
        # It asks a primary for its replicas every ten seconds: a failover before that would find none.
        eventually(lambda: ask(asked, "REPLICAS", SERVICE), 60)
        world.start()
        primary.kill()
        world.is_away()
        world.traffic.go_on()
        eventually(lambda: ask(asked, "GET-MASTER-ADDR-BY-NAME", SERVICE)[1] == b"%d" % replica.port, 60)
        world.is_back()
        world.check()


def test_what_a_replica_never_had_is_sent_again_when_it_takes_over(
    primary: ServerProcess, replica: ServerProcess, namespace: str
) -> None:
    with Proxy(primary.port) as proxy, ExitStack() as ending:
        world = ServerWorld(replica, proxy, namespace)
        ending.callback(world.close)
        world.start()
        cut_off(primary, replica)
        world.traffic.go_on(100)
        eventually(world.usage.flush)
        take_over(primary, replica, proxy)
        world.check()


def test_the_name_of_the_primary_moves_while_the_old_one_lives_on(
    primary: ServerProcess, replica: ServerProcess, namespace: str
) -> None:
    """As behind a DNS name or a load balancer: new connections lead to the new primary, the old one is a replica now."""
    with Proxy(primary.port) as proxy, ExitStack() as ending:
        world = ServerWorld(replica, proxy, namespace)
        ending.callback(world.close)
        world.start()
        with world.traffic.paused():
            eventually(world.usage.flush)
            proxy.target = replica.port
            with replica.client() as client:
                client.replicaof("NO", "ONE")
            follow(primary, replica)
        world.traffic.go_on()
        world.check()


def test_an_empty_server_takes_over(primary: ServerProcess, namespace: str) -> None:
    """As when a failover chooses a replica that never had anything: the last 10 s are sent again."""
    with ServerProcess() as empty, Proxy(primary.port) as proxy, ExitStack() as ending:
        world = ServerWorld(empty, proxy, namespace)
        ending.callback(world.close)
        world.start()
        with world.traffic.paused():
            eventually(world.usage.flush)
            proxy.target = empty.port
            proxy.hang_up(reset=True)
        world.traffic.go_on()
        world.check()


def test_with_wait_replicas_it_is_kept_for_as_long_as_it_takes(
    primary: ServerProcess, replica: ServerProcess, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usage_middleware.record.outbox.RETAINED_SECONDS", 0.2)
    with Proxy(primary.port) as proxy, ExitStack() as ending:
        world = ServerWorld(replica, proxy, namespace, wait_replicas=1)
        ending.callback(world.close)
        world.start()
        assert world.usage.recorder.stats().unreplicated == 0
        cut_off(primary, replica)
        world.traffic.go_on(100)
        # Acknowledged, and far older than what is kept without confirmation.
        world.traffic.go_on_for(1.5)
        eventually(lambda: world.usage.recorder.stats().unreplicated > 0)
        take_over(primary, replica, proxy)
        world.check()


def test_a_primary_is_isolated_with_its_clients(
    primary: ServerProcess, replica: ServerProcess, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Split brain: what the primary acknowledged since, but for the last `RETAINED_SECONDS`, is lost when it gives way."""
    monkeypatch.setattr("usage_middleware.record.chunk_sender.RETAINED_SECONDS", RETAINED)
    monkeypatch.setattr("usage_middleware.record.outbox.RETAINED_SECONDS", RETAINED)
    with Proxy(primary.port) as proxy, ExitStack() as ending:
        world = ServerWorld(replica, proxy, namespace)
        ending.callback(world.close)
        world.start()
        isolate(primary, replica)
        before = len(world.ledger)
        world.traffic.go_on_for(ISOLATED)
        retained = len(world.ledger)
        world.traffic.go_on_for(RETAINED / 2)
        give_way(primary, replica, proxy)
        world.traffic.go_on()
        world.finish_abandoned()
        with replica.client() as client:
            lost = len(world.ledger) - counted(client, namespace)
            assert 0 < lost <= retained - before
            assert_agreement(client, namespace, across_trees=False)


def test_with_min_replicas_to_write_an_isolated_primary_takes_nothing(
    primary: ServerProcess, replica: ServerProcess, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting for it: what was acknowledged before the primary noticed is kept for as long as it refuses."""
    monkeypatch.setattr("usage_middleware.record.chunk_sender.RETAINED_SECONDS", RETAINED)
    monkeypatch.setattr("usage_middleware.record.outbox.RETAINED_SECONDS", RETAINED)
    with Proxy(primary.port) as proxy, ExitStack() as ending:
        world = ServerWorld(replica, proxy, namespace)
        ending.callback(world.close)
        world.start()
        with primary.client() as admin:
            admin.config_set("min-replicas-max-lag", 1)
            admin.config_set("min-replicas-to-write", 1)
        # Nothing is heard of the replica: the primary notices after a second or two.
        replica.pause()
        world.traffic.go_on()
        eventually(lambda: "NOREPLICAS" in world.usage.recorder.stats().reason)
        world.traffic.go_on_for(ISOLATED)
        with primary.client() as admin:
            admin.execute_command("CLIENT", "KILL", "TYPE", "replica")
        replica.resume()
        isolate(primary, replica)
        give_way(primary, replica, proxy)
        world.check()


#: How long acknowledged chunks are kept here, in seconds, and how long the primary is alone.
RETAINED, ISOLATED = 4.0, 5.0


def isolate(primary: ServerProcess, replica: ServerProcess) -> None:
    """The other side promotes the replica. The primary goes on with its clients."""
    with replica.client() as client:
        client.replicaof("NO", "ONE")


def give_way(primary: ServerProcess, replica: ServerProcess, proxy: Proxy) -> None:
    """The network is whole again: the old primary follows the new one, and forgets what only it has."""
    with primary.client() as client:
        client.config_set("min-replicas-to-write", 0)
        client.replicaof("127.0.0.1", replica.port)
    proxy.target = replica.port
    proxy.hang_up()


def counted(client: Any, namespace: str) -> int:
    """How many calls organisations have."""
    facts = stored(client, namespace)
    return sum(calls for place, calls in facts.items() if place[0] != "*" and place[1:] == ("1d", "series", "", "calls"))


def cut_off(primary: ServerProcess, replica: ServerProcess) -> None:
    """From now on the replica gets nothing."""
    replica.pause()
    with primary.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")


def take_over(primary: ServerProcess, replica: ServerProcess, proxy: Proxy) -> None:
    """The primary is gone; the replica, at the same address, is the new one."""
    primary.kill()
    replica.resume()
    with replica.client() as client:
        client.replicaof("NO", "ONE")
    proxy.target = replica.port
