"""Merges the days of boards of a month, when all of its days are packed: a question over many days then reads one section.

Each commit moves the days of one board into one section, wholly or not at all. So it may be killed at any moment: what is
merged and what is not are both read.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.change import MonthChange
from usage_middleware.store.history.month import Changes, Month
from usage_middleware.store.history.names import (
    BOARD,
    ENDPOINT_LATENCY,
    KEY_BOARD,
    LATENCY,
    MERGED,
)
from usage_middleware.store.members import OPERATOR
from usage_middleware.store.schema import Schema

#: A board whose days take more than so many bytes stays as it is: merged, all its numbers are in memory at once.
MOST_BYTES = 256 << 10


class Merging:
    """Merges the days of one month of an organisation."""

    def __init__(self, month: MonthChange, schema: Schema, org: str) -> None:
        self._month = month
        self._schema = schema
        self._org = org

    def is_done(self) -> bool:
        """Whether there is nothing to merge but what was packed since."""
        head = self._month.read([]).head
        return head.merged or not head.version

    def steps(self, now: float) -> Iterator[None]:
        """Merge what there is. It ends where somebody changes the month meanwhile: what is left is merged another time."""
        head = self._month.read([]).head
        boards = list(self._boards(head.buckets)) if head.version else []
        # What is together is written together.
        for some in [boards] if head.together else ([what] for what in boards):
            yield
            if not (yield from self._merge(some, now)):
                return
        was = self._month.read([])
        if boards and not was.head.merged:
            self._month.commit(was, Changes({MERGED: 1}, []), now)

    def _boards(self, buckets: int) -> Iterator[str]:
        whole = "org" if self._org == OPERATOR else "key"
        for dimension in ("endpoint", whole, *self._schema.settings.dimensions):
            for shard in self._schema.all_shards(dimension):
                yield f"{BOARD} {shard}"
        yield from (LATENCY, ENDPOINT_LATENCY)
        for number in range(max(1, buckets)) if self._org != OPERATOR else ():
            yield f"{KEY_BOARD} {number}"

    def _merge(self, boards: Sequence[str], now: float) -> Generator[None, None, bool]:
        """Merge the days of some boards at once; False if the month was changed meanwhile."""
        names = [name for what in boards for name in (f"days {what}", *_days_of(what))]
        was = self._month.read(names)
        written: dict[str, Cells] = {}
        for what in boards:
            written |= yield from _merged(was, what)
        if not written or was.is_damaged(names):
            return True
        changes = yield from was.changed_in_steps(written)
        yield
        return self._month.commit(was, changes, now)


def _merged(was: Month, what: str) -> Generator[None, None, dict[str, Cells]]:
    """The sections of a board that change."""
    whole, days = f"days {what}", [name for name in _days_of(what) if name in was]
    if not days or sum(map(was.size, (whole, *days))) > MOST_BYTES:
        return {}
    yield
    found = was.cells(whole) or Cells()
    for name in days:
        found.add((was.cells(name) or Cells()).at(int(name[:2]) - 1))
        yield
    return {whole: found.without_zeros(), **dict.fromkeys(days, Cells())}


def _days_of(what: str) -> list[str]:
    return [f"{day:02} day {what}" for day in range(1, 32)]
