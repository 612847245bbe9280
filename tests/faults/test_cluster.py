"""Faults of a cluster of three primaries and three replicas: a node dies, a replica takes over, a slot moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from tests.faults.harness import World
from tests.faults.migration import Migration
from tests.support import ClusterProcess, ServerProcess, eventually

pytestmark = pytest.mark.slow

ORG = "acme"


@pytest.fixture(scope="module")
def replicated() -> Iterator[ClusterProcess]:
    with ClusterProcess(replicas=1, cluster_node_timeout=800, repl_diskless_sync_delay=0) as running:
        yield running


@pytest.fixture
def world(replicated: ClusterProcess, namespace: str) -> Iterator[World]:
    with ExitStack() as ending:
        eventually(lambda: is_whole(replicated), 60)
        nodes = ",".join(f"127.0.0.1:{node.port}" for node in replicated.everyone)
        found = World(namespace, f"redis+cluster://{nodes}", replicated.client)
        ending.callback(found.close)
        found.start()
        yield found


def is_whole(cluster: ClusterProcess) -> bool:
    """True when every node is up, and every replica follows its primary."""
    alive = all(cluster.ask(node, "CLUSTER INFO")["cluster_state"] == "ok" for node in cluster.everyone)
    return alive and sum(cluster.follows(node) for node in cluster.everyone) == 3


def pair(cluster: ClusterProcess, world: World) -> tuple[ServerProcess, ServerProcess]:
    """The primary that holds an organisation, and its replica."""
    with cluster.client() as client:
        port = client.get_node_from_key(f"{world.namespace}:{{{ORG}}}").port
    primary = next(node for node in cluster.everyone if node.port == port)
    return primary, next(node for node in cluster.everyone if not cluster.is_primary(node) and follows(cluster, node, port))


def follows(cluster: ClusterProcess, node: ServerProcess, port: int) -> bool:
    """True where a node is the replica of that primary."""
    found: bool = cluster.ask(node, "INFO", "replication")["master_port"] == port
    return found


def test_a_primary_is_killed_and_its_replica_takes_over(replicated: ClusterProcess, world: World) -> None:
    primary, replica = pair(replicated, world)
    primary.kill()
    world.traffic.go_on()
    eventually(lambda: replicated.is_primary(replica), 60)
    world.is_back()
    world.traffic.go_on()
    primary.start()
    eventually(lambda: replicated.follows(primary), 60)
    world.check()


def test_a_replica_that_was_behind_takes_over(replicated: ClusterProcess, world: World) -> None:
    """Replication is asynchronous: what the new primary never had is sent again."""
    primary, replica = pair(replicated, world)
    with world.traffic.paused():
        eventually(world.usage.flush)
    replica.pause()
    replicated.ask(primary, "CLIENT", "KILL", "TYPE", "replica")
    world.traffic.go_on(100)
    eventually(world.usage.flush)
    had = replicated.ask(primary, "INFO", "replication")["master_repl_offset"]
    primary.kill()
    replica.resume()
    assert replicated.ask(replica, "INFO", "replication")["slave_repl_offset"] < had - 10_000
    eventually(lambda: takes_over(replicated, replica), 60)
    world.traffic.go_on()
    primary.start()
    world.is_back()
    world.check()


def takes_over(cluster: ClusterProcess, replica: ServerProcess) -> bool:
    """Have a replica become primary without asking anybody."""
    if not cluster.is_primary(replica):
        cluster.ask(replica, "CLUSTER FAILOVER", "TAKEOVER")
    return cluster.is_primary(replica)


def test_an_operator_asks_for_the_failover(replicated: ClusterProcess, world: World) -> None:
    for primary, replica in (pair(replicated, world), pair(replicated, world)[::-1]):
        replicated.ask(replica, "CLUSTER FAILOVER")
        eventually(partial(replicated.follows, primary), 60)
        world.traffic.go_on()
        eventually(lambda: is_whole(replicated), 60)
    world.check()


def test_the_cluster_is_down(replicated: ClusterProcess, world: World) -> None:
    primary, replica = pair(replicated, world)
    replica.pause()
    primary.kill()
    others = [node for node in replicated.everyone if node not in (primary, replica)]
    eventually(lambda: all(replicated.ask(node, "CLUSTER INFO")["cluster_state"] == "fail" for node in others), 60)
    world.traffic.go_on()
    assert not world.usage.flush()
    replica.resume()
    primary.start()
    eventually(lambda: is_whole(replicated), 60)
    world.check()


def test_half_of_an_organisations_keys_have_moved(replicated: ClusterProcess, world: World) -> None:
    source, _ = pair(replicated, world)
    target = next(node for node in replicated.everyone if replicated.is_primary(node) and node is not source)
    migration = Migration(replicated, ORG, source, target)
    migration.begin()
    before = world.usage.recorder.stats().retries
    eventually(lambda: world.usage.recorder.stats().retries > before + 2)
    world.traffic.go_on()
    assert not world.usage.flush()
    migration.finish()
    world.check()
