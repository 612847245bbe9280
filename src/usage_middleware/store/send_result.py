"""What became of a chunk that was sent: what the script or an error says of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, NamedTuple

from usage_middleware.store.driver_errors import effect, effect_of_reply, is_wrong_type, reason

#: No mark has as many digits.
_DIGITS = 17


class Outcome(Enum):
    """What became of a chunk that was sent."""

    COUNTED = "counted"
    """It is in Redis, now or since an earlier attempt."""
    GAP = "gap"
    """Redis lacks numbers before it: send from `Answer.last` on."""
    FULL = "full"
    """`Answer.refused` are over the cap: send it again without them."""
    LATER = "later"
    """This organisation can't be written now; others may."""
    AWAY = "away"
    """The server answers, and can't take anything now."""
    SILENT = "silent"
    """No answer: nobody knows whether it was counted."""
    UNSURE = "unsure"
    """Its mark is gone, and nobody knows whether it was counted."""
    FAULT = "fault"
    """Redis refuses this very chunk."""
    KNOWN = "known"
    """Some of its ids were counted before: send it again without them."""
    BEYOND = "beyond"
    """A counter would fall below 0, or be too large to be exact."""
    AGAIN = "again"
    """Packed time has changed meanwhile: send it again with what is there now."""
    CROWDED = "crowded"
    """There is no room for more ids."""


class SendResult(NamedTuple):
    """The outcome of sending one chunk, and what belongs to it.

    Attributes:
        last: of COUNTED and GAP, the number of the last chunk that Redis has.
        refused: of FULL, the members over the cap by dimension.
        wrong_type: how many keys were skipped because they hold another type.
        known: of KNOWN, what is kept under each of these ids.
        reason: of the rest, what was said.
    """

    outcome: Outcome
    last: int = 0
    refused: Mapping[str, Collection[str]] = {}
    wrong_type: int = 0
    known: Mapping[str, str] = {}
    reason: str = ""


class Mark(NamedTuple):
    """What Redis has of a worker in an organisation.

    Attributes:
        number: of the last chunk that was counted; None if there is no mark.
        is_lost: True if there was a mark, and it alone is gone: what was counted is there.
    """

    number: int | None
    is_lost: bool = False


def mark_of(number: object, noted: object) -> Mark:
    """What a mark says, and whether the worker is known to have had one. A damaged one counts as missing.

    Raises:
        redis_errors(): one of them is an error.
    """
    for reply in (number, noted):
        if isinstance(reply, Exception) and not is_wrong_type(reply):
            raise reply
    found = int(number) if isinstance(number, bytes) and number.isdigit() and len(number) < _DIGITS else None
    return Mark(found, found is None and isinstance(noted, bytes))


def answer(reply: Any) -> SendResult:
    """What the script's reply means. What is no reply of the script, as of a broken proxy, says nothing about the chunk."""
    try:
        return _answer(reply)
    except (AttributeError, IndexError, TypeError, ValueError):
        return SendResult(Outcome.LATER, reason=f"this is no answer to a chunk: {reply!r:.100}")


def _answer(reply: Any) -> SendResult:
    kind, *rest = reply
    if kind == b"OK":
        return SendResult(Outcome.COUNTED, wrong_type=int(rest[0]))
    if kind == b"DONE":
        return SendResult(Outcome.COUNTED, last=int(rest[0]))
    if kind == b"UNSURE":
        return SendResult(Outcome.UNSURE)
    if kind == b"GAP":
        return SendResult(Outcome.GAP, last=int(rest[0]))
    if kind == b"FULL":
        refused = {dimension.decode(): {name.decode() for name in members} for dimension, *members in rest}
        return SendResult(Outcome.FULL, refused=refused)
    if kind == b"KNOWN":
        return SendResult(Outcome.KNOWN, known={name.decode(): record.decode(errors="replace") for name, record in rest})
    if kind == b"AGAIN":
        return SendResult(Outcome.AGAIN)
    reason = rest[0].decode(errors="replace")
    if kind in (b"BEYOND", b"CROWDED"):
        return SendResult(Outcome(kind.decode().lower()), reason=reason)
    return SendResult(Outcome(effect_of_reply(reason)), reason=reason)


def failure(error: Exception) -> SendResult:
    """What one of `redis_errors` means."""
    return SendResult(Outcome(effect(error)), reason=reason(error))
