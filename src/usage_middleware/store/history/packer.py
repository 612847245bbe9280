"""Packs days: moves what half-hours and days counted from live keys into sections of the history, each number once.

It reads a day's live keys in small steps, which may take minutes, and then moves them with one script. The script refuses if
a chunk has written the day since, which it knows by the day's score in `history:todo`, or if the month was changed, which it
knows by its version. Then the day is read again later. So a packer may be killed at any moment, and two may pack at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from usage_middleware.options import HALF_HOURS_AFTER
from usage_middleware.periods import Resolution, Slot, day_name, month_end, month_start
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.change import MonthChange, Todo
from usage_middleware.store.history.layout import DamagedSection
from usage_middleware.store.history.live import LiveDays
from usage_middleware.store.history.merging import Merging
from usage_middleware.store.history.month import Month
from usage_middleware.store.history.moving import Move, SeenDay
from usage_middleware.store.history.names import buckets_for, month_of, place
from usage_middleware.store.history.planes import TooLarge
from usage_middleware.store.history.witness import witnesses
from usage_middleware.store.replies import text
from usage_middleware.store.schema import Schema

#: So many days are packed together whose sections are together. Where packing is behind, that takes a fraction of the time.
MOST_DAYS = 7
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
        places = {self._place(todo) for todo in due}
        while due:
            yield from self._pack_first(org, due)
        yield from self._merge(org, places)

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
        todos = [Todo(match[0], score) for match, score in known if match is not None and match[1] in names]
        # There is no 31 November.
        return [todo for todo in todos if todo.member.endswith(day_name(self._place(todo)[1]))]

    def _place(self, todo: Todo) -> tuple[Resolution, int]:
        name, day = todo.member.split(" ")
        layer = next(layer for layer in self._schema.layers if layer.name == name)
        return layer, month_start(day[:7]) + (int(day[8:]) - 1) * self._schema.layers.day.seconds

    def _due_at(self, todo: Todo) -> int:
        return self.due_at(*self._place(todo))

    def _pack_first(self, org: str, due: list[Todo]) -> Steps:
        """Pack the first days that are due, and take them from the list: several of one month if its sections are together."""
        layer, start = self._place(due[0])
        month = MonthChange(self._client(), self._schema, org, month_of(start), self._damage.note)
        was = month.read([])
        some = self._of_one_month(due, layer, start)[: MOST_DAYS if was.head.together else 1]
        packed = yield from self._pack_days(org, month, was, some)
        del due[: packed or len(some)]
        if not packed and len(some) > 1:
            # One of them is damaged, or was written meanwhile.
            for todo in self._due(org):
                if todo.member in {one.member for one in some}:
                    yield from self._pack_days(org, month, month.read([]), [todo])

    def _of_one_month(self, due: Sequence[Todo], layer: Resolution, start: int) -> list[Todo]:
        places = ((todo, *self._place(todo)) for todo in due)
        return [todo for todo, of, at in places if of == layer and month_of(at) == month_of(start)]

    def _pack_days(self, org: str, month: MonthChange, was: Month, todos: Sequence[Todo]) -> Generator[None, None, int]:
        """Pack days of a month that was read before; how many were packed, from the first on."""
        before = self.days
        try:
            yield from self._move_days(org, month, was, todos)
        except (DamagedSection, TooLarge) as damaged:
            self._damage.note(month.key, str(damaged))
        return self.days - before

    def _move_days(self, org: str, month: MonthChange, was: Month, todos: Sequence[Todo]) -> Steps:
        layer = self._place(todos[0])[0]
        starts = [self._place(todo)[1] for todo in todos]
        client, buckets = self._client(), was.head.buckets or self._buckets(org)
        # A day that was packed once begins with a section of its own.
        packed = [bool(was.head.version) and self._has(month, was, layer, start) for start in starts]
        seen = [SeenDay(*one) for one in zip(todos, witnesses(client, self._schema, org, layer, starts), strict=True)]
        moving, done = Move(month, was, seen, buckets, self._clock), 0
        for some, again in self._read_together(layer, starts, packed):
            live = LiveDays(client, self._schema, org, layer, some, buckets, self._damage, again=again)
            moving.begin(live.slots)
            for group in live.groups():
                yield
                if moving.is_full_with(group):
                    if not (yield from moving.commit(done)):
                        return
                    self.days += done
                    done = 0
                moving.add(group)
            done += len(some)
        if (yield from moving.commit(done)):
            self.days += done

    def _read_together(
        self, layer: Resolution, starts: Sequence[int], packed: Sequence[bool]
    ) -> Iterator[tuple[Sequence[int], bool]]:
        """Days that are in the same Redis keys, and whether one of them was packed before."""
        if layer == self._schema.layers.day:
            yield starts, any(packed)
        else:
            yield from (([start], again) for start, again in zip(starts, packed, strict=True))

    def _has(self, month: MonthChange, was: Month, layer: Resolution, start: int) -> bool:
        name, index = place(Slot(layer, start), "series")
        first = range(index, index + self._schema.layers.day.seconds // layer.seconds)
        found = (was if was.head.together else month.read([name])).numbers(name)
        return any(at in column for columns in found.values() for column in columns.values() for at in first)

    def _buckets(self, org: str) -> int:
        return buckets_for(int(self._client().zcard(self._schema.seen(org, "key"))))
