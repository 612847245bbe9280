"""A year of a dense organisation, packed: what it holds, and how long views of it take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from wsgiref.types import WSGIApplication

from benchmarks import apps
from benchmarks.asking import ask
from benchmarks.memory import SIZES
from benchmarks.tables import table
from benchmarks.traffic import record, requests
from tests.support import Clock, ServerProcess
from usage_middleware import KeyInfo, Usage, Viewer
from usage_middleware.periods import DAY
from usage_middleware.store.schema import Schema
from usage_middleware.web import usage_wsgi_app

SIZE = SIZES[1]
ORG = "acme"
OPTIONS: Mapping[str, Any] = {"namespace": "year", "flush_interval": 1e9, "operator_tree": False, "history": True}
#: The month that is counted and packed, day by day. Those before it are copies: a packed month does not say which it is.
MONTH, FIRST = "2026-10", int(datetime(2026, 10, 1, tzinfo=UTC).timestamp())
MONTHS = ["2025-11", "2025-12", *(f"2026-{number:02}" for number in range(1, 10)), MONTH]
#: Days are packed after 35 days.
NOW = FIRST + (31 + 36) * DAY

_NEW_YORK = "timezone=America/New_York"
_YEAR = "/endpoints?start_date=2025-11-01&end_date=2026-10-31&bucketing_size=month"
#: Question -> (who asks: a key or the organisation, its path, the target in milliseconds).
QUESTIONS: Mapping[str, tuple[str, str, int]] = {
    "endpoints, a year by months of New York": ("", f"{_YEAR}&{_NEW_YORK}", 250),
    "endpoints, a year by months of UTC": ("", _YEAR, 250),
    "by-key with endpoints, a month of New York, 1,000 keys": (
        "", f"/by-key?start=2026-07-01&end=2026-08-01&{_NEW_YORK}&limit=1000", 200,
    ),
    "by-key with endpoints, a month of New York, a page of 100": (
        "", f"/by-key?start=2026-07-01&end=2026-08-01&{_NEW_YORK}&limit=100", 200,
    ),
    "series of one key, a year by days of UTC": ("key_000007", "/series?start=2025-11-01&end=2026-11-01&granularity=day", 50),
    "series of one key, a year by days of New York": (
        "key_000007", f"/series?start=2025-11-01&end=2026-11-01&granularity=day&{_NEW_YORK}", 50,
    ),
}  # fmt: skip


class Held(NamedTuple):
    """Bytes of a dense organisation: half-hours of a day, days of a month, and a month when both are packed."""

    half_hours: float
    days: float
    packed: float


def run(days: int, times: int) -> str:
    """The tables, of a month with so many days."""
    with ServerProcess() as server, server.client() as client:
        clock = Clock(FIRST)
        with apps.new_usage(server.url, **OPTIONS, clock=clock) as usage:
            held = _live_a_month(usage, client, clock, days)
            _copy(usage, client)
            return f"{_memory(held, days)}\n\n{_views(usage, times)}"


def _live_a_month(usage: Usage, client: Any, clock: Clock, days: int) -> Held:
    """Count calls on each day and pack what is due, as time goes on."""
    for number in range(SIZE.traffic.keys):
        usage.keys.put(ORG, KeyInfo(id=f"key_{number:06d}", name=f"Key {number}"))
    usage.flush()
    half_hours: list[float] = []
    for day in range(days):
        begun = time.monotonic()
        _count(usage, clock, FIRST + day * DAY, seed=day)
        clock.set(FIRST + (day + 3) * DAY + 1)
        half_hours.append(_pack(usage, client))
        print(f"day {day + 1} of {days}: {time.monotonic() - begun:.0f} s", flush=True)
    clock.set(NOW)
    return Held(statistics.median(half_hours), _pack(usage, client), _months(usage, client))


def _pack(usage: Usage, client: Any) -> float:
    """Pack what is due; bytes of what was live."""
    before = _used(client) - _months(usage, client)
    usage.pack_history()
    return before - (_used(client) - _months(usage, client))


def _count(usage: Usage, clock: Clock, midnight: int, seed: int) -> None:
    """The calls of a day. They are delivered two and a half days late: minutes are gone by then, and needn't be counted."""
    for number, call in enumerate(requests(SIZE.traffic, SIZE.calls, seed)):
        clock.set(midnight + number * DAY / SIZE.calls)
        record(usage.recorder, ORG, call)
    clock.set(midnight + 2.5 * DAY)
    usage.flush()


def _used(client: Any) -> float:
    time.sleep(0.3)  # Redis frees in the background what was unlinked.
    return float(client.info("memory")["used_memory"])


def _months(usage: Usage, client: Any) -> float:
    schema = Schema(usage.settings)
    return float(sum(client.memory_usage(schema.history(ORG, month), samples=0) or 0 for month in MONTHS))


def _copy(usage: Usage, client: Any) -> None:
    schema = Schema(usage.settings)
    for month in MONTHS[:-1]:
        client.copy(schema.history(ORG, MONTH), schema.history(ORG, month))


def _memory(held: Held, days: int) -> str:
    month = held.packed * 31 / days
    year = 12 * month + held.days * 35 / days + 2 * held.half_hours
    rows = [
        ["half-hours of a day, live", _mb(held.half_hours)],
        ["days of a month, live", _mb(held.days * 31 / days)],
        ["a month, packed: half-hours and days", _mb(month)],
        ["**a year**: twelve packed months, the last 35 days and the last 2 days of half-hours live", _mb(year)],
    ]
    text = f"{SIZE.name}, {SIZE.calls:,} calls a day, on each of {days} days that were counted and packed"
    return f"{text}:\n\n{table(['', 'MB'], rows)}"


def _mb(number: float) -> str:
    return f"{number / 1e6:,.1f}"


def _views(usage: Usage, times: int) -> str:
    rows = [[name, *_median_and_worst(usage, *question[:2], times), question[2]] for name, question in QUESTIONS.items()]
    header = ["question", "median", "slowest", "target"]
    return f"Views of that year, milliseconds, none of them cached:\n\n{table(header, rows)}"


def _median_and_worst(usage: Usage, key: str, path: str, times: int) -> tuple[str, str]:
    viewer = Viewer.key(ORG, key) if key else Viewer.organization(ORG)
    app = usage_wsgi_app(usage, auth=lambda _: viewer, cache_seconds=0, limit=None)
    took = [_took(app, path) for _ in range(times)]
    return f"{statistics.median(took):.0f}", f"{max(took):.0f}"


def _took(app: WSGIApplication, path: str) -> float:
    answer = ask(app, path)
    assert answer.status == "200", answer.body
    return answer.took
