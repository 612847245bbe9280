"""`wait_replicas`: what replicas have not confirmed is kept, so that a failover that loses it gets it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.record.conftest import MakeRecorder
from tests.support import Clock, ClusterProcess, ServerProcess, eventually, record_call
from usage_middleware.record.outbox import RETAINED_SECONDS
from usage_middleware.record.recorder import Recorder


def add(recorder: Recorder, org: str = "acme", n: int = 1) -> None:
    for _ in range(n):
        record_call(recorder, (org, "key_7"), "GET /a", (), 200, 1000, 50, ())


@pytest.fixture
def primary() -> Iterator[ServerProcess]:
    with ServerProcess(repl_diskless_sync_delay=0) as running:
        yield running


@pytest.fixture
def replica(primary: ServerProcess) -> Iterator[ServerProcess]:
    with ServerProcess(replicaof=f"127.0.0.1 {primary.port}") as running:
        with running.client() as client:
            eventually(lambda: client.info("replication")["master_link_status"] == "up")
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_middleware.store.writer.WAIT_MS", 50)


def calls(client: Any, recorder: Recorder, org: str = "acme") -> int:
    return int(client.hget(f"{recorder._flusher._writer.schema.tree(org)}:series:1d:2026-11", "20 calls") or 0)


def test_a_replica_confirms(make_recorder: MakeRecorder, primary: ServerProcess, replica: ServerProcess) -> None:
    monotonic = Clock(0.0)
    with primary.client() as client, replica.client() as other:
        recorder = make_recorder(client=client, wait_replicas=1, monotonic=monotonic)
        for org in "acme", "globex":
            add(recorder, org)
        assert recorder.flush()
        assert calls(other, recorder) == 1
        monotonic.advance(RETAINED_SECONDS + 1)
        assert recorder.flush()
        assert recorder.stats().backlog_bytes == 0
        assert recorder.stats().unreplicated == 0
        recorder.close()


@pytest.mark.usefixtures("quick")
def test_without_enough_replicas_it_is_kept_and_no_failure(
    make_recorder: MakeRecorder, client: Any, counted: Callable[..., int]
) -> None:
    monotonic = Clock(0.0)
    recorder = make_recorder(wait_replicas=1, monotonic=monotonic)
    for number in range(1, 4):
        add(recorder)
        assert recorder.flush()
        monotonic.advance(RETAINED_SECONDS + 1)
        assert recorder.stats().unreplicated == number
    assert len(recorder._flusher.sender.outbox.queue("acme").retained) == 3
    assert recorder.stats().state == "ok"
    assert counted() == 3
    assert recorder.close()


@pytest.mark.usefixtures("quick")
def test_a_failover_that_loses_what_was_not_confirmed(
    make_recorder: MakeRecorder, primary: ServerProcess, replica: ServerProcess
) -> None:
    """The replica was cut off for a minute, then becomes the primary."""
    monotonic = Clock(0.0)
    with primary.client() as one, replica.client() as two:
        way = [one]
        recorder = make_recorder(client=lambda: way[0], wait_replicas=1, monotonic=monotonic)
        add(recorder)
        assert recorder.flush()
        replica.pause()
        for _ in range(6):
            add(recorder)
            assert recorder.flush()
            monotonic.advance(RETAINED_SECONDS)
        primary.kill()
        replica.resume()
        two.execute_command("REPLICAOF", "NO", "ONE")
        way[0] = two
        assert recorder.flush()
        assert calls(two, recorder) == calls(two, recorder, "*") == 7
        recorder.close()


@pytest.mark.usefixtures("quick")
def test_memory_stays_within_its_bound(make_recorder: MakeRecorder, counted: Callable[..., int]) -> None:
    recorder = make_recorder(wait_replicas=1, backlog_bytes=20_000)
    for number in range(30):
        record_call(recorder, ("acme", "key_7"), f"GET /{number}", (), 200, 1000, 50, ())
        assert recorder.flush()
    assert recorder.stats().backlog_bytes <= 20_000
    assert recorder.stats().dropped == {}
    assert counted() == 30


@pytest.mark.usefixtures("quick")
def test_in_a_cluster_every_node_is_asked(cluster: ClusterProcess, make_recorder: MakeRecorder) -> None:
    client = cluster.client()
    recorder = make_recorder(client=client, wait_replicas=1, operator_tree=False)
    for number in range(12):
        add(recorder, f"org{number}")
    assert recorder.flush()
    assert recorder.stats().unreplicated == 3
    assert recorder.close()
    client.close()
