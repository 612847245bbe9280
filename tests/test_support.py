"""The helpers of the tests do what they say."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support import Clock, ClusterProcess, ServerProcess


def test_the_clock_begins_at_the_documented_instant(clock: Clock) -> None:
    assert datetime.fromtimestamp(clock(), UTC).isoformat() == "2026-11-20T13:45:20+00:00"


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
