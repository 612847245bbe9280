"""What each API key used in some slots. What was read of closed ones is remembered, also by a question that came to no end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from usage_middleware.periods import Slot
from usage_middleware.report.context import ReportContext
from usage_middleware.report.metrics import Measures
from usage_middleware.report.unchanged import Mark, is_closed, marks

#: So many keys are read at once, so that other clients of Redis don't wait for all of them.
KEYS_AT_ONCE = 500


class ClosedKeys(NamedTuple):
    """What keys used in closed slots, as far as they were read: of each measure. `mark` differs once any of them used more."""

    mark: Mark
    sums: dict[str, tuple[int, ...]]


class KeysUsed:
    """Reads what keys used of some measures."""

    def __init__(self, context: ReportContext, org: str, slots: Sequence[Slot], measures: Sequence[str]) -> None:
        self._context = context
        self._org = org
        self._measures = measures
        self._closed = [slot for slot in slots if is_closed(slot, context.now)]
        self._open = slots[len(self._closed) :]

    def of(self, seen: Mapping[str, int]) -> dict[str, Measures]:
        """What each of these keys used; they are given with when they were last active, milliseconds since the epoch."""
        closed = self._of_closed(list(seen)) if self._closed else {}
        begin = self._open[0].start * 1000 if self._open else 0
        active = [key for key, last in seen.items() if last >= begin] if self._open else []
        opened = {key: sums for some in _parts(active) for key, sums in self._read(self._open, some).items()}
        return {key: self._together(closed.get(key, ()), opened.get(key, {})) for key in seen}

    def _together(self, closed: tuple[int, ...], opened: Measures) -> Measures:
        found = dict(zip(self._measures, closed, strict=False))
        for measure, number in opened.items():
            found[measure] = found.get(measure, 0) + number
        return found

    def _of_closed(self, keys: Sequence[str]) -> Mapping[str, tuple[int, ...]]:
        cache, asked_at = self._context.plans.closed_keys, self._context.plans.closed_keys.generation
        # The mark is read before the keys are.
        name, mark = (self._org, tuple(self._closed), tuple(self._measures)), self._mark()
        known = cache.known([name]).get(name)
        found = known if known is not None and known.mark == mark else ClosedKeys(mark, {})
        missing = [key for key in keys if key not in found.sums]
        for some in _parts(self._context.reader.together(self._org, self._closed[0].start, missing)):
            read = self._read(self._closed, some)
            found.sums.update({key: self._row(read.get(key, {})) for key in some})
            cache.keep({name: found}, asked_at)
        return found.sums

    def _row(self, sums: Measures) -> tuple[int, ...]:
        return tuple([sums.get(measure, 0) for measure in self._measures])

    def _mark(self) -> Mark:
        batch = self._context.batch(self._org)
        found = marks(batch, self._closed, self._measures)
        batch.read()
        return found.value

    def _read(self, slots: Sequence[Slot], keys: Sequence[str]) -> Mapping[str, Measures]:
        batch = self._context.batch(self._org)
        found = batch.sums(slots, keys, self._measures)
        batch.read()
        return found.value


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[begin : begin + KEYS_AT_ONCE] for begin in range(0, len(keys), KEYS_AT_ONCE))
