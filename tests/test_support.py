"""The helpers of the tests do what they say."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from tests import support
from tests.support import Clock, ClusterProcess, ServerProcess, Stopwatch


def test_the_clock_begins_at_the_documented_instant(clock: Clock) -> None:
    assert datetime.fromtimestamp(clock(), UTC).isoformat() == "2026-11-20T13:45:20+00:00"


def test_a_fast_test_starts_no_process() -> None:
    with pytest.raises(RuntimeError, match=r"pytest\.mark\.slow"):
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_stopwatch_measures_what_passes_but_not_what_other_processes_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, waits = 100.0, {"1": 5.0, "2": 1.0}
    monkeypatch.setattr(support, "_waits", lambda: dict(waits))
    monkeypatch.setattr("tests.support.time.monotonic", lambda: now)
    watch = Stopwatch()
    now += 3
    assert watch.seconds == 3
    waits |= {"1": 5.5, "3": 1.0}
    del waits["2"]
    assert watch.seconds == 1.5


@pytest.mark.slow
def test_the_server_keeps_its_data_over_a_restart_when_told_to() -> None:
    with ServerProcess(appendonly="yes") as server, server.client() as client:
        client.set("kept", 1)
        server.stop()
        server.start()
        assert client.get("kept") == b"1"


def test_the_cluster_has_three_primaries(cluster: ClusterProcess) -> None:
    client = cluster.client()
    assert [node.server_type for node in client.nodes_manager.nodes_cache.values()] == ["primary"] * 3
    client.close()
