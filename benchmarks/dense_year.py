"""A year of one large organisation, really packed: 50 endpoints by 1,000 keys."""

from __future__ import annotations

from benchmarks import forecast_packed
from benchmarks.memory import SIZES, shape_of
from benchmarks.tables import table
from benchmarks.whole_year import Plan, Year, year

DENSE = SIZES[1]
#: How much busier each of the days is that are counted.
WEEK = (1.15, 1.1, 1.1, 1.05, 1.0, 0.8, 0.8)


def run(quick: bool, size: int | None = None) -> str:
    """The table. `size`: how many calls a day."""
    calls = 2_000 if quick else size or DENSE.calls
    plan = Plan(DENSE.traffic, [int(calls * share) for share in WEEK], 1, 1, 70 if quick else 365)
    return text_of(calls, plan, year(plan))


def text_of(calls: int, plan: Plan, found: Year) -> str:
    """The table of what was found."""
    shape = shape_of(DENSE._replace(calls=calls))
    after_35, after_9 = (forecast_packed.a_year(shape, after, plan.days).bytes for after in (35.0, 9.0))
    rows = [
        ["`history_after` of 35 days, MB", f"{found.after_35 / 1e6:,.0f}", f"{after_35 / 1e6:,.0f}"],
        ["`history_after` of 9 days, MB", f"{found.after_9 / 1e6:,.0f}", f"{after_9 / 1e6:,.0f}"],
        ["packing a day, both resolutions: CPU, s", f"{found.seconds / plan.days:.2f}", ""],
        ["and of Redis, s", f"{found.redis / plan.days:.2f}", ""],
        ["calls that were counted, and that views say", f"{found.calls:,}", ""],
    ]
    text = f"{DENSE.name}, some {calls:,} calls on each of {plan.days} days, really packed"
    return f"{text}:\n\n{table(['', 'measured', 'forecast'], rows)}"
