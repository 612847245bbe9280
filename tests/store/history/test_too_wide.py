"""What packed time is too much to read in the time that an answer has is refused before it is read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.report.world import World, instant, world
from tests.store.history.packing import NOW, calls, pack
from usage_middleware import Viewer
from usage_middleware.errors import QueryError
from usage_middleware.periods import DAY, rfc3339
from usage_middleware.store import deadline
from usage_middleware.store.history.packed_reads import SECTION_COST

#: How many days are asked for, and how many may be read.
DAYS, MOST = 60, 30


@pytest.fixture
def lived(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Weeks of calls, packed, of a large organisation."""
    monkeypatch.setattr("usage_middleware.store.history.month.MOST_TOGETHER", 0)
    monkeypatch.setattr("usage_middleware.store.history.packed_reads.MOST_COST", 2 * MOST * SECTION_COST)
    some = calls(random.Random(8), 60, DAYS * DAY)
    with world(redis_url, min(call.at for call in some), history=True) as found:
        found.happen(some)
        found.clock.set(NOW)
        pack(found)
        yield found


def hours(lived: World, start: float, end: float) -> Any:
    asked = {"granularity": "hour", "group": "endpoint", "start": start, "end": end, "timezone": "America/New_York"}
    return lived.usage.reader.series(Viewer.organization("acme"), **asked)


def test_the_nearest_window_that_can_be_read_is_named(lived: World) -> None:
    begin, end = NOW - NOW % DAY - DAYS * DAY, NOW - NOW % DAY
    with deadline.within(600), pytest.raises(QueryError, match="too wide") as refused:
        hours(lived, begin, end)
    assert (refused.value.code, refused.value.param) == ("window_too_wide", "start")
    assert refused.value.nearest is not None
    ((first, last),) = refused.value.nearest
    assert rfc3339(begin) < first < last == rfc3339(end)
    with deadline.within(600):
        assert hours(lived, instant(first), instant(last)).window.start == first


def test_a_program_may_take_its_time(lived: World) -> None:
    begin, end = NOW - NOW % DAY - DAYS * DAY, NOW - NOW % DAY
    found = hours(lived, begin, end)
    assert found.totals["calls"] == len(lived.inside(rfc3339(begin), rfc3339(end), org="acme"))


def test_wider_buckets_can_be_read(lived: World) -> None:
    begin, end = NOW - NOW % DAY - DAYS * DAY, NOW - NOW % DAY
    with deadline.within(600):
        found = lived.usage.reader.series(Viewer.organization("acme"), granularity="month", start=begin, end=end)
    assert found.totals["calls"] == len(lived.inside(rfc3339(begin), rfc3339(end), org="acme"))
