"""A year of one large organisation, really packed: 50 endpoints by 1,000 keys."""

from __future__ import annotations

from benchmarks.tables import table
from benchmarks.traffic import Traffic
from benchmarks.whole_year import Plan, year

#: Calls a day, unless it is said; and how much busier each of the counted days is than that.
CALLS, WEEK = 100_000, (1.15, 1.1, 1.1, 1.05, 1.0, 0.8, 0.8)


def run(quick: bool, size: int | None = None) -> str:
    """The table. `size`: how many calls a day."""
    calls = 2_000 if quick else size or CALLS
    plan = Plan(Traffic(1_000, 50), [int(calls * share) for share in WEEK], 1, 1, 70 if quick else 365)
    found = year(plan)
    rows = [
        ["`history_after` of 35 days", f"{found.after_35 / 1e6:,.0f} MB", "600 MB, of 100,000 calls a day"],
        ["`history_after` of 9 days", f"{found.after_9 / 1e6:,.0f} MB", ""],
        ["packing a day, both resolutions: CPU", f"{found.seconds / plan.days:.2f} s", "2 s, of 100,000 calls a day"],
        ["and of Redis", f"{found.redis / plan.days:.2f} s", ""],
        ["calls that were counted, and that views say by months of New York and by key", f"{found.calls:,}", ""],
    ]
    text = f"50 x 1,000, some {calls:,} calls on each of {plan.days} days, really packed"
    return f"{text}:\n\n{table(['', 'measured', 'target'], rows)}"
