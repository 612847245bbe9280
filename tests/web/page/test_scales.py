"""The pure functions of the page, in the browser that runs them."""

from __future__ import annotations

from datetime import date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from tests.web.page.conftest import Call

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("greatest", "ticks"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (7, [0, 2, 4, 6, 8]),
        (95, [0, 25, 50, 75, 100]),
        (1e6, [0, 250_000, 500_000, 750_000, 1_000_000]),
        (9_007_199_254_740_991, [0, 2.5e15, 5e15, 7.5e15, 1e16]),
    ],
)
def test_ticks_of_whole_numbers(call: Call, greatest: float, ticks: list[float]) -> None:
    assert call("ticks", greatest, 4, True) == ticks


@pytest.mark.parametrize("greatest", [0.003, 0.7, 12.34, 999.9, 1e9])
def test_ticks_cover_and_are_even(call: Call, greatest: float) -> None:
    ticks = call("ticks", greatest)
    assert ticks[0] == 0
    assert ticks[-1] >= greatest * (1 - 1e-9)
    assert 2 <= len(ticks) <= 5
    assert all(abs((after - before) - ticks[1]) < 1e-9 * greatest for before, after in pairwise(ticks))


def test_stacks_end_at_their_sums(call: Call) -> None:
    assert call("stacked", [[1, 0, 2], [3, None, 1]]) == [[1, 0, 2], [4, 0, 3]]
    assert call("stacked", []) == []


def test_a_place_is_always_in_a_bucket(call: Call) -> None:
    assert [call("bucketAt", x, 100, 10) for x in (-5, 0, 9.9, 10, 99.9, 100, 500)] == [0, 0, 0, 1, 9, 9, 9]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Pacific/Apia", "Africa/Cairo"])
def test_a_day_begins_at_midnight_of_the_zone(call: Call, zone: str) -> None:
    for day in (date(2026, 3, 29), date(2026, 3, 30), date(2026, 10, 25), date(2026, 10, 26), date(2026, 1, 1)):
        midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp()
        assert call("instant", day.isoformat(), zone) == midnight * 1000


def test_a_state_is_its_address(call: Call) -> None:
    state = {"org": "a&b", "key": "k=1", "period": "7d", "timezone": "Europe/Berlin", "q": "ü "}
    address = call("address", state, "?lang=de&theme=dark&other=1")
    assert call("read", address) == state
    assert "lang=de" in address
    assert "other" not in address
    assert "period" not in call("read", "?period=bogus&unknown=1")
