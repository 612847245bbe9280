"""Sends reads to Redis, many at once. What is damaged counts as missing, and is noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from usage_middleware.store import deadline
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


def send(client: Any, reads: Sequence[Read], damage: DamageLog, *, transaction: bool) -> None:
    """Send reads, and hand out the replies.

    Raises:
        redis_errors(): as the client does.
        TimeoutError: the time of this thread's operation is over before all replies were added up.
    """
    with client.pipeline(transaction=transaction) as pipe:
        for read in reads:
            pipe.execute_command(*read.command)
        replies = pipe.execute(raise_on_error=False)
    for read, reply in zip(reads, replies, strict=True):
        deadline.check()
        if isinstance(reply, Exception):
            _send_apart(client, read, reply, damage)
        else:
            read.add(partial(_note, damage, read.keys), reply)


def _send_apart(client: Any, read: Read, error: Exception, damage: DamageLog) -> None:
    """Leave out a Redis key that holds another type, and read those that were to be read with it."""
    if len(read.keys) == 1:
        if not damage.explains(error, str(read.keys[0])):
            raise error
        return
    if not is_wrong_type(error):
        raise error
    send(client, [read._replace(command=("ZUNION", 1, key, "WITHSCORES")) for key in read.keys], damage, transaction=False)


def _note(damage: DamageLog, keys: tuple[object, ...], name: str) -> None:
    where = str(keys[0]) if len(keys) == 1 else f"{keys[0]} or one of the {len(keys) - 1} read with it"
    damage.note(where, f"the number of {name:.100}")
