"""Ninety days before the demo, made up and backfilled: what a page has to show that has been counting for a while."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from usage_middleware.latency import bin_of

DAYS = 90
#: So many hours are one row of each kind and status, on days that are at most so long ago.
HOURS = {1: 1, 14: 3, DAYS: 8}


class Habit(NamedTuple):
    """What one key does at one endpoint: calls an hour, how they grow from day to day, and how long they take."""

    org: str
    key: str
    endpoint: str
    project: str
    hourly: float
    growth: float
    milliseconds: float
    #: Status -> its share of the calls; the rest is 200.
    failures: Mapping[int, float]
    works_at_night: bool = False


HABITS = (
    Habit("acme", "key_storefront", "GET /v1/geocode", "checkout", 210, 0.004, 11, {422: 0.006}),
    Habit("acme", "key_storefront", "GET /v1/places/{place_id}", "checkout", 96, 0.006, 6, {404: 0.012}),
    Habit("acme", "key_storefront", "GET /v1/places/{place_id}", "store-finder", 58, 0.002, 6, {404: 0.02}),
    Habit("acme", "key_warehouse", "POST /v1/geocode/batch", "routing", 44, 0.001, 38, {422: 0.01}, works_at_night=True),
    Habit(
        "acme", "key_warehouse", "GET /v1/distance/{start}/{finish}", "routing", 30, 0.0, 262, {503: 0.03}, works_at_night=True
    ),
    Habit("acme", "key_staging", "GET /v1/places/{place_id}", "default", 9, 0.0, 7, {404: 0.3, 422: 0.1}),
    Habit("globex", "key_maps", "GET /v1/geocode", "tiles", 120, 0.003, 10, {}),
    Habit("globex", "key_maps", "GET /v1/distance/{start}/{finish}", "tiles", 22, 0.004, 255, {503: 0.02}),
    Habit("globex", "key_sandbox", "GET /v1/places/{place_id}", "default", 6, 0.0, 6, {404: 0.15}),
)
#: Once in so many days the routing provider is down, and this share of its calls fails.
OUTAGE_EVERY, OUTAGE = 32, 0.5


def rows(now: datetime) -> Iterator[dict[str, Any]]:
    """Rows for `usage.backfill`, from ninety days ago up to an hour before now: of each day always the same."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for ago in range(DAYS, -1, -1):
        hours = next(found for days, found in HOURS.items() if ago <= days)
        for hour in range(0, 24, hours):
            yield from _together(today - timedelta(days=ago), hour, hours, now - timedelta(hours=1))


def _together(day: datetime, hour: int, hours: int, until: datetime) -> Iterator[dict[str, Any]]:
    """What all keys do in so many hours."""
    for number, habit in enumerate(HABITS):
        drawn = random.Random(f"{day:%Y-%m-%d} {hour} {number}")
        at = day + timedelta(hours=hour, minutes=drawn.randrange(60))
        if at <= until:
            yield from _of_a_habit(habit, at, hours, f"demo {at:%Y-%m-%d %H} {number}", drawn)


def _of_a_habit(habit: Habit, at: datetime, hours: int, name: str, drawn: random.Random) -> Iterator[dict[str, Any]]:
    grown = (1 + habit.growth) ** (at.toordinal() % 365 / 2)
    calls = round(habit.hourly * hours * _busy(habit, at) * grown * drawn.lognormvariate(0, 0.12))
    is_down = "distance" in habit.endpoint and at.toordinal() % OUTAGE_EVERY == 0
    shares = {**habit.failures, 503: OUTAGE} if is_down else habit.failures
    failed = {status: round(calls * share * drawn.uniform(0.6, 1.4)) for status, share in shares.items()}
    for status, some in {200: max(calls - sum(failed.values()), 0), **failed}.items():
        if some:
            yield _row(habit, at, f"{name} {status}", status, some, drawn)


def _busy(habit: Habit, at: datetime) -> float:
    """How busy an hour is: shops sleep at night, and offices on weekends."""
    if habit.works_at_night:
        return 0.8 + 0.4 * (at.hour < 6)
    wave = 0.55 - 0.5 * math.cos((at.hour - 3) / 24 * 2 * math.pi)
    return wave * (0.62 if at.weekday() >= 5 else 1.0)


def _row(habit: Habit, at: datetime, name: str, status: int, calls: int, drawn: random.Random) -> dict[str, Any]:
    times = [habit.milliseconds * factor for factor in (0.8, 1.0, 1.25, 2.2)]
    some = [round(calls * share) for share in (0.3, 0.4, 0.22)]
    bins: dict[int, int] = {}
    for milliseconds, count in zip(times, [*some, calls - sum(some)], strict=True):
        slot = bin_of(round(milliseconds * drawn.lognormvariate(0, 0.15) * 1000))
        bins[slot] = bins.get(slot, 0) + count
    return {
        "org": habit.org, "id": name, "at": at, "key": habit.key, "endpoint": habit.endpoint, "status": status,
        "calls": calls, "bytes": calls * 240, "latency_ms": habit.milliseconds * 1.15 * calls,
        "latency_bins": {slot: count for slot, count in bins.items() if count},
        "tags": {"project": habit.project}, "counts": {"records": calls, "matches": round(calls * 0.9)},
    }  # fmt: skip
