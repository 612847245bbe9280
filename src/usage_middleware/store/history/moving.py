"""Moves numbers from live counters into the sections of a month, with one script at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple

from usage_middleware.gil import rest
from usage_middleware.periods import Slot
from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.change import MonthChange, Todo
from usage_middleware.store.history.gathering import Gathering
from usage_middleware.store.history.live_counts import LiveCounts
from usage_middleware.store.history.month import Month
from usage_middleware.store.history.witness import Witness
from usage_middleware.store.replies import text

#: So many live keys are taken away at once, and so many numbers moved, at most; so many where another section begins.
MOST_KEYS, ENOUGH_KEYS, MOST_NUMBERS = 2_000, 1_000, 40_000


class SeenDay(NamedTuple):
    """What was seen of a day before any of its live counters was read.

    Attributes:
        todo: the day. If a chunk has written it since, its score is another one.
        witness: tells what an older version has written since. Days that are in the same series have the same one.
    """

    todo: Todo
    witness: Witness | None


class Move:
    """What is moved with one script, from one day or from several of a month.

    Args:
        month: where it goes.
        was: how it was before anything was read. If another packer has changed it since, counters that were read may be gone.
        days: what must be so still.
        buckets: into how many keys are spread.
        clock: seconds since the epoch.
    """

    def __init__(
        self, month: MonthChange, was: Month, days: Sequence[SeenDay], buckets: int, clock: Callable[[], float]
    ) -> None:
        self._month = month
        self._first = was
        self._days = days
        self._version = was.head.version
        self._buckets = buckets
        self._clock = clock
        self._clear()

    def _clear(self) -> None:
        self._gatherings: list[Gathering] = []
        self._taken: list[str] = []
        self._cleared: dict[str, list[str]] = {}
        self._numbers = 0

    def begin(self, slots: Mapping[str, Slot]) -> None:
        """What is added next is of these slots, by what the fields of series call them."""
        self._slots = slots
        self._gatherings.append(Gathering(slots))

    def is_full_with(self, more: Sequence[LiveCounts]) -> bool:
        """Whether these are too many for one script; or it has enough, and they begin another section."""
        keys, numbers = len(self._taken) + len(self._cleared), self._numbers + sum(len(one.names) for one in more)
        if not keys or not more:
            return False
        most = ENOUGH_KEYS if all(one.key.what not in self._gatherings[-1] for one in more) else MOST_KEYS
        return keys + len(more) > most or numbers > MOST_NUMBERS

    def add(self, more: Sequence[LiveCounts]) -> None:
        """Move these, too."""
        for live in more:
            rest()
            self._gatherings[-1].add(live)
            self._numbers += len(live.names)
            if live.is_whole:
                self._taken.append(live.key.name)
            elif live.names:
                self._cleared[live.key.name] = list(map(text, live.names))

    def commit(self, done: int) -> Generator[None, None, bool]:
        """Move what there is; returns whether it was moved. Of the first days, so many as are `done`, nothing is left then."""
        sections = {name: cells for gathering in self._gatherings for name, cells in gathering.sections().items()}
        was = self._was(list(sections))
        if was.head.version != self._version:
            return False
        yield
        written: dict[str, Cells] = {}
        for name, cells in sections.items():
            written[name] = yield from _added(was.cells(name), cells)
            yield
        if was.is_damaged(sections) or was.head.buckets not in (0, self._buckets):
            return False
        changes = yield from was.changed_in_steps(written)
        yield
        moved = self._month.commit(
            was,
            changes,
            self._clock(),
            buckets=self._buckets,
            todos=[day.todo for day in self._days],
            done=[day.todo for day in self._days[:done]],
            taken=self._taken,
            cleared=self._cleared,
            witnesses=list({one.series: one for _, one in self._days if one is not None}.values()),
        )
        # What was seen of these is no longer so.
        self._days = self._days[done:]
        self._version += bool(changes.written or changes.removed)
        self._clear()
        self.begin(self._slots)
        return moved

    def _was(self, sections: Sequence[str]) -> Month:
        """The month with these sections. What was read at first is all that it has, if these are together."""
        was = self._first
        is_all = was.head.together or not was.head.version
        return was if is_all and was.head.version == self._version else self._month.read(sections)


def _added(before: Cells | None, more: Cells) -> Generator[None, None, Cells]:
    """What a section had and more; without numbers if nothing is left."""
    if before is None:
        return more
    yield
    before.add(more)
    yield
    return before.without_zeros()
