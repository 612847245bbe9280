"""Reads in batches: a few members of a board are what the whole board says of them, and what is kept is worked out once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.report.world import OPTIONS, Call, World
from tests.support import START, Clock
from usage_middleware import Usage, Viewer
from usage_middleware.periods import Slot


@pytest.mark.parametrize("shards", [{}, {"project": 3, "key": 2}], ids=["whole boards", "sharded boards"])
@pytest.mark.parametrize("dimension", ["project", "key"])
def test_a_few_members_of_a_board(
    make_usage: Callable[..., Usage], clock: Clock, shards: dict[str, int], dimension: str
) -> None:
    usage = make_usage(**OPTIONS, shards=shards)
    world = World(usage, clock)
    clock.set(START - 3 * 86_400)
    ages = range(0, 3 * 86_400, 5000)
    world.happen(
        Call(START - age, key=f"k{age % 7}", project=f"p{age % 3}", status=200 + 300 * (age % 2000 == 0)) for age in ages
    )
    context = world.context(Viewer.organization("acme"), int(START) + 1)
    layers = usage.settings.layers
    today = int(START) // 86_400 * 86_400
    slots = [*(Slot(layers.day, today - back * 86_400) for back in (3, 2, 1)), Slot(layers.middle, today + 12 * 3600)]
    batch = context.batch("acme")
    everything = batch.board(slots, dimension)
    some = [*sorted(_names(world, dimension))[:2], "never"]
    few = batch.members(slots, dimension, some)
    assert batch.keys > len(slots)
    batch.read()
    assert few.value == {name: everything.value[name] for name in some if name in everything.value}
    assert few.value


def _names(world: World, dimension: str) -> set[str]:
    return {getattr(call, dimension) for call in world.calls}


def test_what_is_kept_is_worked_out_once(make_usage: Callable[..., Usage]) -> None:
    batch = make_usage().reader.context(Viewer.operator()).batch("acme")
    turns = iter(["the first time", "the second time"])
    found = batch.seen("endpoint").map(lambda _: next(turns)).kept()
    batch.read()
    assert (found.value, found.value) == ("the first time", "the first time")
