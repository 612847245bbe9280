"""Fetches live counters and packed time so that every number is in one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.packed_reads import Command, PackedReads
from usage_middleware.store.reads import Answer, Read, fetch, without_scripts

#: So often live counters are read while packers change the months that go with them, before all is read in one transaction.
TRIES = 4
#: How many commands go in one pipeline.
BATCH = 500
#: How many of thousands: replies that wait while thousands of numbers are kept would age in the garbage collector.
FEW, THOUSANDS = 100, 2_000


def fetch_with(
    packed: PackedReads, client: Any, reads: Sequence[Read], damage: DamageLog, charge: Callable[[int], object]
) -> Iterable[Answer]:
    """What Redis answers to reads of live counters, and in `packed` what months have that did not change meanwhile.

    `charge` is told what packed time costs, and may raise.

    Raises:
        redis_errors(): as the client does.
        QueryError: `window_too_wide`.
    """
    if not packed:
        return _fetch_in_parts(client, reads, damage)
    cost, found = 0, None
    for _ in range(TRIES):
        cost = _charged(packed, cost, charge)
        found = _fetch_beside(packed, client, reads, damage)
        if found is not None:
            break
    found = _fetch_at_once(packed, client, reads, damage) if found is None else found
    _charged(packed, cost, charge)
    return found


def _charged(packed: PackedReads, before: int, charge: Callable[[int], object]) -> int:
    """What packed time costs as far as that is known now; what is more than before is charged."""
    cost = max(before, packed.cost())
    if cost > before:
        charge(cost - before)
    return cost


def _fetch_in_parts(client: Any, reads: Sequence[Read], damage: DamageLog) -> Iterator[Answer]:
    """The replies to one part are added up and forgotten before the next one is sent."""
    for part in filter(None, _parts(reads)):
        yield from fetch(client, part, damage)


def _parts(reads: Sequence[Read]) -> list[list[Read]]:
    """What goes in one pipeline each: what is open, with the last of the rest."""
    closed = [read for read in reads if not read.is_open]
    size = BATCH if len(closed) < THOUSANDS else FEW
    last = (len(closed) - 1) // size * size if closed else 0
    parts = [closed[begin : begin + size] for begin in range(0, last, size)]
    return [*parts, [*closed[last:], *(read for read in reads if read.is_open)]]


def _fetch_beside(packed: PackedReads, client: Any, reads: Sequence[Read], damage: DamageLog) -> list[Answer] | None:
    """The versions of the months with the first live counters, the months with the last: one trip, mostly.

    None where a month was changed meanwhile, or was not known to be there.
    """
    versions, months = packed.version_commands(), packed.commands()
    parts = _parts(reads)
    is_open = bool(parts[-1]) and parts[-1][-1].is_open
    parts[-1] = [*parts[-1], *(Read(command, is_open, _take_month) for command in months)]
    parts[0] = [*(Read(command, False, _take_version) for command in versions), *parts[0]]
    answers = [answer for part in parts for answer in fetch(client, part, damage)]
    before = _replies(versions, (answer for answer in answers if answer.read.add is _take_version))
    is_all = packed.accept(_replies(months, (answer for answer in answers if answer.read.add is _take_month)))
    if packed.are_still(versions, before) and not is_all:
        packed.fetch(client)
    return _live(answers) if packed.are_still(versions, before) else None


def _fetch_at_once(packed: PackedReads, client: Any, reads: Sequence[Read], damage: DamageLog) -> list[Answer]:
    """Everything in one transaction. It keeps other clients waiting, and no packer comes in between."""
    plain = without_scripts(reads)
    while True:
        months = packed.commands()
        some = [*(Read(command, True, _take_month) for command in months), *(replace(read, is_open=True) for read in plain)]
        answers = fetch(client, some, damage)
        if packed.accept(_replies(months, (answer for answer in answers if answer.read.add is _take_month))):
            return _live(answers)


def _replies(commands: Sequence[Command], answers: Iterable[Answer]) -> list[Any]:
    """The reply to each command; none to one that was about a Redis key of another type."""
    found = {answer.read.command: answer.reply for answer in answers}
    return [found.get(command) for command in commands]


def _live(answers: Iterable[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.read.add is not _take_month and answer.read.add is not _take_version]


def _take_version(note: object, reply: object) -> None:
    """A version is taken from its reply, and not added to anything."""


def _take_month(note: object, reply: object) -> None:
    """Nor is a month."""
