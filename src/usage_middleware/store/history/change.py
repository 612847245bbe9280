"""Sends a change of a month to Redis: packed sections and live counters change together, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec

from usage_middleware.periods import DAY, month_end
from usage_middleware.store.history.month import Changes, Month, NoteDamage, fields
from usage_middleware.store.history.names import BUCKETS
from usage_middleware.store.history.witness import Witness
from usage_middleware.store.schema import Schema
from usage_middleware.store.script import Script

#: A month that is changed lives at least so long, seconds.
_AT_LEAST = DAY
_SCRIPT = Script(files("usage_middleware.store.history").joinpath("change.lua").read_text("utf-8"))


class Todo(NamedTuple):
    """A day that is to be packed: its member of `history:todo`, and the score that it had when reading began."""

    member: str
    score: int


class Addition(NamedTuple):
    """What is added to a live key; from place `greatest` on (counted from 1) the greater value stays."""

    key: str
    is_hash: bool
    names: list[str]
    numbers: list[int | str]
    greatest: int
    milliseconds: int


class MonthChange:
    """Reads and changes one month of an organisation."""

    def __init__(self, client: Any, schema: Schema, org: str, month: str, note: NoteDamage) -> None:
        self._client = client
        self._schema = schema
        self._org = org
        self._month = month
        self._note = note
        self.key = schema.history(org, month)

    def read(self, names: Sequence[str]) -> Month:
        """The month with these sections, as they are at one moment."""
        return Month(names, self._client.hmget(self.key, fields(names)), self.key, self._note)

    def commit(
        self,
        was: Month,
        changes: Changes,
        now: float,
        *,
        buckets: int = 0,
        todos: Sequence[Todo] = (),
        done: Sequence[Todo] = (),
        taken: Sequence[str] = (),
        cleared: Mapping[str, Sequence[str]] | None = None,
        added: Sequence[Addition] = (),
        witnesses: Sequence[Witness] = (),
    ) -> bool:
        """Change the month as it `was` read; False if it, or one of the days, was written meanwhile. Then nothing is changed.

        Args:
            was: the month when it was read.
            changes: the fields of it to write and to remove.
            now: seconds since the epoch.
            buckets: into how many keys are spread, if that is settled now.
            todos: the days whose live counters were read.
            done: those of which nothing is left.
            taken: live keys to remove.
            cleared: live hashes, and the fields to remove there.
            added: what is added to live keys.
            witnesses: what must be as it was when the days were read.

        Raises:
            redis_errors(): as the client does.
        """
        written = dict(changes.written)
        if buckets and not was.head.buckets and written:
            written[BUCKETS] = buckets
        kept = self._schema.settings.history_kept
        lives = max(month_end(self._month) + kept - now, _AT_LEAST)
        cleared = cleared or {}
        arguments = [
            was.head.version, todos, int(lives * 1000), kept * 1000, [one.member for one in done], list(written),
            changes.removed, len(taken), list(cleared.items()), added, witnesses,
        ]  # fmt: skip
        todo_key = self._schema.history_todo(self._org)
        keys = [
            self.key,
            todo_key,
            f"{todo_key}:never",
            *taken,
            *cleared,
            *(one.key for one in added),
            *dict.fromkeys(key for one in witnesses for key in one.keys),
        ]
        return bool(_SCRIPT.run(self._client, keys, [msgspec.msgpack.encode(arguments), *written.values()]) == b"OK")
