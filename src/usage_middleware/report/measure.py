"""The measures that can be followed over time: what is read for each, and what number it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from usage_middleware.errors import QueryError
from usage_middleware.options import Settings
from usage_middleware.report.metrics import is_error, percentile, statuses
from usage_middleware.store.schema import BYTES, CALLS, LATENCY, counter_field

#: What was read of some slots, added up: the measures of a series or a board, or a histogram (bin -> calls).
Cell: TypeAlias = dict[Any, int]
Number: TypeAlias = int | float

ERRORS, AVERAGE = "errors", "latency_ms"
PERCENTILES: Mapping[str, int] = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}
#: What is counted of the members of a board, and so of everything.
COUNTED = (CALLS, ERRORS, AVERAGE)


class Measure(NamedTuple):
    """One measure.

    Attributes:
        value: the number of a cell; None where there is none, such as the average of no calls.
        fields: what is read of a series; None: all.
        board: what is read of boards; empty where boards don't have it.
        adds_up: the values of parts add up to the value of the whole.
        is_percentile: read from histograms.
    """

    name: str
    value: Callable[[Cell], Number | None]
    fields: Sequence[str] | None = None
    board: Sequence[str] = ()
    adds_up: bool = True
    is_percentile: bool = False

    def is_used(self, cell: Cell) -> bool:
        """True where the cell holds a call, or something that corrections have left or added without calls."""
        return any(cell.values()) if self.is_percentile else cell.get(CALLS, 0) > 0 or bool(self.value(cell))


def measure_names(settings: Settings) -> tuple[str, ...]:
    """Every measure that there is, in the order in which they are listed."""
    return (CALLS, ERRORS, BYTES, AVERAGE, *PERCENTILES, *map(counter_field, settings.counters))


def measure(name: str, settings: Settings) -> Measure:
    """The measure of this name.

    Raises:
        QueryError: `unsupported_measure`, naming those that there are.
    """
    if name not in measure_names(settings):
        raise unsupported_measure(f"measure must be one of {', '.join(measure_names(settings))}")
    if name in PERCENTILES:
        return Measure(name, partial(_percentile_ms, PERCENTILES[name]), adds_up=False, is_percentile=True)
    return _BY_NAME.get(name) or Measure(name, lambda cell: cell.get(name, 0), (CALLS, name))


def unsupported_measure(message: str) -> QueryError:
    """The error of a measure that isn't kept of what it was asked for."""
    return QueryError("unsupported_measure", message, "measure")


def _errors(cell: Cell) -> int:
    """Of a series by its status codes, of a board by its classes."""
    in_classes = cell.get("4xx", 0) + cell.get("5xx", 0)
    return in_classes + sum(calls for status, calls in statuses(cell) if is_error(status))


def _average_ms(cell: Cell) -> float | None:
    calls = cell.get(CALLS, 0)
    return round(cell.get(LATENCY, 0) / calls / 1000, 3) if calls else None


def _percentile_ms(percent: int, bins: Cell) -> float | None:
    found = percentile(bins, percent)
    return None if found is None else round(found / 1000, 3)


_BY_NAME: Mapping[str, Measure] = {
    CALLS: Measure(CALLS, lambda cell: cell.get(CALLS, 0), (CALLS,), (CALLS,)),
    ERRORS: Measure(ERRORS, _errors, None, (CALLS, "4xx", "5xx")),
    BYTES: Measure(BYTES, lambda cell: cell.get(BYTES, 0), (CALLS, BYTES)),
    AVERAGE: Measure(AVERAGE, _average_ms, (CALLS, LATENCY), (CALLS, LATENCY), adds_up=False),
}
