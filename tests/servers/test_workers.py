"""Two workers of a real server: every call that was sent is counted once, in every view and in Redis."""

from __future__ import annotations

import pytest
import redis

from tests.serving import Serving, counted, serving_example, workers
from tests.support import ServerProcess, eventually
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
            assert totals_of_views(running, key) == [running.sent] * 3
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


def totals_of_views(running: Serving, key: str) -> list[int]:
    by_key = running.view("/usage/by-key", key)
    return [
        running.view("/usage/summary", key)["total_calls"],
        sum(row["request_count"] for row in by_key["keys"]),
        running.view("/usage/by-group?group=status", key)["totals"]["calls"],
    ]
