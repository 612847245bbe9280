"""Two workers of a real server: every call that was sent is counted once, in every view and in Redis."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.serving import Serving, counted, gunicorn, serving, serving_example, uvicorn, workers
from tests.support import ServerProcess, eventually, free_port
from usage_middleware import KeyInfo, Usage

SERVERS = {
    "uvicorn": ("uvicorn", ("--workers", "2"), "acme", "acme-live-storefront"),
    "gunicorn": ("gunicorn", ("--workers", "2"), "initech", "initech-live-crm"),
    "gunicorn-preload": ("gunicorn", ("--workers", "2", "--preload"), "initech", "initech-live-crm"),
}
ROUND = 40
ROUNDS = 10


@pytest.mark.parametrize("server_name", SERVERS)
def test_calls_to_two_workers_are_counted_once(server_name: str, server: ServerProcess, namespace: str) -> None:
    kind, options, org, key = SERVERS[server_name]
    with server.client() as client:
        put_key(server, namespace, org, key)
        with serving_example(kind, options, server.url, namespace) as running:
            call_until_both_have_worked(running, client, namespace, org, key)
            eventually(lambda: running.is_counted(client, namespace, org))
            assert set(totals_of_views(running, key).values()) == {running.sent}
        assert counted(client, namespace, org) == running.sent


@pytest.mark.parametrize("server_name", SERVERS)
def test_calls_counted_just_before_the_end_are_sent(server_name: str, server: ServerProcess, namespace: str) -> None:
    kind, options, org, key = SERVERS[server_name]
    with server.client() as client:
        put_key(server, namespace, org, key)
        with serving_example(kind, options, server.url, namespace, USAGE_FLUSH_INTERVAL="60") as running:
            running.call_all([("GET", "/v1/anything", {"headers": {"X-API-Key": key}})] * ROUND)
            assert counted(client, namespace, org) == 0
        assert counted(client, namespace, org) == ROUND


@pytest.mark.slow
@pytest.mark.parametrize("server_name", SERVERS)
def test_workers_share_the_embedded_server(
    server_name: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, options, _, key = SERVERS[server_name]
    monkeypatch.delenv("USAGE_REDIS_URL", raising=False)
    environment = {"USAGE_DATA_DIR": str(tmp_path), "USAGE_NAMESPACE": namespace, "USAGE_FLUSH_INTERVAL": "0.2"}
    port = free_port()
    with serving((uvicorn if kind == "uvicorn" else gunicorn)(port, *options), port, **environment) as running:
        running.call_all([("GET", "/v1/anything", {"headers": {"X-API-Key": key}})] * ROUND)
    with Usage(None, data_dir=tmp_path, namespace=namespace) as usage:
        assert counted(usage.engine.client, namespace, "default") == ROUND


def put_key(server: ServerProcess, namespace: str, org: str, secret: str) -> None:
    usage = Usage(server.url, namespace=namespace)
    usage.keys.put(org, KeyInfo(id="key_tested", name="Tested"), secret=secret)
    usage.close()


def call_until_both_have_worked(running: Serving, client: redis.Redis, namespace: str, org: str, key: str) -> None:
    headers = {"X-API-Key": key}
    for _ in range(ROUNDS):
        running.call_all([("GET", f"/v1/places/{number}", {"headers": headers}) for number in range(ROUND)])
        eventually(lambda: running.is_counted(client, namespace, org))
        if workers(client, namespace) == 2:
            return
    pytest.fail("one worker got every call")


def totals_of_views(running: Serving, key: str) -> dict[str, int]:
    """What each view says was called in all."""
    return {
        "summary": running.view("/usage/summary", key)["total_calls"],
        "details": running.view("/usage/", key)["usage"]["requests"],
        "endpoints": sum(row["total_requests"] for row in running.view("/usage/endpoints", key)["results"]),
        "by-group": running.view("/usage/by-group?group=status", key)["totals"]["calls"],
        "by-key": sum(row["request_count"] for row in running.view("/usage/by-key", key)["keys"]),
        "series": running.view("/usage/series", key)["totals"]["calls"],
    }
