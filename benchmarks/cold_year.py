"""A year of many small organisations, really packed: 3 calls a day each."""

from __future__ import annotations

from benchmarks.tables import table
from benchmarks.traffic import Traffic
from benchmarks.whole_year import Plan, year

#: So many are packed, unless it is said.
ORGANISATIONS = 2_000


def run(quick: bool, size: int | None = None) -> str:
    """The table. `size`: how many organisations."""
    organisations = 5 if quick else size or ORGANISATIONS
    plan = Plan(Traffic(5, 20, projects=1), [3] * 7, min(60, organisations), organisations, 70 if quick else 365)
    found = year(plan)
    rows = [
        ["of 100,000, `history_after` of 35 days", f"{found.after_35 / 1e4:.1f} GB", "18 GB"],
        ["of 100,000, `history_after` of 9 days", f"{found.after_9 / 1e4:.1f} GB", "10 GB"],
        ["packing a day of one, both resolutions: CPU", f"{_ms(found.seconds, plan)} ms", ""],
        ["and of Redis", f"{_ms(found.redis, plan)} ms", ""],
        ["calls that were counted, and that views say by months of New York and by key", f"{found.calls:,}", ""],
    ]
    text = f"{organisations:,} organisations of 5 keys, 3 calls on each of {plan.days} days, really packed"
    return f"{text}:\n\n{table(['', 'measured', 'target'], rows)}"


def _ms(seconds: float, plan: Plan) -> str:
    return f"{seconds * 1000 / plan.organisations / plan.days:.1f}"
