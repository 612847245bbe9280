"""A year of many small organisations, really packed: 3 calls a day each."""

from __future__ import annotations

from benchmarks import forecast_packed
from benchmarks.memory import Size, shape_of
from benchmarks.tables import table
from benchmarks.traffic import Traffic
from benchmarks.whole_year import Plan, Year, year

#: So many are packed, unless it is said.
ORGANISATIONS = 2_000
COLD = Size("cold", Traffic(5, 20, projects=1), 3, {})


def run(quick: bool, size: int | None = None) -> str:
    """The table. `size`: how many organisations."""
    organisations = 5 if quick else size or ORGANISATIONS
    plan = Plan(COLD.traffic, [COLD.calls] * 7, min(60, organisations), organisations, 70 if quick else 365)
    return text_of(plan, year(plan))


def text_of(plan: Plan, found: Year) -> str:
    """The table of what was found."""
    after_35, after_9 = (forecast_packed.a_year(shape_of(COLD), after, plan.days).bytes for after in (35.0, 9.0))
    rows = [
        ["100,000, `history_after` of 35 days, GB", _gb(found.after_35), _gb(after_35), "18"],
        ["100,000, `history_after` of 9 days, GB", _gb(found.after_9), _gb(after_9), "10"],
        ["packing a day of one, both resolutions: CPU, ms", _ms(found.seconds, plan), "", ""],
        ["and of Redis, ms", _ms(found.redis, plan), "", ""],
        ["calls that were counted, and that views say", f"{found.calls:,}", "", ""],
    ]
    text = f"{plan.organisations:,} organisations of 5 keys, 3 calls on each of {plan.days} days, really packed"
    return f"{text}:\n\n{table(['', 'measured', 'forecast', 'target'], rows)}"


def _gb(of_one: float) -> str:
    return f"{of_one / 1e4:.1f}"


def _ms(seconds: float, plan: Plan) -> str:
    return f"{seconds * 1000 / plan.organisations / plan.days:.1f}"
