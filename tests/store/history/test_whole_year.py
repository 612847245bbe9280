"""Some months of days, packed week by week as a benchmark packs a year: views say what was counted."""

from __future__ import annotations

import pytest

from benchmarks.traffic import Traffic
from benchmarks.whole_year import Plan, year

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("plan", "most"),
    [
        pytest.param(Plan(Traffic(5, 20, projects=1), [3] * 7, 2, 1, 70), 1_000_000, id="small"),
        pytest.param(Plan(Traffic(40, 3), [90, 80, 50, 90, 40, 20, 0], 1, 1, 70), 9_000_000, id="large"),
    ],
)
def test_views_say_what_was_counted(plan: Plan, most: float) -> None:
    """`year` compares calls by endpoint and month of New York, by key, and all bytes with what was counted."""
    found = year(plan)
    assert found.calls == sum(plan.calls[day % 7] for day in range(plan.days)) * plan.organisations
    assert found.packed == plan.organisations * sum(plan.days - days for days in (2, 35))
    assert 0 < found.after_9 < found.after_35 < most
