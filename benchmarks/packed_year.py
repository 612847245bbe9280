"""A year of a dense organisation, packed: what it holds, and how long views of it take.

One day is counted and packed. The other days are copies of its sections, each of which stands alone.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from benchmarks import apps
from benchmarks.asking import ask
from benchmarks.memory import SIZES
from benchmarks.tables import table
from benchmarks.traffic import record, requests
from tests.support import Clock, ServerProcess
from usage_middleware import KeyInfo, Usage, Viewer
from usage_middleware.periods import DAY
from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.change import MonthChange
from usage_middleware.store.history.merging import Merging
from usage_middleware.store.history.section import compressed, decode_cells, encode_raw, inflated
from usage_middleware.store.schema import Schema
from usage_middleware.web import usage_wsgi_app

SIZE = SIZES[1]
ORG = "acme"
OPTIONS: Mapping[str, Any] = {"namespace": "year", "flush_interval": 1e9, "operator_tree": False, "history": True}
#: The month of the day that is counted and packed. All other days, and the months before, are copies: a section does not say of
#: which day it is.
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
    """Bytes: half-hours of a day, the day itself, and a month when both are packed."""

    half_hours: float
    day: float
    month: float


def run(times: int) -> str:
    """The tables."""
    with ServerProcess() as server, server.client() as client:
        clock = Clock(FIRST)
        with apps.new_usage(server.url, **OPTIONS, clock=clock) as usage:
            live = _live_a_day(usage, client, clock)
            month = _fill(usage, client)
            return f"{_memory(Held(*live, month))}\n\n{_views(usage, times)}"


def _live_a_day(usage: Usage, client: Any, clock: Clock) -> tuple[float, float]:
    """Count the calls of a day, and pack it; bytes of what was live."""
    for number in range(SIZE.traffic.keys):
        usage.keys.put(ORG, KeyInfo(id=f"key_{number:06d}", name=f"Key {number}"))
    for number, call in enumerate(requests(SIZE.traffic, SIZE.calls)):
        clock.set(FIRST + number * DAY / SIZE.calls)
        record(usage.recorder, ORG, call)
        if number % (SIZE.calls // 24) == 0:
            usage.flush()
    usage.flush()
    clock.set(FIRST + 3 * DAY + 1)
    half_hours = _pack(usage, client)
    clock.set(NOW)
    return half_hours, _pack(usage, client)


def _pack(usage: Usage, client: Any) -> float:
    """Pack what is due; bytes of what was live."""
    before = _used(client) - _bytes(usage, client)
    usage.pack_history()
    return before - (_used(client) - _bytes(usage, client))


def _used(client: Any) -> float:
    time.sleep(0.3)  # Redis frees in the background what was unlinked.
    return float(client.info("memory")["used_memory"])


def _bytes(usage: Usage, client: Any) -> float:
    return float(client.memory_usage(Schema(usage.settings).history(ORG, MONTH), samples=0) or 0)


def _fill(usage: Usage, client: Any) -> float:
    """Make a month of the day, and a year of the month; bytes of the month."""
    schema, chance = Schema(usage.settings), random.Random(1)
    key = schema.history(ORG, MONTH)
    for name, section in client.hgetall(key).items():
        if name.startswith(b"days "):
            client.hset(key, name, compressed(encode_raw(_month_of(decode_cells(inflated(section)), chance))))
        elif name.startswith(b"01 "):
            client.hset(key, mapping={b"%02d %s" % (day, name[3:]): section for day in range(2, 32)})
    change = MonthChange(client, schema, ORG, MONTH, usage.engine.damage.note)
    for _ in Merging(change, schema, ORG).steps(NOW):
        pass
    for month in MONTHS[:-1]:
        client.copy(key, schema.history(ORG, month))
    return _bytes(usage, client)


def _month_of(cells: Cells, chance: random.Random) -> Cells:
    """The first day's numbers on every day of a month, a little more or less."""
    for column in cells.columns.values():
        for cell, number in list(column.items()):
            column |= {cell + day: max(1, int(number * chance.uniform(0.8, 1.2))) for day in range(31)}
    return cells


def _memory(held: Held) -> str:
    year = 12 * held.month + 35 * held.day + 2 * held.half_hours
    rows = [
        ["a day, live", _mb(held.day)],
        ["its half-hours, live", _mb(held.half_hours)],
        ["a month of 31 such days, packed, with half-hours", _mb(held.month)],
        ["**a year**: twelve months packed, the last 35 days live, and half-hours of the last 2 days", _mb(year)],
    ]
    return f"{SIZE.name}, {SIZE.calls:,} calls a day:\n\n{table(['', 'MB'], rows)}"


def _mb(number: float) -> str:
    return f"{number / 1e6:,.1f}"


def _views(usage: Usage, times: int) -> str:
    gc.collect()
    gc.freeze()  # Else the collector looks through all that the benchmark holds, in the midst of a view.
    rows = [[name, *_best(usage, *question[:2], times), question[2]] for name, question in QUESTIONS.items()]
    header = ["question", "of the processor", "in all", "target"]
    text = (
        f"Views of that year, milliseconds, none of them cached, the best of {times}: of this process's processor, and in all"
    )
    return f"{text}:\n\n{table(header, rows)}"


def _best(usage: Usage, key: str, path: str, times: int) -> tuple[str, str]:
    viewer = Viewer.key(ORG, key) if key else Viewer.organization(ORG)
    app = usage_wsgi_app(usage, auth=lambda _: viewer, cache_seconds=0, limit=None)
    took: list[tuple[float, float]] = []
    for _ in range(times):
        began = time.process_time()
        answer = ask(app, path)
        if answer.status != "200":
            return f"answered {answer.status}", ""
        took.append(((time.process_time() - began) * 1000, answer.took))
    return f"{min(cpu for cpu, _ in took):.0f}", f"{min(all_of_it for _, all_of_it in took):.0f}"
