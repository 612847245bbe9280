"""Packs days: moves what half-hours and days counted from live keys into sections of the history, each number once.

It reads a day's live keys in small steps, which may take minutes, and then moves them with one script. The script refuses if
a chunk has written the day since, which it knows by the day's score in `history:todo`, or if the month was changed, which it
knows by its version. Then the day is read again later. So a packer may be killed at any moment, and two may pack at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from usage_middleware.gil import rest
from usage_middleware.options import HALF_HOURS_AFTER
from usage_middleware.periods import Resolution, Slot, month_end, month_start
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.change import MonthChange, Todo
from usage_middleware.store.history.gathering import Gathering
from usage_middleware.store.history.live import LiveDay
from usage_middleware.store.history.live_counts import LiveCounts
from usage_middleware.store.history.merging import Merging
from usage_middleware.store.history.names import buckets_for, month_of, place
from usage_middleware.store.history.witness import Witness, witness
from usage_middleware.store.replies import text
from usage_middleware.store.schema import Schema

#: So many live keys are taken away at once, and so many numbers moved, at most; so many where another section begins.
MOST_KEYS, ENOUGH_KEYS, MOST_NUMBERS = 2_000, 1_000, 40_000
_TODO = re.compile(r"(\S+) \d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
#: Packing is a generator: after each `yield` it may rest as long as it likes.
Steps = Iterator[None]


class Packer:
    """Packs the days of organisations.

    Args:
        client: the writer's client of this process.
        schema: the names of keys.
        clock: seconds since the epoch.
        damage: told what is damaged: it stays where it is, and costs itself alone.

    Attributes:
        days: how many days it has packed, at one resolution each.
    """

    def __init__(self, client: Callable[[], Any], schema: Schema, clock: Callable[[], float], damage: DamageLog) -> None:
        self._client = client
        self._schema = schema
        self._clock = clock
        self._damage = damage
        self.days = 0

    def pack(self, org: str) -> Steps:
        """Pack all days of an organisation that are due, and merge those of months that are over."""
        due = self._due(org)
        for todo in due:
            yield from self._pack_day(org, todo)
        yield from self._merge(org, {self._place(todo) for todo in due})

    def _merge(self, org: str, packed: Iterable[tuple[Resolution, int]]) -> Steps:
        changed = {month_of(start) for layer, start in packed if layer == self._schema.layers.day}
        before = {month_of(month_start(month) - 1) for month in changed}
        for month in sorted(changed | before):
            merging = Merging(MonthChange(self._client(), self._schema, org, month, self._damage.note), self._schema, org)
            last = month_end(month) - self._schema.layers.day.seconds
            is_over = self.due_at(self._schema.layers.day, last) <= self._clock()
            if is_over and (month in changed or not merging.is_done()):
                yield from merging.steps(self._clock())

    def next_due(self, org: str) -> int | None:
        """When something of an organisation is to be packed next, seconds since the epoch; None: nothing is."""
        return min((self._due_at(todo) for todo in self._todo(org)), default=None)

    def due_at(self, layer: Resolution, start: int) -> int:
        """When a day is packed that begins at `start`."""
        day = self._schema.layers.day
        return start + day.seconds + (self._schema.settings.history_after if layer == day else HALF_HOURS_AFTER)

    def _due(self, org: str) -> list[Todo]:
        now = self._clock()
        return sorted(todo for todo in self._todo(org) if self._due_at(todo) <= now)

    def _todo(self, org: str) -> list[Todo]:
        found = self._client().zrange(self._schema.history_todo(org), 0, -1, withscores=True)
        names = {layer.name for layer in self._schema.layers[1:]}
        known = [(_TODO.fullmatch(text(member)), int(score)) for member, score in found]
        return [Todo(match[0], score) for match, score in known if match is not None and match[1] in names]

    def _place(self, todo: Todo) -> tuple[Resolution, int]:
        name, day = todo.member.split(" ")
        layer = next(layer for layer in self._schema.layers if layer.name == name)
        return layer, month_start(day[:7]) + (int(day[8:]) - 1) * self._schema.layers.day.seconds

    def _due_at(self, todo: Todo) -> int:
        return self.due_at(*self._place(todo))

    def _pack_day(self, org: str, todo: Todo) -> Steps:
        layer, start = self._place(todo)
        client = self._client()
        month = MonthChange(client, self._schema, org, month_of(start), self._damage.note)
        head = month.read([]).head
        buckets = head.buckets or self._buckets(org)
        # A day that was packed once begins with a section of its own.
        again = bool(head.version) and self._has(month, layer, start)
        day = LiveDay(client, self._schema, org, layer, start, buckets, self._damage, again=again)
        seen = Seen(head.version, todo, witness(client, self._schema, org, layer, start))
        moving = Move(month, seen, buckets, self._clock, day.slots)
        for group in day.groups():
            yield
            if moving.is_full_with(group) and not (yield from moving.commit(done=False)):
                return
            moving.add(group)
        if (yield from moving.commit(done=True)):
            self.days += 1

    def _has(self, month: MonthChange, layer: Resolution, start: int) -> bool:
        name, index = place(Slot(layer, start), "series")
        first = range(index, index + self._schema.layers.day.seconds // layer.seconds)
        found = month.read([name]).numbers(name)
        return any(at in column for columns in found.values() for column in columns.values() for at in first)

    def _buckets(self, org: str) -> int:
        return buckets_for(int(self._client().zcard(self._schema.seen(org, "key"))))


class Seen(NamedTuple):
    """What was seen before any live counter of a day was read.

    Attributes:
        version: of the month. If another packer has changed it since, counters that were read may be gone.
        todo: the day. If a chunk has written it since, its score is another one.
        witness: tells what an older version has written since.
    """

    version: int
    todo: Todo
    witness: Witness | None


class Move:
    """What is moved with one script.

    Args:
        month: where it goes.
        seen: what must be so still.
        buckets: into how many keys are spread.
        clock: seconds since the epoch.
        slots: the slots of the day, by what the fields of series call them.
    """

    def __init__(
        self,
        month: MonthChange,
        seen: Seen,
        buckets: int,
        clock: Callable[[], float],
        slots: Mapping[str, Slot],
    ) -> None:
        self._month = month
        self._version, self._todo, self._witness = seen
        self._buckets = buckets
        self._clock = clock
        self._slots = slots
        self._begin()

    def _begin(self) -> None:
        self._gathering = Gathering(self._slots)
        self._taken: list[str] = []
        self._cleared: dict[str, list[str]] = {}
        self._numbers = 0

    def is_full_with(self, more: Sequence[LiveCounts]) -> bool:
        """Whether these are too many for one script; or it has enough, and they begin another section."""
        keys, numbers = len(self._taken) + len(self._cleared), self._numbers + sum(len(one.names) for one in more)
        if not keys or not more:
            return False
        most = ENOUGH_KEYS if all(one.key.what not in self._gathering for one in more) else MOST_KEYS
        return keys + len(more) > most or numbers > MOST_NUMBERS

    def add(self, more: Sequence[LiveCounts]) -> None:
        """Move these, too."""
        for live in more:
            rest()
            self._gathering.add(live)
            self._numbers += len(live.names)
            if live.is_whole:
                self._taken.append(live.key.name)
            elif live.names:
                self._cleared[live.key.name] = list(map(text, live.names))

    def commit(self, *, done: bool) -> Generator[None, None, bool]:
        """Move what there is; returns whether it was moved."""
        sections = self._gathering.sections()
        was = self._month.read(list(sections))
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
            todo=self._todo,
            done=done,
            taken=self._taken,
            cleared=self._cleared,
            witness=self._witness,
        )
        self._version += bool(changes.written or changes.removed)
        self._begin()
        return moved


def _added(before: Cells | None, more: Cells) -> Generator[None, None, Cells]:
    """What a section had and more; without numbers if nothing is left."""
    if before is None:
        return more
    yield
    before.add(more)
    yield
    return before.without_zeros()
