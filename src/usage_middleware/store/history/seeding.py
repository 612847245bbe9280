"""Marks what was counted before history began, so that it is packed, too. A worker marks only what it counts itself."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from usage_middleware.periods import DAY, day_name, month_start
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.driver_errors import is_full, redis_errors
from usage_middleware.store.history.names import months
from usage_middleware.store.history.schedule import Schedule
from usage_middleware.store.members import OPERATOR
from usage_middleware.store.meta import HISTORY_SINCE, history_since
from usage_middleware.store.schema import CALLS, Schema, todo_member

#: The field of `meta` that tells for which beginning of history everything older is marked.
SEEDED = "history_seeded"
#: So long nobody else marks, seconds.
_TAKEN_SECONDS = 3600
#: The fields of the days of a month.
_FIELDS = [f"{day:02} {CALLS}" for day in range(1, 32)]


class Seeding:
    """Marks the days of all organisations that have live counters. Whoever does it twice marks the same."""

    def __init__(self, client: Callable[[], Any], schema: Schema, clock: Callable[[], float], damage: DamageLog) -> None:
        self._client = client
        self._schema = schema
        self._clock = clock
        self._damage = damage
        self._schedule = Schedule(client, schema, damage)

    def steps(self) -> Iterator[None]:
        """Mark what is not marked yet, if there is anything. No older worker may be alive.

        Where the memory of Redis is full, it is for later: to pack what is marked makes room.

        Raises:
            redis_errors(): as the client does.
        """
        try:
            yield from self._steps()
        except redis_errors() as error:
            if not is_full(error):
                raise

    def _steps(self) -> Iterator[None]:
        client, meta = self._client(), self._schema.meta
        began, seeded = client.hmget(meta, HISTORY_SINCE, SEEDED)
        if began == seeded or not history_since(client, self._schema, partial(self._damage.note, meta)):
            return
        if not client.set(self._schema.history_seeding, secrets.token_hex(8), nx=True, ex=_TAKEN_SECONDS):
            return
        for org in [*self._schedule.organisations(), OPERATOR]:
            self._mark(org)
            yield
        client.hset(meta, SEEDED, began)
        client.delete(self._schema.history_seeding)

    def _mark(self, org: str) -> None:
        """Mark the days of an organisation in which calls were counted."""
        members = {member: 1 for day in self._days(org) for member in self._members(day)}
        if not members:
            return
        todo, client = self._schema.history_todo(org), self._client()
        client.zadd(todo, members, nx=True)
        client.expire(todo, self._schema.settings.history_kept)
        self._schedule.hurry(org, int(self._clock()))

    def _days(self, org: str) -> Iterator[int]:
        """Where those days begin."""
        series, day = self._schema.series, self._schema.layers.day
        names = list(months(int(self._clock()) - self._schema.settings.longest_kept - 31 * DAY, int(self._clock())))
        with self._client().pipeline(transaction=False) as pipe:
            for month in names:
                pipe.execute_command("HMGET", series(org, day.name, month), *_FIELDS)
            replies = pipe.execute(raise_on_error=False)
        for month, reply in zip(names, replies, strict=True):
            if isinstance(reply, Exception) and not self._damage.explains(reply, series(org, day.name, month)):
                raise reply
            for place, calls in enumerate(() if isinstance(reply, Exception) else reply):
                if calls is not None:
                    yield month_start(month) + place * DAY

    def _members(self, start: int) -> Iterator[str]:
        """What is to be packed of a day: its half-hours are gone after a while."""
        settings, (_, middle, day) = self._schema.settings, self._schema.layers
        yield todo_member(day.name, day_name(start))
        longest = max(settings.kept_without_history(kind, middle.rank) for kind in settings.retention)
        if start + DAY + longest > self._clock():
            yield todo_member(middle.name, day_name(start))
