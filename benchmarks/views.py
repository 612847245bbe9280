"""How long the views take, cold and cached, for organisations of growing size."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from wsgiref.types import WSGIApplication

import msgspec

from benchmarks import apps
from benchmarks.asking import LIMIT, ORG, Found, ask, owner
from benchmarks.probe import Probe
from benchmarks.seeding import Past, seed
from benchmarks.tables import table
from tests.support import START, Clock, ServerProcess
from usage_middleware import Usage
from usage_middleware.web import handler, usage_wsgi_app

NOW = int(START)


class Size(NamedTuple):
    """An organisation whose views are measured."""

    name: str
    past: Past
    options: Mapping[str, Any]


SIZES = (
    Size("10 x 10", Past(10, 10, 10), {}),
    Size("50 x 1,000", Past(50, 1_000, 1_000), {}),
    Size("200 x 10,000", Past(200, 10_000, 5_000), {}),
    Size("500 x 100,000", Past(500, 100_000, 8_000), {"shards": {"key": 16}, "max_members": {"key": 200_000}}),
)
QUICK = SIZES[:2]

DATES = "start_date=2026-08-23&end_date=2026-11-20"
DAYS = "start=2026-08-23&end=2026-11-21"
QUESTIONS: Mapping[str, str] = {
    **{f"summary, {period}": f"/summary?period={period}" for period in ("24h", "7d", "30d", "90d")},
    **{f"details, {frame}": f"/?timeframe={frame}" for frame in ("1h", "24h", "7d", "30d", "90d", "1y")},
    "endpoints, all time": "/endpoints",
    "endpoints, 90 days UTC": f"/endpoints?{DATES}",
    "endpoints, 90 days New York": f"/endpoints?{DATES}&timezone=America/New_York",
    "endpoints, 90 days Kolkata": f"/endpoints?{DATES}&timezone=Asia/Kolkata",
    **{f"by-group key, {frame}": f"/by-group?group=key&range={frame}" for frame in ("1h", "24h", "7d", "30d")},
    "by-group endpoint, 30d": "/by-group?group=endpoint&range=30d",
    "series by endpoint, 90 days by day": f"/series?{DAYS}&group=endpoint&granularity=day",
    "series by endpoint, 90 days of New York": f"/series?{DAYS}&group=endpoint&granularity=day&timezone=America/New_York",
    "series by endpoint, 90 days by hour": f"/series?{DAYS}&group=endpoint",
    "series by key, 30 days by day": "/series?group=key&granularity=day",
    "series by project, 30 days by day": "/series?group=project&granularity=day",
    "series of the p95 by endpoint, 30 days by day": "/series?group=endpoint&measure=p95&granularity=day",
    **{f"by-key, {period}, page of 100": f"/by-key?period={period}&limit=100" for period in ("24h", "30d", "90d")},
}


def run(quick: bool) -> str:
    """The tables of this part."""
    sizes = QUICK if quick else SIZES
    found = {size.name: _of_size(size, 3 if quick else 7) for size in sizes}
    header = ["question", *found]
    cold = [[name, *(f"{one[name].cold:.1f} / {one[name].cached:.1f} / {one[name].slowest:.1f}" for one in found.values())]
            for name in QUESTIONS]  # fmt: skip
    text = "Milliseconds: cold / cached / the slowest command in Redis of the cold answer. With hiredis (the extra `speed`). "
    text += "An answer that takes longer than 1.8 s is measured here; in service it is 503."
    return f"{text}\n\n{table(header, cold)}\n\n{_parsers(3 if quick else 7)}\n\n{_growth(3 if quick else 7)}"


def _of_size(size: Size, times: int) -> dict[str, Found]:
    with ServerProcess() as server, server.client() as client:
        options = {"namespace": "views", **size.options}
        with apps.new_usage(server.url, clock=Clock(), **options) as usage:
            begun = time.monotonic()
            seed(usage, server.url, options, ORG, size.past, NOW)
            print(f"{size.name}: seeded in {time.monotonic() - begun:.0f} s, {client.dbsize():,} keys", flush=True)
            return _ask_all(usage, Probe(client), times)


def _ask_all(usage: Usage, probe: Probe, times: int) -> dict[str, Found]:
    _take_any_time()
    cold = usage_wsgi_app(usage, auth=owner, cache_seconds=0, limit=LIMIT)
    cached = usage_wsgi_app(usage, auth=owner, cache_seconds=600, limit=LIMIT)
    return {name: _measure(cold, cached, path, probe, times) for name, path in QUESTIONS.items()}


def _measure(cold: WSGIApplication, cached: WSGIApplication, path: str, probe: Probe, times: int) -> Found:
    _ask(cold, path)
    probe.restart()
    took = statistics.median(_ask(cold, path)[0] for _ in range(times))
    slowest, _ = probe.slowest()
    _ask(cached, path)
    kept, size = statistics.median(_ask(cached, path)[0] for _ in range(times)), _ask(cached, path)[1]
    return Found(took, kept, slowest / 1000, size)


def _take_any_time() -> None:
    """An answer is measured even where it takes longer than a view may."""
    handler.ANSWER_SECONDS = 60


def _ask(app: WSGIApplication, path: str) -> tuple[float, int]:
    """The duration of an answer in milliseconds, and its size in bytes."""
    status, took, body = ask(app, path)
    assert status == "200", body
    return took, len(body)


def _parsers(times: int) -> str:
    """The same questions with hiredis, and with redis-py's own parser in its place."""
    size = SIZES[1]
    found: dict[str, list[float]] = {}
    with ServerProcess() as server:
        options = {"namespace": "views", **size.options}
        with apps.new_usage(server.url, clock=Clock(), **options) as usage:
            seed(usage, server.url, options, ORG, size.past, NOW)
        for prepare in "", "sys.modules['hiredis'] = None; ":
            program = f"import sys; {prepare}from benchmarks.views import tell; tell({server.url!r}, {times})"
            shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
            for name, cold in msgspec.json.decode(shown, type=dict[str, float]).items():
                found.setdefault(name, []).append(cold)
    rows = [[name, f"{quick:.1f}", f"{plain:.1f}", f"{plain / quick:.1f}"] for name, (quick, plain) in found.items()]
    return f"{size.name}, cold:\n\n{table(['question', 'with hiredis, ms', 'without, ms', 'times'], rows)}"


def tell(url: str, times: int) -> None:
    """Print how long the cold answers take in this process, as JSON."""
    _take_any_time()
    with apps.new_usage(url, namespace="views", clock=Clock()) as usage:
        app = usage_wsgi_app(usage, auth=owner, cache_seconds=0, limit=LIMIT)
        _ask(app, QUESTIONS["details, 1h"])
        took = {name: statistics.median(_ask(app, path)[0] for _ in range(times)) for name, path in QUESTIONS.items()}
    print(msgspec.json.encode(took).decode())


def _growth(times: int) -> str:
    """The same organisation after a hundred times as many requests."""
    past = Past(50, 1_000, 1_000, days=31, years_days=31)
    found = {factor: _of_size(Size(f"times {factor}", past._replace(factor=factor), {}), times) for factor in (1, 100)}
    names = [name for name in QUESTIONS if name.endswith(("30d", "30d, page of 100"))]
    rows = [[name, *(f"{one[name].cold:.1f}" for one in found.values())] for name in names]
    header = ["cold, ms", *(f"calls times {factor}" for factor in found)]
    return (
        f"50 endpoints x 1,000 keys over 31 days, and the same with a hundred times as many requests:\n\n{table(header, rows)}"
    )
