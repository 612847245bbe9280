"""How often readers ask Redis: what is not packed costs no trip, and what is, one alone, but for the first time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis.client import Pipeline

from tests.report.world import Call, World, world
from tests.store.history.packing import NOW, pack
from usage_middleware import Viewer
from usage_middleware.periods import DAY, Slot
from usage_middleware.report.context import ReportContext


@pytest.fixture(params=[1, 400])
def lived(redis_url: str, request: pytest.FixtureRequest) -> Iterator[World]:
    """Some keys, 40 days ago and today: few, so that all sections are in one field, or many."""
    with world(redis_url, NOW - 40 * DAY, history=True) as found:
        for at in (NOW - 40 * DAY, NOW - 39 * DAY, NOW):
            found.happen(Call(at + number / 1000, key=f"key_{number}" * 20) for number in range(request.param))
        found.clock.set(NOW + 2)
        yield found


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many commands each trip had."""
    found: list[int] = []
    execute = Pipeline.execute

    def counted(pipe: Any, *args: Any, **named: Any) -> Any:
        found.append(len(pipe))
        return execute(pipe, *args, **named)

    monkeypatch.setattr(Pipeline, "execute", counted)
    return found


def read(context: ReportContext, key: str) -> tuple[object, ...]:
    """Everything and one key, from 41 days ago on."""
    layers, today = context.reader.settings.layers, NOW - NOW % DAY
    slots = [Slot(layers.day, today - back * DAY) for back in range(41)]
    slots += [Slot(layers.middle, today - 41 * DAY + at) for at in range(0, DAY, layers.middle.seconds)]
    batch = context.reader.batch("acme", context.now, context.charge)
    found = batch.series(slots), batch.key_board(slots, key), batch.board(slots, "endpoint")
    batch.read()
    return tuple(one.value for one in found)


def test_what_is_packed_is_read_in_one_trip(lived: World, trips: list[int]) -> None:
    context = lived.context(Viewer.operator(), NOW + 2)
    key = lived.calls[0].key
    before = read(context, key)
    assert len(trips) == 1
    pack(lived)
    trips.clear()
    assert read(context, key) == before
    assert 1 <= len(trips) <= 2  # It is found that there is something, and then read.
    trips.clear()
    assert read(context, key) == before
    assert len(trips) == 1


def test_what_was_unpacked_is_read_in_one_trip(lived: World, trips: list[int]) -> None:
    context = lived.context(Viewer.operator(), NOW + 2)
    key = lived.calls[0].key
    before = read(context, key)
    pack(lived)
    assert read(context, key) == before
    lived.usage.unpack_history()
    trips.clear()
    assert read(context, key) == before
    assert len(trips) == 1


def test_history_needs_no_trip_of_its_own(lived: World, trips: list[int]) -> None:
    context = lived.context(Viewer.operator(), NOW + 2)
    assert context.settings.kept("board", 1) == 800 * DAY
    assert len(trips) == 1
    context.batch("acme")
    assert len(trips) <= 2  # What workers have delivered.
