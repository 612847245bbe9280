"""Where a period's usage is going, from its whole days so far."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

from usage_middleware.periods import DAY
from usage_middleware.plans.billing import Period

#: So many of the latest whole days are looked at.
DAYS = 7


class Projection(NamedTuple):
    """How much will have been used when the period ends, and between what it may be. Never less than was used."""

    value: int
    low: int
    high: int


def projected(used: int, days: Sequence[int], period: Period, now: int) -> Projection | None:
    """What the latest whole days say about the rest of the period.

    The rest goes on as the mean of the days; `low` and `high` are a standard deviation of them away from it.

    Args:
        used: how much of the period was used until `now`.
        days: how much was used on each of the latest whole days, at most `DAYS` of them, none before the period.

    Returns None before one whole day, and for periods of a day.
    """
    if not days or period.end - period.start <= DAY + DAY // 12:
        return None
    mean, spread = sum(days) / len(days), _deviation(days)
    left = max(0, period.end - now) / DAY
    return Projection(*(used + max(0, round(each * left)) for each in (mean, mean - spread, mean + spread)))


def _deviation(days: Sequence[int]) -> float:
    """The standard deviation of whole numbers."""
    return sqrt(len(days) * sum(day * day for day in days) - sum(days) ** 2) / len(days)
