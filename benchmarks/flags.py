"""How often flags of keys are wrong, and how often they see what is odd: on made-up traffic, key by key and day by day.

A key has a mean of calls a workday, a tenth to all of that at weekends, and days that differ by more than chance: the mean of
each day is drawn from a gamma distribution. Then one day is ten or a hundred times as busy, or a fifth of its calls fail.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import date, timedelta

from usage_middleware.plans.flags import COMPARED_DAYS, Day, KeyDays, flags

KEYS, DAYS = 400, 60
FIRST = date(2026, 1, 5)
MEANS = (1, 10, 100, 1_000)


def poisson(mean: float, chance: random.Random) -> int:
    """A number of calls."""
    if mean > 500:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    limit, product, found = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        found += 1
    return found


def days_of(mean: float, chance: random.Random) -> dict[date, Day]:
    """The days of one key."""
    weekend, uneven, rate = chance.uniform(0.1, 1.0), chance.uniform(2.0, 20.0), chance.uniform(0.0, 0.03)
    found: dict[date, Day] = {}
    for number in range(DAYS):
        at = FIRST + timedelta(number)
        level = mean * (weekend if at.weekday() >= 5 else 1.0) * chance.gammavariate(uneven, 1 / uneven)
        calls = poisson(level, chance)
        if calls:
            found[at] = Day(calls, sum(chance.random() < rate for _ in range(calls)))
    return found


def flagged(days: dict[date, Day], today: date, code: str) -> bool:
    """Whether a day is flagged, by what is known on it."""
    known = {at: day for at, day in days.items() if today - timedelta(COMPARED_DAYS) <= at <= today}
    before = [at for at in days if at < today]
    key = KeyDays(today=today, days=known, known_since=FIRST, previous_activity=max(before, default=None))
    return code in {flag.code for flag in flags(key)}


def share(mean: float, code: str, change: Callable[[Day], Day]) -> float:
    """How many days of all are flagged after a change."""
    chance = random.Random(mean)
    found = [
        flagged({**days, today: change(days[today])}, today, code)
        for days in (days_of(mean, chance) for _ in range(KEYS))
        for today in (FIRST + timedelta(number) for number in range(COMPARED_DAYS, DAYS))
        if today in days
    ]
    return sum(found) / len(found)


def main() -> None:
    """Print a row for each mean."""
    print("| calls a workday | spike, nothing odd | x 10 | x 100 | error burst, nothing odd | a fifth fails |")
    for mean in MEANS:
        row = (
            share(mean, "spike", lambda day: day),
            share(mean, "spike", lambda day: day._replace(calls=10 * day.calls)),
            share(mean, "spike", lambda day: day._replace(calls=100 * day.calls)),
            share(mean, "error_burst", lambda day: day),
            share(mean, "error_burst", lambda day: Day(day.calls, math.ceil(day.calls / 5))),
        )
        print(f"| {mean:,} | " + " | ".join(f"{one:.2%}" for one in row) + " |")


if __name__ == "__main__":
    main()
