"""Fetches live counters and packed time so that every number is in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.packed_reads import PackedReads
from usage_middleware.store.reads import Answer, Read, fetch

#: So often live counters are read while packers change the months that go with them, before all is read in one transaction.
TRIES = 3
#: How many commands go in one pipeline.
BATCH = 500


def fetch_with(packed: PackedReads, client: Any, reads: Sequence[Read], damage: DamageLog) -> list[Answer]:
    """What Redis answers to reads of live counters, and in `packed` what months have that did not change meanwhile.

    Raises:
        redis_errors(): as the client does.
    """
    for _ in range(TRIES if packed else 0):
        packed.fetch(client)
        found = _fetch_live(client, reads, damage)
        if packed.is_unchanged(client):
            return found
    return _fetch_at_once(packed, client, reads, damage) if packed else _fetch_live(client, reads, damage)


def _fetch_live(client: Any, reads: Sequence[Read], damage: DamageLog) -> list[Answer]:
    closed = [read for read in reads if not read.is_open]
    # Those of open slots go with the last of the others.
    last = (len(closed) - 1) // BATCH * BATCH if closed else 0
    parts = [closed[begin : begin + BATCH] for begin in range(0, last, BATCH)]
    parts.append([*closed[last:], *(read for read in reads if read.is_open)])
    return [answer for part in parts if part for answer in fetch(client, part, damage)]


def _fetch_at_once(packed: PackedReads, client: Any, reads: Sequence[Read], damage: DamageLog) -> list[Answer]:
    """Everything in one transaction. It keeps other clients waiting, and no packer comes in between."""
    while True:
        months = [Read(command, True, _ignore) for command in packed.commands()]
        answers = fetch(client, [*months, *(read._replace(is_open=True) for read in reads)], damage)
        replies = {answer.read.command: answer.reply for answer in answers if answer.read.add is _ignore}
        if packed.accept([replies.get(month.command, ()) for month in months]):
            return [answer for answer in answers if answer.read.add is not _ignore]


def _ignore(note: object, reply: object) -> None:
    """A month is taken from its reply, and not added to anything."""
