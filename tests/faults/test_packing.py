"""Packing meets faults: processes that are killed, failovers, a slot on the move. Every call is there once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from tests.faults.migration import Migration
from tests.faults.packing import packing, take_small_steps
from tests.faults.proxy import Proxy
from tests.faults.replication import SERVICE, ask, follow, sentinel
from tests.report.world import Call, World, world
from tests.store.history.packing import NOW, ORGS, calls, everything, live_keys, pack, packer_of
from tests.support import ClusterProcess, ServerProcess, eventually, patiently
from usage_middleware.periods import DAY, HOUR
from usage_middleware.record import idle_packing
from usage_middleware.report.health import health
from usage_middleware.store.driver_errors import redis_errors
from usage_middleware.store.history import live, moving
from usage_middleware.store.history.rounds import LATER
from usage_middleware.store.schema import Schema

pytestmark = pytest.mark.slow

#: Between 39 and 36 days before `NOW`: half-hours and days are due.
SOME = calls(random.Random(11), 36, 3 * DAY, NOW - 36 * DAY)


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((moving, "MOST_KEYS"), (moving, "ENOUGH_KEYS"), (live, "AT_ONCE"), (live, "MOST_AT_ONCE")):
        monkeypatch.setattr(module, name, getattr(module, name))
    take_small_steps()


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(repl_diskless_sync_delay=0) as running:
        yield running


@contextmanager
def lived_on(url: str) -> Iterator[World]:
    """Some days of calls, at a server."""
    with world(url, min(call.at for call in SOME), history=True) as found:
        found.happen(SOME)
        found.clock.set(NOW)
        yield found


def seen(lived: World) -> dict[str, Any]:
    return {org: patiently(partial(everything, lived, org, 40, 35)) for org in ORGS}


def is_packed(lived: World) -> bool:
    """Pack what is left; whether that could be done."""
    try:
        pack(lived)
    except redis_errors():
        return False
    return True


def pack_until(lived: World, happens: Callable[[], object]) -> None:
    """Pack; something happens once a part was moved."""
    is_over = False
    for _ in packer_of(lived).pack("acme"):
        if not is_over and live_keys(lived, "{acme}:history:????-??"):
            is_over = True
            assert live_keys(lived, "{acme}:board:30m:*")
            happens()


def nothing_is_live(lived: World) -> bool:
    return not [key for pattern in ("*:series:*", "*:board:*") for key in live_keys(lived, pattern) if ":1m:" not in key]


def has_moved(proxy: Proxy, times: int) -> bool:
    return proxy.requests["EVALSHA"] >= times


def test_processes_that_pack_are_killed(server: ServerProcess) -> None:
    with lived_on(server.tcp_url) as lived, Proxy(server.port) as proxy:
        before = seen(lived)
        for moves in (1, 4, 9):
            proxy.requests.clear()
            with packing(proxy.url, lived.usage.settings.namespace, "once") as process:
                eventually(partial(has_moved, proxy, moves))
                process.kill()
            assert seen(lived) == before
        assert not nothing_is_live(lived)
        pack(lived)
        assert nothing_is_live(lived)
        assert seen(lived) == before


def test_two_processes_pack_at_once(server: ServerProcess) -> None:
    with lived_on(server.tcp_url) as lived:
        before, namespace = seen(lived), lived.usage.settings.namespace
        with packing(server.tcp_url, namespace, "once") as one, packing(server.tcp_url, namespace, "once") as other:
            while None in (one.poll(), other.poll()):
                assert seen(lived) == before
            assert one.returncode == other.returncode == 0
        pack(lived)
        assert nothing_is_live(lived)
        assert seen(lived) == before


def test_a_worker_that_packs_is_killed_and_another_goes_on_an_hour_later(server: ServerProcess) -> None:
    with lived_on(server.tcp_url) as lived, Proxy(server.port) as proxy, server.client() as client:
        before, namespace = seen(lived), lived.usage.settings.namespace
        with packing(proxy.url, namespace, "worker") as process:
            eventually(partial(has_moved, proxy, 4))
            process.kill()
        leases = live_keys(lived, "*:history:lease")
        for lease in leases:
            assert 0 < client.ttl(lease) <= HOUR
            client.delete(lease)
        assert len(leases) == 1
        lived.clock.advance(2 * HOUR)
        lived.usage.pack_history()
        assert nothing_is_live(lived)
        assert seen(lived) == before


def test_a_worker_packs_while_the_memory_is_full(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be counted then. To pack makes room."""
    monkeypatch.setattr(idle_packing, "EVERY", 0.01)
    monkeypatch.setattr(idle_packing, "RESTS", 0)
    with lived_on(server.tcp_url) as lived, server.client() as admin:
        assert lived.usage.pack_history("globex") > 0
        admin.config_set("maxmemory", 1)
        recorder = lived.usage.recorder
        recorder.close()
        recorder._rounds = lived.usage._history.rounds
        lived.record(Call(NOW))
        eventually(lambda: not live_keys(lived, "*:board:30m:*"))
        assert recorder.stats().state == "away"
        admin.config_set("maxmemory", 0)
        eventually(lived.usage.flush)
        assert totals(lived, "acme") == len([call for call in lived.calls if call.org == "acme"])


def totals(lived: World, org: str) -> int:
    """All calls of an organisation, by half-hours and by days."""
    found = everything(lived, org, 40)
    numbers = {sum(measures["calls"] for measures in found[name].values()) for name in ("30m series", "1d series")}
    (number,) = numbers
    assert isinstance(number, int)
    return number


@pytest.fixture
def replica(server: ServerProcess) -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        follow(running, server)
        yield running


def test_a_sentinel_promotes_the_replica_while_a_day_is_packed(server: ServerProcess, replica: ServerProcess) -> None:
    with ExitStack() as ending:
        watching = sentinel(server)
        ending.callback(watching.remove)
        asked = ending.enter_context(watching.client())
        eventually(lambda: ask(asked, "REPLICAS", SERVICE))
        lived = ending.enter_context(lived_on(f"redis+sentinel://127.0.0.1:{watching.port}/{SERVICE}"))
        before = seen(lived)
        late = Call(NOW - 37 * DAY, key="key_2", endpoint="GET /a")
        with server.client() as client:
            assert client.wait(1, 20_000) == 1

        def come_late_and_kill() -> None:
            lived.clock.set(late.at)
            lived.record(late)
            lived.clock.set(NOW)
            server.kill()

        with pytest.raises(redis_errors()):
            pack_until(lived, come_late_and_kill)
        eventually(lambda: ask(asked, "GET-MASTER-ADDR-BY-NAME", SERVICE)[1] == b"%d" % replica.port)
        eventually(lambda: is_packed(lived))
        assert seen(lived) == before
        eventually(lived.usage.flush)
        assert totals(lived, "acme") == len([call for call in lived.calls if call.org == "acme"])
        eventually(lambda: is_packed(lived))
        assert nothing_is_live(lived)
        assert totals(lived, "acme") == len([call for call in lived.calls if call.org == "acme"])


def test_a_replica_that_was_behind_takes_over(server: ServerProcess, replica: ServerProcess) -> None:
    """It has what was packed since as live counters: all of it, or nothing."""
    with Proxy(server.port) as proxy, lived_on(proxy.url) as lived:
        before = seen(lived)
        with server.client() as client:

            def cut_off() -> None:
                assert client.wait(1, 20_000) == 1
                replica.pause()

            pack_until(lived, cut_off)
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        assert seen(lived) == before
        server.kill()
        replica.resume()
        proxy.target = replica.port
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        eventually(lambda: is_packed(lived))
        assert nothing_is_live(lived)
        assert seen(lived) == before


def test_a_slot_moves_while_a_day_is_packed(cluster: ClusterProcess) -> None:
    with lived_on(cluster.url) as lived:
        before = seen(lived)
        source, target = source_and_target(cluster, lived)
        migration = Migration(cluster, "acme", source, target)
        with pytest.raises(redis_errors()):
            pack_until(lived, migration.begin)
        assert lived.usage.pack_history() > 0
        client, schedule = lived.usage.engine.client, Schema(lived.usage.settings).history_schedule
        assert client.zscore(schedule, "acme") == NOW + LATER
        migration.finish()
        assert seen(lived) == before
        lived.clock.advance(LATER)
        assert lived.usage.pack_history() > 0
        assert nothing_is_live(lived)
        assert seen(lived) == before


def source_and_target(cluster: ClusterProcess, lived: World) -> tuple[ServerProcess, ServerProcess]:
    """The node that has the counters of acme, and another."""
    with cluster.client() as client:
        port = client.get_node_from_key(Schema(lived.usage.settings).tree("acme")).port
    source = next(node for node in cluster.nodes if node.port == port)
    return source, next(node for node in cluster.nodes if node is not source)


def test_a_damaged_section_is_named_and_costs_itself_alone(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_middleware.store.history.month.MOST_TOGETHER", 0)
    with lived_on(server.tcp_url) as lived, server.client() as client:
        before = seen(lived)
        pack(lived)
        month = live_keys(lived, "{acme}:history:????-??")[-1]
        section = next(field for field in client.hkeys(month) if field.endswith(b"day board project"))
        client.hset(month, section, client.hget(month, section)[:-1])
        lived.clock.set(NOW - 37 * DAY)
        lived.record(Call(NOW - 37 * DAY, endpoint="GET /a"))
        lived.clock.set(NOW)
        assert lived.usage.flush()
        pack(lived)
        after = seen(lived)
        assert totals(lived, "acme") == len([call for call in lived.calls if call.org == "acme"])
        assert {org: found for org, found in after.items() if org == "globex"} == {"globex": before["globex"]}
        warned = [one.message for one in health(lived.usage.reader).warnings if one.code == "damaged"]
        assert f"{month} {section.decode()}" in warned[0]
