"""Sends reads to Redis, many at once. What is damaged counts as missing, and is noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from usage_middleware.store.damage import DamageLog
from usage_middleware.store.driver_errors import is_wrong_type
from usage_middleware.store.replies import Note


class Read(NamedTuple):
    """One command; `add` takes its reply, and what to call with the name of a damaged number."""

    command: tuple[object, ...]
    is_open: bool
    add: Callable[[Note, Any], None]

    @property
    def keys(self) -> tuple[object, ...]:
        """The Redis keys that it reads."""
        return self.command[2:-1] if self.command[0] == "ZUNION" else self.command[1:2]


class Answer(NamedTuple):
    """A read, and what Redis answered."""

    read: Read
    reply: Any


def fetch(client: Any, reads: Sequence[Read], damage: DamageLog, *, transaction: bool) -> list[Answer]:
    """Send reads; what Redis answered to each.

    Raises:
        redis_errors(): as the client does.
    """
    with client.pipeline(transaction=transaction) as pipe:
        for read in reads:
            pipe.execute_command(*read.command)
        replies = pipe.execute(raise_on_error=False)
    found: list[Answer] = []
    for read, reply in zip(reads, replies, strict=True):
        found += _fetched_apart(client, read, reply, damage) if isinstance(reply, Exception) else [Answer(read, reply)]
    return found


def hand_out(answers: Sequence[Answer], damage: DamageLog) -> None:
    """Add every reply to what was read."""
    for read, reply in answers:
        read.add(partial(_note, damage, read.keys), reply)


def _fetched_apart(client: Any, read: Read, error: Exception, damage: DamageLog) -> list[Answer]:
    """Leave out a Redis key that holds another type, and read those that were to be read with it."""
    if len(read.keys) == 1:
        if not damage.explains(error, str(read.keys[0])):
            raise error
        return []
    if not is_wrong_type(error):
        raise error
    apart = [read._replace(command=("ZUNION", 1, key, "WITHSCORES")) for key in read.keys]
    return fetch(client, apart, damage, transaction=False)


def _note(damage: DamageLog, keys: tuple[object, ...], name: str) -> None:
    where = str(keys[0]) if len(keys) == 1 else f"{keys[0]} or one of the {len(keys) - 1} read with it"
    damage.note(where, f"the number of {name:.100}")
