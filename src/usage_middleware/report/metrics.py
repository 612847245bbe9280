"""The words that all reports share, defined once: successful, error, status class, latency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from usage_middleware.latency import percentile
from usage_middleware.store.schema import BYTES, CALLS, CLASSES, LAST, LATENCY, status_class

Measures = Mapping[str, int]


class LatencyReport(msgspec.Struct, frozen=True, kw_only=True):
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


class Tally(msgspec.Struct):
    """Calls added up: what a series' slots, or a board's member, come to."""

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


def series_tally(many: Iterable[Measures]) -> Tally:
    """The sum of slots of a series, where successes and errors are told by status code."""
    total = _summed(many)
    tally = Tally(
        calls=total.get(CALLS, 0), latency_us=total.get(LATENCY, 0), sent=total.get(BYTES, 0), last_ms=total.get(LAST, 0)
    )
    for status, calls in statuses(total):
        tally.successful += calls if is_success(status) else 0
        tally.errors += calls if is_error(status) else 0
    return tally


def _summed(many: Iterable[Measures]) -> dict[str, int]:
    """All slots together: sums, and the latest call. First added up, then understood: slots are many, measures few."""
    total: dict[str, int] = {}
    last = 0
    for measures in many:
        for name, number in measures.items():
            total[name] = total.get(name, 0) + number
        last = max(last, measures.get(LAST, 0))
    return {**total, LAST: last}


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
    """The sum of one member of a board, where what is not 1xx, 3xx, 4xx or 5xx succeeded."""
    calls = measures.get(CALLS, 0)
    return Tally(
        calls=calls,
        successful=calls - sum(measures.get(family, 0) for family in CLASSES),
        errors=measures.get("4xx", 0) + measures.get("5xx", 0),
        latency_us=measures.get(LATENCY, 0),
    )


def board_measures(many: Iterable[Measures]) -> dict[str, int]:
    """What a board would say of all these slots of a series together."""
    total = _summed(many)
    found = {CALLS: total.get(CALLS, 0), LATENCY: total.get(LATENCY, 0)}
    for status, calls in statuses(total):
        if not is_success(status):
            found[status_class(status)] = found.get(status_class(status), 0) + calls
    return found


def statuses(measures: Measures) -> Iterable[tuple[int, int]]:
    """(status code, calls) of a series' measures."""
    found = ((_status(name), calls) for name, calls in measures.items())
    return ((status, calls) for status, calls in found if status is not None)


@lru_cache(maxsize=2048)
def _status(measure: str) -> int | None:
    return int(measure[1:]) if measure[0] == "s" and measure[1:].isdigit() else None


def by_status(many: Iterable[Measures]) -> dict[int, int]:
    """Calls of each status code, ascending."""
    return dict(sorted(statuses(_summed(many))))


def by_class(codes: Mapping[int, int]) -> dict[int, int]:
    """Calls of each status class (200, 300, 400, 500; 100 if seen), ascending."""
    found: dict[int, int] = {}
    for status, calls in codes.items():
        family = int(status_class(status)[0]) * 100
        found[family] = found.get(family, 0) + calls
    return dict(sorted(found.items()))


def latency_report(tally: Tally, bins: Mapping[int, int]) -> LatencyReport:
    """Mean and percentiles, in milliseconds."""
    return LatencyReport(avg=tally.avg_ms, p50=_ms(bins, 50), p90=_ms(bins, 90), p95=_ms(bins, 95), p99=_ms(bins, 99))


def _ms(bins: Mapping[int, int], percent: int) -> float | None:
    found = percentile(bins, percent)
    return None if found is None else round(found / 1000, 3)
