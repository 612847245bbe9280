"""What is written to packed time is live, counts, and is moved later: late calls, corrections, backfilled rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.report.world import Call, World, world
from tests.store.history.packing import NOW, ORGS, everything, live_keys, pack
from usage_middleware.errors import RowRefused
from usage_middleware.periods import DAY
from usage_middleware.store.history.base import packed_base
from usage_middleware.store.writer import Writer

#: When the calls happened: long enough ago that their half-hours and their day are packed.
AT = NOW - 50 * DAY
CALL: dict[str, Any] = {
    "at": AT, "reason": "a loop of ours", "key": "key_1", "endpoint": "GET /a", "status": 200, "tags": {"project": "search"},
}  # fmt: skip


@pytest.fixture
def lived(redis_url: str) -> Iterator[World]:
    """Five calls of one half-hour, packed."""
    with world(redis_url, AT, history=True) as found:
        found.happen(Call(AT + second, endpoint="GET /a", matches=2) for second in range(5))
        found.clock.set(NOW)
        assert pack(found) == 4
        yield found


def counted(lived: World) -> dict[str, Any]:
    """What readers see, packed once more in between: the same."""
    found = {org: everything(lived, org, 51, 48) for org in ORGS}
    assert pack(lived) > 0
    assert {org: everything(lived, org, 51, 48) for org in ORGS} == found
    assert not [key for key in live_keys(lived, "*:30m:*") if ":board:" in key or ":series:" in key]
    return found["acme"]


def calls_in(found: dict[str, Any], name: str) -> int:
    return sum(measures.get("calls", 0) for measures in found[name].values())


def agrees(lived: World) -> None:
    """Every series and board of that day comes to the same."""
    day = AT - AT % DAY
    for org in (None, "acme"):
        differences = lived.usage.reconcile(org, start=day, end=day + DAY).differences
        assert not differences, [str(one) for one in differences]


def test_late_calls_are_counted_and_moved(lived: World) -> None:
    lived.clock.set(AT + 100)
    lived.record(Call(AT + 100, endpoint="GET /b{x}:y", key="key_2", project="billing"))
    lived.clock.set(NOW)
    assert lived.usage.flush()
    found = counted(lived)
    for layer in ("30m", "1d"):
        assert calls_in(found, f"{layer} series") == 6
        assert found[f"{layer} board project"]["billing"]["calls"] == 1
        assert {measures["last_ms"] for measures in found[f"{layer} series"].values()} == {(AT + 100) * 1000}
    agrees(lived)


def test_a_correction_takes_from_packed_time(lived: World) -> None:
    assert lived.usage.correct("acme", id="c1", calls=-2, bytes=-200, counts={"matches": -4}, **CALL)
    assert min(score for key in live_keys(lived, "{acme}:board:30m:*calls") for score in scores(lived, key)) == -2
    found = counted(lived)
    assert calls_in(found, "30m series") == calls_in(found, "1d series") == 3
    assert found["1d board project"]["search"]["calls"] == 3
    agrees(lived)


def scores(lived: World, key: str) -> list[float]:
    return [score for _, score in lived.usage.engine.client.zrange(key, 0, -1, withscores=True)]


def test_a_correction_may_take_everything(lived: World) -> None:
    changes: dict[str, Any] = {"bytes": -500, "counts": {"matches": -10}, "latency_ms": -60}
    assert lived.usage.correct("acme", id="c1", calls=-5, **changes, **CALL)
    found = counted(lived)
    assert found["1d board endpoint"] == found["30m board endpoint"] == {}
    assert "s200" not in next(iter(found["30m series"].values()))


def test_no_more_is_taken_than_was_counted(lived: World) -> None:
    with pytest.raises(RowRefused, match="-1"):
        lived.usage.correct("acme", id="c1", calls=-6, **CALL)
    assert lived.usage.correct("acme", id="c1", calls=-5, **CALL)
    with pytest.raises(RowRefused, match="-1"):
        lived.usage.correct("acme", id="c2", calls=-1, **CALL)


def test_calls_are_moved_to_another_project(lived: World) -> None:
    """Neither the organisation's series nor that of an endpoint or a key tells that something is live."""
    there = {**CALL, "tags": {"project": "billing"}}
    rows = [{"id": "c1", "calls": -2, **CALL}, {"id": "c2", "calls": 2, **there}]
    for row in rows:
        assert lived.usage.correct("acme", **row)
    found = counted(lived)
    assert {name: measures["calls"] for name, measures in found["30m board project"].items()} == {"search": 3, "billing": 2}
    assert found["30m board key_1"].members["project"]["billing"]["calls"] == 2
    agrees(lived)


def test_a_correction_is_tried_again_when_packers_come_in_between(lived: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was checked against packed time as it was then."""
    late = iter([True])

    def packing_base(*arguments: Any) -> Any:
        found = packed_base(*arguments)
        if next(late, False):
            client = lived.usage.engine.client
            client.hincrby(live_keys(lived, "{acme}:history:????-??")[0], "v", 1)
        return found

    monkeypatch.setattr("usage_middleware.store.writer.packed_base", packing_base)
    sent: list[str] = []
    count_once = Writer.count_once

    def counting(writer: Writer, org: str, *rest: Any) -> Any:
        sent.append(org)
        return count_once(writer, org, *rest)

    monkeypatch.setattr(Writer, "count_once", counting)
    assert lived.usage.correct("acme", id="c1", calls=-2, **CALL)
    assert sent.count("acme") == 3  # Tried, tried again, counted.


def test_backfilled_rows_are_packed_too(lived: World) -> None:
    row = {name: value for name, value in CALL.items() if name != "reason"}
    lived.usage.backfill([{**row, "org": "acme", "id": "b1", "at": AT - 300 * DAY, "calls": 7, "latency_ms": 70}])
    found = {org: everything(lived, org, 351, 348) for org in ORGS}
    assert calls_in(found["acme"], "30m series") == calls_in(found["acme"], "1d series") == 7
    assert pack(lived) == 4
    assert {org: everything(lived, org, 351, 348) for org in ORGS} == found
