"""The dearest questions about the largest organisation, one at a time and ten at once, and what the host notices meanwhile.

Of each question: how long it takes, and how much memory it adds to a process that has done nothing else. Then, in a server: how
long the host's own requests take while ten clients ask it again and again.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from wsgiref.types import WSGIApplication

import msgspec

from benchmarks import apps, meanwhile
from benchmarks.asking import ask
from benchmarks.seeding import Past, seed
from benchmarks.tables import table
from tests.support import START, Clock, ServerProcess
from usage_middleware import Usage, Viewer
from usage_middleware.web import usage_wsgi_app

ORG = "acme"
DATES = "start_date=2026-10-22&end_date=2026-11-20"
QUESTIONS: Sequence[str] = (
    "/summary?period=30d",
    "/?timeframe=30d&limit=1000&compare=previous",
    "/endpoints",
    f"/endpoints?{DATES}",
    f"/endpoints?{DATES}&timezone=Asia/Kolkata",
    f"/endpoints?{DATES}&bucketing_size=hour",
    "/by-group?group=key&range=30d&limit=1000",
    "/by-key?period=30d",
    "/by-key?period=30d&environment=live",
    "/by-key?period=30d&limit=1000",
    "/by-key?period=30d&limit=1000&endpoints_per_key=1000",
    "/by-key?period=30d&limit=1000&sort_by=last_activity&include_revoked=true",
    "/series?group=key&limit=50&granularity=hour&period=7d",
    "/series?group=endpoint&measure=p99&limit=50&granularity=day",
)
LARGEST = Past(500, 100_000, 8_000, days=31, years_days=31)
SMALLER = Past(500, 5_000, 2_000, days=31, years_days=31)
OPTIONS: Mapping[str, Any] = {"namespace": "heavy", "shards": {"key": 16}, "max_members": {"key": 200_000}}


def run(quick: bool) -> str:
    """The tables of this part."""
    past = SMALLER if quick else LARGEST
    with ServerProcess() as server:
        with apps.new_usage(server.url, clock=Clock(), **OPTIONS) as usage:
            begun = time.monotonic()
            seed(usage, server.url, OPTIONS, ORG, past, int(START))
            print(f"{past.endpoints} x {past.keys:,}, seeded in {time.monotonic() - begun:.0f} s", flush=True)
        return f"{past.endpoints} x {past.keys:,}, no answer cached.\n\n{_questions(server.url)}\n\n{_meanwhile(server.url)}"


def _questions(url: str) -> str:
    rows = [[path, *_in_child(url, [path])] for path in QUESTIONS]
    rows += [[f"ten at once: {path}", *_in_child(url, [path] * 10)] for path in QUESTIONS]
    return table(["question", "answers", "slowest, ms", "MB added", "MB of an answer"], rows)


def _meanwhile(url: str) -> str:
    """What the host's own requests take, alone and during each question, in servers that are started anew for each.

    Where the host answers it, and where another process of the same machine does: what that takes is not ours.
    """
    rows = [[path, *_host(url, path, apart=False), *_host(url, path, apart=True)] for path in QUESTIONS]
    header = ["ten clients ask again and again"]
    header += [f"{each}{of}" for of in ("", ", apart") for each in ("answers", "alone: p50, p99", "meanwhile", "ratio of p99s")]
    text = (
        f"The host's own requests meanwhile, {meanwhile.RATE} a second, milliseconds; apart: while another process on the same "
        "machine answers"
    )
    return f"{text}:\n\n{table(header, rows)}"


def _host(url: str, path: str, *, apart: bool) -> list[str]:
    with ExitStack() as stack:
        port, *others = [stack.enter_context(meanwhile.served(url, OPTIONS, ORG)) for _ in range(1 + apart)]
        alone, during, statuses = meanwhile.measure(port, others[0] if apart else port, path)
    return [
        _counted([str(status) for status in statuses]),
        f"{alone.p50:.1f}, {alone.p99:.1f}",
        f"{during.p50:.1f}, {during.p99:.1f}",
        f"{during.p99 / alone.p99:.1f}",
    ]


def _in_child(url: str, paths: Sequence[str]) -> list[str]:
    """What questions asked at once come to, in a process that has done nothing else."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(send, msgspec.json.encode(_ask_all(url, paths)))
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as found:
        told = found.read()
    os.waitpid(pid, 0)
    return msgspec.json.decode(told, type=list[str])


def _ask_all(url: str, paths: Sequence[str]) -> list[str]:
    with apps.new_usage(url, clock=Clock(), **OPTIONS) as usage:
        app = _app(usage)
        _ask(app, "/summary?period=24h")
        before = _peak_mb()
        found: list[tuple[str, float, int]] = []
        threads = [threading.Thread(target=lambda path=path: found.append(_ask(app, path))) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        slowest, size = max(took for _, took, _ in found), max(size for _, _, size in found)
        return [_counted([code for code, _, _ in found]), f"{slowest:.0f}", f"{_peak_mb() - before:.0f}", f"{size / 1e6:.2f}"]


def _counted(codes: Sequence[str]) -> str:
    return ", ".join(f"{codes.count(code)} x {code}" for code in sorted(set(codes)))


def _app(usage: Usage) -> WSGIApplication:
    return usage_wsgi_app(usage, auth=lambda _: Viewer.organization(ORG), cache_seconds=0)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _ask(app: WSGIApplication, path: str) -> tuple[str, float, int]:
    status, took, body = ask(app, path)
    return status if status == "200" else f"{status} {msgspec.json.decode(body)['code']}", took, len(body)
