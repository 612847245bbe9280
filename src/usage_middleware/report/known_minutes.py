"""The minutes of an organisation. Half-hours that this process has read are read again once they have changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from usage_middleware.periods import Slot
from usage_middleware.report.context import ReportContext
from usage_middleware.report.unchanged import Mark, is_closed, marks
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.read_batch import ReadBatch


class HalfHour(NamedTuple):
    """What was used in each minute of a half-hour, and the mark of the half-hour then."""

    mark: Mark
    used: Mapping[int, int]


class _Asked(NamedTuple):
    """What a batch was asked for: the marks of closed half-hours; some half-hours, and the minutes of these."""

    marks: Deferred[Mapping[Slot, Mark]]
    slots: Sequence[Slot]
    used: Sequence[Deferred[dict[int, int]]]


class KnownMinutes:
    """Asks a batch for the minutes of `[start, end)` of one measure."""

    def __init__(self, context: ReportContext, org: str, batch: ReadBatch, measure: str, start: int, end: int) -> None:
        self._context = context
        self._org = org
        self._measure = measure
        self._start = start
        self._asked_at = context.plans.minutes.generation
        middle = context.settings.layers.middle
        self._slots = [Slot(middle, at) for at in range(middle.floor(start), end, middle.seconds)]
        self._closed = [slot for slot in self._slots if is_closed(slot, context.now)]
        found = context.plans.minutes.known([self._name(slot) for slot in self._closed])
        self._known = {slot: found[name] for slot in self._closed if (name := self._name(slot)) in found}
        self._asked = self._ask(batch, [slot for slot in self._slots if slot not in self._known])

    def found(self) -> dict[int, int]:
        """The minutes with usage, once the batch was read. What has changed meanwhile is read now."""
        marks_now = self._asked.marks.value
        changed = [slot for slot, half_hour in self._known.items() if half_hour.mark != marks_now[slot]]
        minutes = [half_hour.used for slot, half_hour in self._known.items() if slot not in changed]
        minutes += self._taken(self._asked)
        if changed:
            batch = self._context.batch(self._org)
            asked = self._ask(batch, changed)
            batch.read()
            minutes += self._taken(asked)
        return {at: used for each in minutes for at, used in each.items() if at >= self._start}

    def _ask(self, batch: ReadBatch, slots: Sequence[Slot]) -> _Asked:
        found = marks(batch, self._closed, (self._measure,))
        return _Asked(found, slots, [batch.minutes(None, self._measure, start, end) for start, end in _joined(slots)])

    def _taken(self, asked: _Asked) -> list[Mapping[int, int]]:
        """What was read, which is remembered."""
        found: dict[int, dict[int, int]] = {slot.start: {} for slot in asked.slots}
        middle = self._context.settings.layers.middle
        for used in asked.used:
            for at, number in used.value.items():
                found[middle.floor(at)][at] = number
        known = asked.marks.value
        kept = {self._name(slot): HalfHour(known[slot], found[slot.start]) for slot in asked.slots if slot in known}
        self._context.plans.minutes.keep(kept, self._asked_at)
        return list(found.values())

    def _name(self, slot: Slot) -> tuple[str, str, int]:
        return self._org, self._measure, slot.start


def _joined(slots: Sequence[Slot]) -> list[tuple[int, int]]:
    """When slots begin and end, in order; those that follow each other are one."""
    found: list[tuple[int, int]] = []
    for slot in slots:
        if found and found[-1][1] == slot.start:
            found[-1] = found[-1][0], slot.end
        else:
            found.append((slot.start, slot.end))
    return found
