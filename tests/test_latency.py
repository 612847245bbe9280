"""Percentiles from logarithmic bins: never off by more than 5 %, however calls are spread and merged."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_middleware.latency import LAST_BIN, bin_of, bin_of_whole
from usage_middleware.report.metrics import estimate, percentile, summed

LOWEST, HIGHEST = 100, 600_000_000  # 0.1 ms and 10 minutes, in microseconds

SHAPES: dict[str, Callable[[random.Random], float]] = {
    "lognormal": lambda dice: dice.lognormvariate(9.5, 1.2),
    "heavy tail": lambda dice: dice.lognormvariate(11, 3),
    "bimodal": lambda dice: dice.gauss(2_000, 100) if dice.random() < 0.7 else dice.gauss(900_000, 50_000),
    "constant": lambda _: 12_345,
    "least": lambda _: LOWEST,
    "most": lambda _: HIGHEST,
    "uniform": lambda dice: dice.uniform(LOWEST, HIGHEST),
}


def exact(latencies: list[int], percent: float) -> int:
    """The nearest-rank percentile of the list itself."""
    return sorted(latencies)[ceil(len(latencies) * percent / 100) - 1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("calls", [1, 2, 19, 1_000, 20_000])
def test_percentiles_are_off_by_five_percent_at_most(shape: str, calls: int) -> None:
    dice = random.Random(calls)
    latencies = [round(min(max(SHAPES[shape](dice), LOWEST), HIGHEST)) for _ in range(calls)]
    bins = Counter(bin_of(latency) for latency in latencies)
    for percent in (50, 90, 95, 99):
        found = percentile(bins, percent)
        assert found == pytest.approx(exact(latencies, percent), rel=0.05)


@given(st.integers(LOWEST, HIGHEST))
def test_the_estimate_of_any_latency_is_within_five_percent(latency: int) -> None:
    assert estimate(bin_of(latency)) == pytest.approx(latency, rel=0.05)


@given(st.lists(st.lists(st.integers(0, 2 * HIGHEST), max_size=30), max_size=5))
def test_merged_histograms_are_the_histogram_of_all(workers: list[list[int]]) -> None:
    together = Counter(bin_of(latency) for latencies in workers for latency in latencies)
    assert summed(Counter(bin_of(latency) for latency in latencies) for latencies in workers) == together


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_longer_latency_never_has_a_lower_bin(one: int, other: int) -> None:
    assert (one <= other) <= (bin_of(one) <= bin_of(other) <= LAST_BIN)


def test_nothing_has_no_percentile() -> None:
    assert percentile({}, 99) is None


@pytest.mark.parametrize("latency", [0, 1, -5])
def test_what_took_no_time_has_a_bin_too(latency: int) -> None:
    assert bin_of(latency) == 0
    assert estimate(0) == 1.0


def test_the_table_agrees_with_the_formula() -> None:
    assert [bin_of_whole(latency) for latency in range(70_000)] == [bin_of(latency) for latency in range(70_000)]
