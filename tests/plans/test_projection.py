"""Where a period's usage is going."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usage_middleware.periods import DAY
from usage_middleware.plans.billing import Period
from usage_middleware.plans.projection import projected

MONTH = Period(0, 30 * DAY)


def test_the_rest_of_the_period_goes_on_as_the_last_days() -> None:
    assert projected(1_000, [100] * 7, MONTH, 10 * DAY) == (3_000, 3_000, 3_000)


def test_days_that_differ_make_it_less_certain() -> None:
    assert projected(0, [50, 150], MONTH, 20 * DAY) == (1_000, 500, 1_500)


@pytest.mark.parametrize(("days", "period"), [((), MONTH), ((5, 5), Period(0, DAY)), ((5,), Period(0, DAY + 3600))])
def test_nothing_is_said_before_one_whole_day_or_of_days(days: tuple[int, ...], period: Period) -> None:
    assert projected(10, days, period, DAY // 2) is None


@settings(deadline=None)
@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=7), st.integers(0, 40 * DAY))
def test_it_is_never_less_than_what_was_used(used: int, days: list[int], now: int) -> None:
    found = projected(used, days, MONTH, now)
    assert found is not None
    assert used <= found.low <= found.value <= found.high
    assert now < MONTH.end or found.high == used
