"""Forecasts the memory that an organisation takes with history: what is packed, and what is still live."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.forecast import Forecast, Shape, any_call, bins, classes, distinct, given, kept, statuses
from usage_middleware.options import DEFAULT_RETENTION, CounterKind, Layer

#: Bytes of a packed number of half-hours and of days, as measured of 50 endpoints by 1,000 keys.
BYTES: Mapping[int, Mapping[str, float]] = {
    48: {"series": 1.4, "board": 1.35, "latency": 0.7, "key_board": 1.7},
    1: {"series": 1.4, "board": 2.1, "latency": 1.6, "key_board": 1.9},
}
#: The same where an organisation makes so few calls that a month is one field, and what that takes without any number: as
#: measured of months of 3 calls a day.
SMALL, MONTH = 1.1, 400
#: So many calls in a month are few.
FEW = 600
#: Days are live for as long as `history_after`, and until the month of their series is over; half-hours for two days and the
#: one that is not over.
LIVE_DAYS, LIVE_HALF_HOURS = 35.0, 2.5
_DAY = 86_400


def a_year(shape: Shape, after: float = LIVE_DAYS, days: int = 365) -> Forecast:
    """What an organisation holds after so many days with history."""
    live: dict[CounterKind, dict[Layer, int]] = {
        kind: {"minute": layers["minute"], "middle": int(LIVE_HALF_HOURS * _DAY), "day": int(after * _DAY)}
        for kind, layers in DEFAULT_RETENTION.items()
    }
    held = kept(shape, live, days)
    packed = days - LIVE_HALF_HOURS, days - after
    taken = sum(one * bytes_of(shape, slots) for one, slots in zip(packed, (48, 1), strict=True))
    return Forecast(held.keys + days / 30.4, held.bytes + taken + MONTH * days / 30.4)


def bytes_of(shape: Shape, slots: int) -> float:
    """What one day of half-hours (48 slots), or the day itself, takes when it is packed."""
    is_small = shape.calls * 30 < FEW
    return sum(many * (SMALL if is_small else BYTES[slots][kind]) for kind, many in numbers(shape, slots).items())


def numbers(shape: Shape, slots: int) -> Mapping[str, float]:
    """How many numbers a day has at so many slots."""
    calls = shape.calls / slots
    everyone = [[(1.0, 1)], shape.endpoints, shape.keys]
    members = [shape.endpoints, shape.keys, *shape.dimensions]
    measures = (1.0, 1.0, *classes(shape))
    found = {"series": 0.0, "key_board": 0.0}
    for share, many in (group for groups in everyone for group in groups):
        mine = calls * share
        found["series"] += many * any_call(mine) * (4 + shape.counters + statuses(shape, given(mine)))
    for share, many in shape.keys:
        mine = given(calls * share)
        tags = sum(any_call(mine * odds) for odds in measures) * len(shape.dimensions)
        on_board = sum(distinct(shape.endpoints, mine * odds) for odds in measures) + tags + bins(mine, 1.3 * shape.latency_sd)
        found["key_board"] += many * any_call(calls * share) * on_board
    found["board"] = sum(distinct(groups, calls * odds) for groups in members for odds in measures)
    found["latency"] = any_call(calls) * bins(given(calls), 2 * shape.latency_sd)
    for share, many in shape.endpoints:
        found["latency"] += many * any_call(calls * share) * bins(given(calls * share), shape.latency_sd)
    return {kind: slots * many for kind, many in found.items()}
