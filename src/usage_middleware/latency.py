"""Latency as logarithmic bins: integers that add up over time, workers and endpoints.

Bin k holds the durations in (1.1**(k-1), 1.1**k] microseconds; bin 0 holds everything up to 1 us. The estimate for a bin
(in `report.metrics`) is the value whose relative distance to both its ends is the same, so a percentile is off by at most
(1.1 - 1)/(1.1 + 1) = 4.8 %.
"""

from __future__ import annotations

from math import ceil, log

GROWTH = 1.1
#: The greatest bin: 1.1**290 us is over ten days; what lasts longer is counted here.
LAST_BIN = 290

_PER_BIN = 1.0 / log(GROWTH)
#: Shorter durations, in microseconds, have their bins in a table, which takes a quarter of the time of a logarithm.
_TABLED = 1 << 16


def bin_of(microseconds: float) -> int:
    """The bin of a duration.

    >>> bin_of(0), bin_of(1), bin_of(1.05), bin_of(1000)
    (0, 0, 1, 73)
    """
    if microseconds <= 1:
        return 0
    found = ceil(log(microseconds) * _PER_BIN)
    return found if found < LAST_BIN else LAST_BIN


def _table() -> bytes:
    """The bins of 0, 1, ... microseconds."""
    bins = bytearray()
    while len(bins) < _TABLED:
        number = bin_of(len(bins))
        end = int(GROWTH**number) + 1
        while bin_of(end) > number:
            end -= 1
        bins += bytes([number]) * (end + 1 - len(bins))
    return bytes(bins[:_TABLED])


_BINS = _table()


def bin_of_whole(microseconds: int) -> int:
    """As `bin_of`, of a whole number from 0 on.

    >>> bin_of_whole(1000), bin_of_whole(10**9)
    (73, 218)
    """
    return _BINS[microseconds] if microseconds < _TABLED else bin_of(microseconds)
