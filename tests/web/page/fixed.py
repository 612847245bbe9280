"""A usage API whose clock stands still in the week after clocks were changed, and calls of the 95 days before."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tests.support import Clock
from usage_middleware import KeyInfo, Usage, Viewer
from usage_middleware.web import usage_wsgi_app

ORG = "fixed"
NOW = datetime(2026, 10, 29, 9, 40, 20, tzinfo=UTC)
KEYS, ENDPOINTS, STATUSES = ("key_1", "key_2", "key_3"), ("GET /a", "GET /b", "POST /b"), (200, 200, 404, 500)


class Some(NamedTuple):
    """Some calls at once."""

    at: datetime
    key: str
    endpoint: str
    status: int
    calls: int


def _some() -> Iterator[Some]:
    chosen = random.Random(7)
    for number in range(600):
        # Half of them lie in the last nine days, of which half-hours are kept of everything.
        minutes = chosen.randrange(9 * 1440 if number % 2 else 95 * 1440)
        at = NOW - timedelta(minutes=minutes + 1)
        yield Some(at, chosen.choice(KEYS), chosen.choice(ENDPOINTS), chosen.choice(STATUSES), chosen.randrange(1, 400))


CALLS = tuple(_some())


def counted(start: datetime, end: datetime, **wanted: Any) -> int:
    """How many calls there were from `start` to `end`; `wanted`: key, endpoint, status."""
    return sum(
        one.calls
        for one in CALLS
        if start <= one.at < end and all(getattr(one, name) == value for name, value in wanted.items())
    )


def usage_at(url: str) -> Usage:
    """The counters, filled."""
    usage = Usage(url, namespace="fixed", clock=Clock(NOW.timestamp()), flush_interval=3600)
    for number, key in enumerate(KEYS):
        usage.keys.put(ORG, KeyInfo(id=key, name=f"Key {number}"))
    usage.backfill(
        {"org": ORG, "id": str(number), "at": one.at, "key": one.key, "endpoint": one.endpoint, "status": one.status,
         "calls": one.calls, "latency_ms": 5 * one.calls}
        for number, one in enumerate(CALLS)
    )  # fmt: skip
    return usage


@contextmanager
def served(usage: Usage) -> Iterator[str]:
    """Its usage API on a port of this machine."""
    app = usage_wsgi_app(usage, auth=lambda _: Viewer.organization(ORG), cache_seconds=0, limit=None)
    with make_server("127.0.0.1", 0, app, _Threaded, _Silent) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""
