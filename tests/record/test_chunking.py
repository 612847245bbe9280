"""What a chunk costs Redis is never more than was reckoned when it was cut."""

from __future__ import annotations

from hypothesis import given, settings

from tests.store.cells import Cell, cells, lists_of_cells
from usage_middleware.options import Settings
from usage_middleware.store.chunk import Chunk, RollupCost
from usage_middleware.store.rollup import expand
from usage_middleware.store.schema import Schema


@settings(max_examples=60, deadline=None)
@given(lists_of_cells())
def test_the_cost_is_never_less_than_what_is_sent(given_cells: list[Cell]) -> None:
    cost = RollupCost(counters=1)
    mine = [one for one in given_cells if one[0].owner[0] == "acme"]
    for key, totals in mine:
        cost.add(key, totals)
    chunk = Chunk("acme", 1, cells(mine))
    found = expand(Schema(Settings(dimensions=("project",), counters=("records",))), chunk, 0)
    assert found.increments <= cost.increments
    assert len(found.series) + len(found.boards) <= cost.redis_keys
