"""Parked calls: added up as they would be in the aggregate, whatever was parked first."""

from __future__ import annotations

import pytest

from tests.record.test_aggregate import ACME, add, aggregate
from tests.support import Clock
from usage_middleware.record.parked import Parked


def test_what_is_parked_is_added_to_what_was_parked_before(clock: Clock) -> None:
    mine, parked = aggregate(clock), Parked()
    add(mine)
    add(mine, endpoint="GET /b")
    used = mine.bytes
    batch = mine.drain()
    parked.park(batch.cells, {ACME: 4})
    add(mine)
    parked.park(mine.drain().cells, {ACME: 1})
    assert (parked.bytes, parked.calls) == (used, 3)
    again = parked.drain()
    assert {key.endpoint: cell.calls for key, cell in again.cells.items()} == {"GET /a": 2, "GET /b": 1}
    assert again.dropped == {("acme", ""): 5}
    assert not parked


def test_drops_of_a_long_outage_are_told_apart_for_a_bounded_number_of_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_middleware.record.aggregate.MOST_DROPPERS", 2)
    parked = Parked()
    for number in range(5):
        parked.park({}, {bytes([number]) * 32: 1})
    assert parked.dropped == {b"\0" * 32: 1, b"\1" * 32: 1, ("*", ""): 3}
