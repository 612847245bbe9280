"""Whether the counters agree with each other: the same calls are counted in many places, and each place must tell the same.

For each UTC day and resolution it compares, over the slots that all of them keep:

- statuses with calls, in the series of the organisation;
- each dimension's boards, and the histogram, with that series;
- the series and the histogram of each endpoint, the series and the board of each key, with the boards;
- the organisation's row in the operator's boards with that series; in the operator's tree, each organisation's own series;
- a coarser resolution with the sum of the finer one, of the series and of each member.
"""

from __future__ import annotations

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.periods import DAY, rfc3339
from usage_middleware.report.comparison import Comparison, Difference
from usage_middleware.report.context import ReportContext
from usage_middleware.store.members import OPERATOR

#: How many days one call compares at most, and how many members of each dimension.
MOST_DAYS = 31
MOST_MEMBERS = 1_000


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared, and what disagrees.

    Attributes:
        org: the organisation; None: all of them together.
        start: the first instant that was compared, RFC 3339.
        end: the first instant that was not, RFC 3339.
        compared: how many pairs of numbers.
        left_out: dimension -> the most members of a day that were not looked at one by one, where there were more than
            `members`. They are in the sums.
        differences: the pairs that differ, also at a second look.
    """

    org: str | None
    start: str
    end: str
    compared: int
    left_out: dict[str, int]
    differences: tuple[Difference, ...]

    @property
    def agrees(self) -> bool:
        """True if nothing differs."""
        return not self.differences


def reconcile(context: ReportContext, org: str, start: int, end: int, members: int) -> Reconciliation:
    """Compare the counters of an organisation's tree (`*`: the operator's) on the days that `[start, end)` touches.

    Raises:
        QueryError: `window_too_wide` for more than `MOST_DAYS` days, `invalid_window`, or `invalid_parameter` for `members`.
    """
    days = range(start - start % DAY, end, DAY)
    if not days:
        raise QueryError("invalid_window", "end must be after start", "end")
    if len(days) > MOST_DAYS:
        raise QueryError("window_too_wide", f"{len(days)} days are too many to compare at once; {MOST_DAYS} at most", "start")
    if not 0 <= members <= MOST_MEMBERS:
        raise QueryError("invalid_parameter", f"members must be 0 to {MOST_MEMBERS}, not {members}", "members")
    compared, differences, left_out = 0, [], dict[str, int]()
    for day in days:
        for layer in context.settings.layers:
            comparison = Comparison(context, org, layer, day, members)
            found = comparison.compare()
            if found:  # Calls may have come in between two reads. What differs for good differs by as much again.
                again = {_identity(one) for one in comparison.compare()}
                found = [one for one in found if _identity(one) in again]
            differences += found
            compared += comparison.compared
            left_out.update({name: max(more, left_out.get(name, 0)) for name, more in comparison.left_out.items()})
    return Reconciliation(
        org=None if org == OPERATOR else org,
        start=rfc3339(days[0]),
        end=rfc3339(days[-1] + DAY),
        compared=compared,
        left_out=left_out,
        differences=tuple(differences),
    )


def _identity(one: Difference) -> tuple[object, ...]:
    return one.day, one.resolution, one.about, one.measure, one.places, one.amounts[0] - one.amounts[1]
