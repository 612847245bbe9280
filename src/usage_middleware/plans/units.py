"""How much of a plan's units some counters hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from usage_middleware.plans.plan import Billable

CALLS, BYTES = "calls", "bytes"
#: The status of a refused call.
REFUSED = "s429"
_SUCCESSFUL = re.compile(r"s2[0-9][0-9]")


def field(of: str) -> str:
    """The measure of a series that holds a unit."""
    return of if of in (CALLS, BYTES) else f"c.{of}"


def fields(of: str, billable: Billable = "all") -> Sequence[str] | None:
    """Which measures have to be read; None: all, since which statuses there are is not known before."""
    if billable == "not_refused":
        return (field(of), REFUSED)
    return (field(of),) if billable == "all" else None


def is_successful(measure: str) -> bool:
    """Whether a measure of a series counts calls answered 2xx."""
    return _SUCCESSFUL.fullmatch(measure) is not None


def quantity(measures: Mapping[str, int], of: str, billable: Billable = "all") -> int:
    """How many units there are.

    >>> quantity({"calls": 10, "s200": 7, "s404": 1, "s429": 2}, "calls", "not_refused")
    8
    """
    if billable == "successful":
        return sum(number for name, number in measures.items() if is_successful(name))
    found = measures.get(field(of), 0)
    return found - measures.get(REFUSED, 0) if billable == "not_refused" else found
