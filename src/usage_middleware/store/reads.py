"""Sends reads to Redis, many at once. What is damaged counts as missing, and is noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import msgspec

from usage_middleware.gil import rest
from usage_middleware.store import deadline
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.driver_errors import is_wrong_type
from usage_middleware.store.engine import is_cluster
from usage_middleware.store.replies import Note


class Read(msgspec.Struct, frozen=True, gc=False):
    """One command; `add` takes its reply, and what to call with the name of a damaged number.

    There may be tens of thousands: the garbage collector need not look at them. Of a script `instead` makes reads that do
    the same without it, where it fails.
    """

    command: tuple[object, ...]
    is_open: bool
    add: Callable[[Note, Any], None]
    instead: Callable[[], Sequence[Read]] | None = None

    @property
    def keys(self) -> tuple[object, ...]:
        """The Redis keys that it reads."""
        if self.command[0] == "EVAL_RO":
            return self.command[3 : 3 + cast(int, self.command[2])]
        return self.command[2:-1] if self.command[0] == "ZUNION" else self.command[1:2]


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A read, and what Redis answered."""

    read: Read
    reply: Any


def fetch(client: Any, reads: Sequence[Read], damage: DamageLog) -> list[Answer]:
    """Send reads, those of slots that may change in one MULTI; what Redis answered. One trip, in a cluster two.

    Raises:
        redis_errors(): as the client does.
        TimeoutError: the time of this thread's operation is over before all replies were added up.
    """
    if is_cluster(client):
        # The driver would ask for the keys of each script.
        reads = without_scripts(reads)
    closed, changing = [read for read in reads if not read.is_open], [read for read in reads if read.is_open]
    trip = _in_two_trips if is_cluster(client) else _in_one_trip
    found: list[Answer] = []
    for read, reply in zip((*closed, *changing), trip(client, closed, changing), strict=True):
        if isinstance(reply, Exception):
            found += _fetched_apart(client, read, reply, damage)
        else:
            found.append(Answer(read, reply))
    return found


def without_scripts(reads: Iterable[Read]) -> list[Read]:
    """The same reads without any script."""
    return [one for read in reads for one in ((read,) if read.instead is None else read.instead())]


def hand_out(answers: Iterable[Answer], damage: DamageLog) -> None:
    """Add every reply to what was read."""
    check, notes = deadline.check, _Notes(damage)
    for answer in answers:
        check()
        notes.read = answer.read
        answer.read.add(notes, answer.reply)
        rest()


def _in_one_trip(client: Any, closed: Sequence[Read], changing: Sequence[Read]) -> Iterable[Any]:
    """The driver's own transactions are trips of their own, so MULTI is sent as any other command."""
    with client.pipeline(transaction=False) as pipe:
        _put(pipe, closed)
        if changing:
            pipe.execute_command("MULTI")
            _put(pipe, changing)
            pipe.execute_command("EXEC")
        replies = pipe.execute(raise_on_error=False)
    if not changing:
        return cast(Iterable[Any], replies)
    done = replies[-1]
    if isinstance(done, Exception):
        # What was wrong with a command is said where it was queued.
        raise next(reply for reply in replies[len(closed) :] if isinstance(reply, Exception))
    return (*replies[: len(closed)], *done)


def _in_two_trips(client: Any, closed: Sequence[Read], changing: Sequence[Read]) -> Iterable[Any]:
    for reads in filter(None, (closed, changing)):
        with client.pipeline(transaction=reads is changing) as pipe:
            _put(pipe, reads)
            yield from pipe.execute(raise_on_error=False)


def _put(pipe: Any, reads: Sequence[Read]) -> None:
    for read in reads:
        pipe.execute_command(*read.command)


def _fetched_apart(client: Any, read: Read, error: Exception, damage: DamageLog) -> list[Answer]:
    """Leave out a Redis key that holds another type, and read those that were to be read with it."""
    if read.instead is not None:
        return fetch(client, read.instead(), damage)
    if len(read.keys) == 1:
        if not damage.explains(error, str(read.keys[0])):
            raise error
        return []
    if not is_wrong_type(error):
        raise error
    return fetch(client, [Read(("ZUNION", 1, key, "WITHSCORES"), False, read.add) for key in read.keys], damage)


class _Notes:
    """Notes what is damaged in the reply to a read. One for all of them: they may be thousands."""

    read: Read

    def __init__(self, damage: DamageLog) -> None:
        self._damage = damage

    def __call__(self, name: str) -> None:
        keys = self.read.keys
        where = str(keys[0]) if len(keys) == 1 else f"{keys[0]} or one of the {len(keys) - 1} read with it"
        self._damage.note(where, f"the number of {name:.100}")
