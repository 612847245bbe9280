"""The names, the amounts and the ends of all that a chunk adds, and that its sums agree."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.cells import MINUTE, Cell, cell, cells, lists_of_cells
from usage_middleware.options import Settings
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.retention import is_late
from usage_middleware.store.rollup import Expansion, Increments, expand
from usage_middleware.store.schema import Schema

HOUR, DAY = 3600, 86400
NOW = MINUTE + 20
#: 2026-11-20T00:00:00Z
MIDNIGHT = MINUTE - MINUTE % DAY
MONTH_END = MIDNIGHT + 11 * DAY


def schema(**options: Any) -> Schema:
    return Schema(Settings(**{"history": False, **options}))


def expanded(*given_cells: Cell, org: str = "acme", now: int = NOW, dropped: int = 0, **options: Any) -> Expansion:
    return expand(schema(**options), Chunk(org, 1, cells(given_cells), dropped), now)


def test_the_series_of_one_call() -> None:
    found = expanded(cell())
    fields = ("calls", 1), ("s200", 1), ("latency_us", 1000), ("bytes", 50)
    assert {key: (one.sums, one.greatest) for key, one in found.series.items()} == {
        f"usage:{{acme}}:series:{block}{of}": (
            {f"{slot} {name}": amount for name, amount in fields},
            {f"{slot} last_ms": MINUTE * 1000 + 20_000},
        )
        for block, slot in (("1m:2026-11-20T13:30", "45"), ("30m:2026-11-20", "13:30"), ("1d:2026-11", "20"))
        for of in ("", ":endpoint:GET /v1/items", ":key:key_7")
    }


def test_the_boards_of_one_call() -> None:
    found = expanded(cell(status=404))
    slots = "1m:2026-11-20T13:45", "30m:2026-11-20T13:30", "1d:2026-11-20"
    under_the_key = {
        "calls endpoint GET /v1/items": 1,
        "latency_us endpoint GET /v1/items": 1000,
        "4xx endpoint GET /v1/items": 1,
        "calls latency 73": 1,
    }
    assert {key: board.sums for key, board in found.boards.items()} == {
        f"usage:{{acme}}:board:{slot}:{name}": scores
        for slot in slots
        for name, scores in {
            "endpoint:calls": {"GET /v1/items": 1},
            "endpoint:latency_us": {"GET /v1/items": 1000},
            "endpoint:4xx": {"GET /v1/items": 1},
            "key:calls": {"key_7": 1},
            "key:latency_us": {"key_7": 1000},
            "key:4xx": {"key_7": 1},
            "latency": {"73": 1},
            "endpoint:GET /v1/items:latency": {"73": 1},
            "key:key_7": under_the_key,
        }.items()
    }


def test_counters_end_with_their_slot_or_block_and_the_retention() -> None:
    found = expanded(cell())
    counters: dict[str, Increments] = {**found.series, **found.boards}
    ends = {key.removeprefix("usage:{acme}:"): counter.expire_at for key, counter in counters.items()}
    block = MINUTE - MINUTE % 1800 + 1800
    assert ends["series:1m:2026-11-20T13:30"] == block + 48 * HOUR
    assert ends["series:30m:2026-11-20"] == MIDNIGHT + DAY + 100 * DAY
    assert ends["series:1d:2026-11"] == MONTH_END + 800 * DAY
    assert ends["series:1m:2026-11-20T13:30:endpoint:GET /v1/items"] == block + 3 * HOUR
    assert ends["series:30m:2026-11-20:endpoint:GET /v1/items"] == MIDNIGHT + DAY + 100 * DAY
    assert ends["series:1d:2026-11:endpoint:GET /v1/items"] == MONTH_END + 400 * DAY
    assert ends["series:1m:2026-11-20T13:30:key:key_7"] == block + 3 * HOUR
    assert ends["series:30m:2026-11-20:key:key_7"] == MIDNIGHT + DAY + 41 * DAY
    assert ends["series:1d:2026-11:key:key_7"] == MONTH_END + 400 * DAY
    for name in "endpoint:calls", "key:latency_us", "latency", "endpoint:GET /v1/items:latency":
        assert ends[f"board:1m:2026-11-20T13:45:{name}"] == MINUTE + 60 + 3 * HOUR
        assert ends[f"board:30m:2026-11-20T13:30:{name}"] == block + 9 * DAY
        assert ends[f"board:1d:2026-11-20:{name}"] == MIDNIGHT + DAY + 400 * DAY
    assert ends["board:1m:2026-11-20T13:45:key:key_7"] == MINUTE + 60 + 75 * 60
    assert ends["board:30m:2026-11-20T13:30:key:key_7"] == block + 49 * HOUR
    assert ends["board:1d:2026-11-20:key:key_7"] == MIDNIGHT + DAY + 100 * DAY


def test_with_history_days_are_marked_and_live_until_they_are_packed() -> None:
    found = expanded(cell(), history=True)
    todo = found.boards.pop("usage:{acme}:history:todo")
    assert todo == Increments(NOW + 800 * DAY, {"30m 2026-11-20": 1, "1d 2026-11-20": 1})
    alike = expanded(cell())
    assert {key: one.sums for key, one in found.boards.items()} == {key: one.sums for key, one in alike.boards.items()}
    for key, one in {**found.series, **found.boards}.items():
        assert one.expire_at >= MINUTE + 800 * DAY or ":1m:" in key


def test_declared_dimensions_and_counters() -> None:
    found = expanded(
        cell(tags=("search", "eu"), counts=(120, 0)), dimensions=("project", "region"), counters=("records", "matches")
    )
    day = "usage:{acme}:board:1d:2026-11-20"
    assert found.boards[f"{day}:project:calls"].sums == {"search": 1}
    assert found.boards[f"{day}:region:latency_us"].sums == {"eu": 1000}
    assert {"calls project search": 1, "latency_us region eu": 1000}.items() <= found.boards[f"{day}:key:key_7"].sums.items()
    sums = found.series["usage:{acme}:series:1d:2026-11:key:key_7"].sums
    assert sums["20 c.records"] == 120
    assert "20 c.matches" not in sums
    assert set(found.seen) == {"endpoint", "key", "project", "region"}


def test_nothing_is_written_for_zeros_but_the_calls() -> None:
    found = expanded(cell(latency_us=0, sent=0))
    assert set(found.series["usage:{acme}:series:1d:2026-11"].sums) == {"20 calls", "20 s200"}
    assert "usage:{acme}:board:1d:2026-11-20:endpoint:latency_us" not in found.boards


@pytest.mark.parametrize(
    ("status", "measure"), [(100, "1xx"), (99, "1xx"), (304, "3xx"), (499, "4xx"), (500, "5xx"), (999, "5xx")]
)
def test_sparse_measures(status: int, measure: str) -> None:
    found = expanded(cell(status=status))
    assert found.boards[f"usage:{{acme}}:board:1d:2026-11-20:key:{measure}"].sums == {"key_7": 1}
    assert found.series["usage:{acme}:series:1d:2026-11"].sums[f"20 s{status}"] == 1


def test_shards() -> None:
    found = expanded(cell(), shards={"key": 16})
    assert found.boards["usage:{acme}:board:1d:2026-11-20:key~11:calls"].sums == {"key_7": 1}
    assert "usage:{acme}:board:1d:2026-11-20:key:key_7" in found.boards


def test_fifteen_minute_slots() -> None:
    found = expanded(cell(), slot_minutes=15)
    assert "usage:{acme}:board:15m:2026-11-20T13:45:endpoint:calls" in found.boards
    assert "usage:{acme}:series:1m:2026-11-20T13:45" in found.series
    assert "13:45 calls" in found.series["usage:{acme}:series:15m:2026-11-20"].sums


def test_hostile_names_stay_in_their_place() -> None:
    found = expanded(cell(key="calls", endpoint="GET /a:b\n%"))
    assert "usage:{acme}:board:1d:2026-11-20:key:%63alls" in found.boards
    assert "usage:{acme}:series:1d:2026-11:endpoint:GET /a%3Ab%0A%25" in found.series
    assert found.boards["usage:{acme}:board:1d:2026-11-20:endpoint:calls"].sums == {"GET /a:b\n%": 1}


def test_the_operators_tree_tells_organisations_apart_and_no_keys() -> None:
    found = expanded(cell(tags=("x",)), cell(org="globex", tags=("x",)), org="*", dimensions=("project",), operator_tree=True)
    day = "usage:{*}:board:1d:2026-11-20"
    assert found.boards[f"{day}:org:calls"].sums == {"acme": 1, "globex": 1}
    assert found.boards[f"{day}:project:calls"].sums == {"x": 2}
    assert found.boards[f"{day}:endpoint:calls"].sums == {"GET /v1/items": 2}
    assert found.boards[f"{day}:endpoint:GET /v1/items:latency"].sums == {"73": 2}
    assert found.series["usage:{*}:series:1d:2026-11:endpoint:GET /v1/items"].sums["20 calls"] == 2
    assert not [key for key in (*found.series, *found.boards) if ":key" in key]
    assert set(found.seen) == {"endpoint", "org", "project"}


def test_the_registry_keeps_the_last_activity() -> None:
    assert expanded(cell(last_ms=7), cell(last_ms=9, status=404), cell(last_ms=8, status=500)).seen == {
        "endpoint": {"GET /v1/items": 9},
        "key": {"key_7": 9},
    }


def test_dropped_calls_show_now() -> None:
    found = expanded(dropped=3, now=NOW)
    assert {key: one.sums for key, one in found.series.items()} == {
        "usage:{acme}:series:1m:2026-11-20T13:30": {"45 dropped": 3},
        "usage:{acme}:series:30m:2026-11-20": {"13:30 dropped": 3},
        "usage:{acme}:series:1d:2026-11": {"20 dropped": 3},
    }
    assert not found.boards


def test_late_calls_count_where_counters_are_still_kept() -> None:
    found = expanded(cell(), now=MINUTE + 30 * DAY)
    kept = {key.split(":")[3] for key in found.boards}
    assert kept == {"1d"}
    assert "usage:{acme}:series:30m:2026-11-20:key:key_7" in found.series
    assert not [key for key in found.series if ":1m:" in key]


def test_too_late_for_everything() -> None:
    assert not is_late(schema(), MINUTE, MONTH_END + 800 * DAY - 1)
    assert is_late(schema(), MINUTE, MONTH_END + 800 * DAY)


@settings(max_examples=60, deadline=None)
@given(lists_of_cells())
def test_sums_agree_at_every_resolution(given_cells: list[Cell]) -> None:
    found = expanded(*given_cells, dimensions=("project",), counters=("records",))
    calls = sum(totals.calls for _, totals in given_cells)
    latency = sum(totals.latency_us for _, totals in given_cells)
    for res in "1m", "30m", "1d":
        kept = calls if res == "1d" else None
        totals = {
            "series": _series(found, res, "calls", ()),
            "endpoints": _series(found, res, "calls", ("endpoint",)),
            "boards": _boards(found, res, "endpoint:calls"),
            "keys": _boards(found, res, "key:calls"),
            "projects": _boards(found, res, "project:calls"),
            "latency": _boards(found, res, "latency", exactly=True),
        }
        if kept is not None:
            assert set(totals.values()) == {kept}
            assert _series(found, res, "latency_us", ()) == latency
            assert _boards(found, res, "endpoint:latency_us") == latency
            assert _series(found, res, "c.records", ()) == sum(totals.counts[0] for _, totals in given_cells)
        else:
            assert totals["boards"] == totals["keys"] == totals["projects"] == totals["latency"]


def _series(found: Expansion, res: str, measure: str, of: tuple[str, ...]) -> int:
    return sum(
        amount
        for key, one in found.series.items()
        if f":series:{res}:" in key and (f":{of[0]}:" in key if of else ":endpoint:" not in key and ":key:" not in key)
        for field, amount in one.sums.items()
        if field.endswith(f" {measure}")
    )


def _boards(found: Expansion, res: str, name: str, *, exactly: bool = False) -> int:
    def matches(key: str) -> bool:
        return key.endswith(f":{name}") and f":board:{res}:" in key and not (exactly and ":endpoint:" in key)

    return sum(sum(board.sums.values()) for key, board in found.boards.items() if matches(key))


@settings(max_examples=60, deadline=None)
@given(lists_of_cells(), st.integers(1, 5))
def test_any_cut_into_chunks_adds_up_to_the_same(given_cells: list[Cell], step: int) -> None:
    options: dict[str, Any] = {"dimensions": ("project",), "counters": ("records",)}
    whole = _flat(expanded(*given_cells, **options))
    parts: Counter[tuple[str, str]] = Counter()
    for at in range(0, len(given_cells), step):
        parts += _flat(expanded(*given_cells[at : at + step], **options))
    assert parts == whole


def _flat(found: Expansion) -> Counter[tuple[str, str]]:
    flat: Counter[tuple[str, str]] = Counter()
    for key, one in found.series.items():
        flat.update({(key, field): amount for field, amount in one.sums.items()})
    for key, board in found.boards.items():
        flat.update({(key, member): amount for member, amount in board.sums.items()})
    return flat
