"""What reports compute from counters, defined once: totals, successes and errors, latency, and endpoints under their labels."""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from math import ceil
from typing import TypeVar

import msgspec

from usage_middleware.gil import LIGHT, yielding
from usage_middleware.latency import GROWTH
from usage_middleware.options import NONE, Settings
from usage_middleware.store.members import is_reserved
from usage_middleware.store.replies import Boards
from usage_middleware.store.schema import BYTES, CALLS, CLASSES, LAST, LATENCY, status_class

logger = logging.getLogger("usage_middleware")

_STATUS_FIELD = re.compile(r"s[0-9]{1,5}")
K = TypeVar("K", bound=Hashable)

Measures = Mapping[str, int]


class LatencyReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Milliseconds from the request received to the last body byte sent.

    Attributes:
        avg: the exact mean; 0 where there was no call.
        p50: and so on: from logarithmic bins, off by 5 % at most; None where there was no call.
    """

    avg: float
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None


class Tally(msgspec.Struct, gc=False):
    """The totals of some calls: of a series' slots, or of a board's member."""

    calls: int = 0
    successful: int = 0
    errors: int = 0
    latency_us: int = 0
    sent: int = 0
    last_ms: int = 0

    def add(self, more: Tally) -> None:
        """Add another tally to this one."""
        self.calls += more.calls
        self.successful += more.successful
        self.errors += more.errors
        self.latency_us += more.latency_us
        self.sent += more.sent
        self.last_ms = max(self.last_ms, more.last_ms)

    @property
    def error_rate(self) -> float:
        """Errors a call, 0 where there was none."""
        return self.errors / self.calls if self.calls else 0.0

    @property
    def avg_ms(self) -> float:
        """Mean latency in milliseconds, to the microsecond."""
        return round(self.latency_us / self.calls / 1000, 3) if self.calls else 0.0


def tally_sum(many: Iterable[Tally]) -> Tally:
    """Several tallies as one."""
    total = Tally()
    for one in many:
        total.add(one)
    return total


def summed(many: Iterable[Mapping[K, int]]) -> dict[K, int]:
    """Measures, or histograms, added up name by name."""
    every = iter(many)
    total = dict(next(every, {}))
    for numbers in every:
        for name, number in numbers.items():
            total[name] = total.get(name, 0) + number
    return total


def series_tally(many: Iterable[Measures]) -> Tally:
    """The totals of slots of a series, which has a measure for each status code."""
    total = _slots_summed(many)
    tally = Tally(
        calls=total.get(CALLS, 0), latency_us=total.get(LATENCY, 0), sent=total.get(BYTES, 0), last_ms=total.get(LAST, 0)
    )
    for status, calls in statuses(total):
        tally.successful += calls if is_success(status) else 0
        tally.errors += calls if is_error(status) else 0
    return tally


def _slots_summed(many: Iterable[Measures]) -> dict[str, int]:
    """All slots together: sums, and the latest call. Added up first, read after: slots are many, measures few."""
    slots = list(many)
    return {**summed(slots), LAST: max((measures.get(LAST, 0) for measures in slots), default=0)}


def is_success(status: int) -> bool:
    """2xx."""
    return status_class(status) == "2xx"


def is_error(status: int) -> bool:
    """4xx, 5xx, and what lies above."""
    return status_class(status) in ("4xx", "5xx")


def status_tallies(codes: Mapping[int, int]) -> dict[str, Tally]:
    """A tally for each status code; latency is not kept for them."""
    return {
        str(status): Tally(calls=calls, successful=calls * is_success(status), errors=calls * is_error(status))
        for status, calls in codes.items()
    }


def board_tally(measures: Measures) -> Tally:
    """The totals of one member of a board. Calls that are not 1xx, 3xx, 4xx or 5xx succeeded."""
    tally = Tally()
    for measure, number in measures.items():
        _add_measure(tally, measure, number)
    return tally


def tallies_of(boards: Boards) -> dict[str, Tally]:
    """As `board_tally`, of every member of boards."""
    found: dict[str, Tally] = {}
    for measure, numbers in boards.items():
        for name, number in yielding(numbers.items(), LIGHT):
            tally = found.get(name)
            if tally is None:
                tally = found[name] = Tally()
            _add_measure(tally, measure, number)
    return found


def _add_measure(tally: Tally, measure: str, number: int) -> None:
    if measure == CALLS:
        tally.calls += number
        tally.successful += number
    elif measure == LATENCY:
        tally.latency_us += number
    elif measure in CLASSES:
        tally.successful -= number
        tally.errors += number if measure in ("4xx", "5xx") else 0


def board_measures(many: Iterable[Measures]) -> dict[str, int]:
    """The measures that a board would have of all these slots of a series together."""
    total = _slots_summed(many)
    found = {CALLS: total.get(CALLS, 0), LATENCY: total.get(LATENCY, 0)}
    for status, calls in statuses(total):
        if not is_success(status):
            found[status_class(status)] = found.get(status_class(status), 0) + calls
    return found


def with_rest(members: dict[str, dict[str, int]], series: Iterable[Measures]) -> dict[str, dict[str, int]]:
    """The members, and as `(none)` what the series has beyond them."""
    rest = board_measures(series)
    for measures in members.values():
        for measure, number in measures.items():
            rest[measure] = rest.get(measure, 0) - number
    none = {measure: rest[measure] + members.get(NONE, {}).get(measure, 0) for measure in rest}
    return {**members, NONE: none} if any(none.values()) else members


def statuses(measures: Measures) -> Iterable[tuple[int, int]]:
    """(status code, calls) of a series' measures."""
    found = ((_status(name), calls) for name, calls in measures.items())
    return ((status, calls) for status, calls in found if status is not None)


@lru_cache(maxsize=2048)
def _status(measure: str) -> int | None:
    return int(measure[1:]) if _STATUS_FIELD.fullmatch(measure) else None


def by_status(many: Iterable[Measures]) -> dict[int, int]:
    """Calls of each status code, ascending."""
    return dict(sorted(statuses(_slots_summed(many))))


def by_class(codes: Mapping[int, int]) -> dict[int, int]:
    """Calls of each status class (200, 300, 400, 500; 100 if seen), ascending."""
    return dict(sorted(summed({int(status_class(status)[0]) * 100: calls} for status, calls in codes.items()).items()))


def latency_report(tally: Tally, bins: Mapping[int, int]) -> LatencyReport:
    """Mean and percentiles, in milliseconds."""
    return LatencyReport(avg=tally.avg_ms, p50=_ms(bins, 50), p90=_ms(bins, 90), p95=_ms(bins, 95), p99=_ms(bins, 99))


def percentiles_of(field: str) -> list[str]:
    """The percentiles of a field that holds a `LatencyReport`."""
    return [f"{field}.{name}" for name in ("p50", "p90", "p95", "p99")]


def _ms(bins: Mapping[int, int], percent: int) -> float | None:
    found = percentile(bins, percent)
    return None if found is None else round(found / 1000, 3)


def percentile(bins: Mapping[int, int], percent: float) -> float | None:
    """The nearest-rank percentile in microseconds, or None of an empty histogram.

    >>> round(percentile({73: 99, 97: 1}, 50)), percentile({}, 50)
    (1001, None)
    """
    calls = sum(bins.values())
    if calls <= 0:
        return None
    rank = max(1, ceil(calls * percent / 100))
    for number in sorted(bins):
        rank -= bins[number]
        if rank <= 0:
            return estimate(number)
    return estimate(max(bins))


def estimate(bin_number: int) -> float:
    """The duration, in microseconds, that stands for a bin of `latency.bin_of`: equally far from both its ends."""
    return float(2 * GROWTH**bin_number / (GROWTH + 1)) if bin_number > 0 else 1.0


def label_of(endpoint: str, settings: Settings) -> str:
    """The label of `METHOD /template`; reserved endpoints such as `GET (unmatched)` keep theirs, and what gets none."""
    if settings.endpoint_label is None or is_reserved("endpoint", endpoint):
        return endpoint
    method, _, template = endpoint.partition(" ")
    try:
        return str(settings.endpoint_label(method, template) or endpoint)
    except Exception:
        logger.exception("endpoint_label failed for %r; the endpoint keeps its own name", endpoint)
        return endpoint


def under_label(endpoints: Iterable[str], settings: Settings) -> dict[str, list[str]]:
    """The endpoints of each label."""
    found: dict[str, list[str]] = {}
    for endpoint in endpoints:
        found.setdefault(label_of(endpoint, settings), []).append(endpoint)
    return found


def by_label(members: dict[str, dict[str, int]], settings: Settings) -> dict[str, dict[str, int]]:
    """Members of the dimension `endpoint`, added up under their labels."""
    if settings.endpoint_label is None:
        return members
    return {label: summed(members[name] for name in names) for label, names in under_label(members, settings).items()}
