"""Repeats measurements in turns, so that a busy machine slows all variants alike."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Spread(NamedTuple):
    """The median and the quartiles of several samples."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 1) -> str:
        """As text for a table.

        >>> Spread(2.04, 1.96, 2.2).text()
        '2.0 (2.0 to 2.2)'
        """
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def spread(samples: Sequence[float]) -> Spread:
    """The median and the quartiles of some samples."""
    if len(samples) < 2:
        return Spread(samples[0], samples[0], samples[0])
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(middle, low, high)


def in_turns(variants: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """The samples of each variant. A round takes one of each; every round starts with another variant."""
    names = list(variants)
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        begin = number % len(names)
        for name in names[begin:] + names[:begin]:
            gc.collect()
            found[name].append(variants[name]())
    return found


def added(samples: Mapping[str, Sequence[float]], base: str) -> dict[str, Spread]:
    """What each variant takes more than `base` in the same round."""
    return {
        name: spread([one - bare for one, bare in zip(many, samples[base], strict=True)])
        for name, many in samples.items()
        if name != base
    }
