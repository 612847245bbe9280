"""Adds up replies of Redis: fields of hashes, members with scores, histograms. The client may decode replies or not.

Somebody may have damaged a counter. Then it counts as missing, and its name is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from usage_middleware.gil import LIGHT, rest, yielding
from usage_middleware.latency import LAST_BIN
from usage_middleware.periods import Slot
from usage_middleware.store.members import parse_key_board_member
from usage_middleware.store.schema import LAST

Measures = dict[str, int]
#: Boards: measure -> member -> number. A dictionary for each member of 100,000 would take five times the memory.
Boards = dict[str, dict[str, int]]
#: Called with the name of a field or member whose number is damaged. It counts as missing.
Note = Callable[[str], None]

#: So many members are added up in one go: with 100,000 no other thread could run in the midst of a call.
PART = 500
#: No number that is counted is so large.
MOST = 2**63
_LEAST = -MOST
#: The last millisecond of the year 9999.
LATEST_MS = 253_402_300_799_999


class KeyBoard(NamedTuple):
    """All that one key did: dimension -> member -> measure -> number, and its histogram."""

    members: dict[str, dict[str, Measures]]
    latency: dict[int, int]


class AddBlock(msgspec.Struct, frozen=True, gc=False):
    """Adds an HGETALL of a block: every measure of `slots`, which are given by their names in the block."""

    slots: Mapping[str, Slot]
    found: dict[Slot, Measures]

    def __call__(self, note: Note, reply: Any) -> None:
        """Add a reply."""
        _add_block(self.slots, self.found, note, reply)


def _add_block(slots: Mapping[str, Slot], found: dict[Slot, Measures], note: Note, reply: Any) -> None:
    last, mine = "", {}
    for field, value in zip(*columns(reply), strict=True):
        slot_name, measure = _slot_and_measure(field)
        if slot_name not in slots:
            continue
        try:
            counted = int(value)
        except (ValueError, OverflowError):
            counted = _rounded(value)
        if not _LEAST < counted < MOST or (measure == LAST and not 0 <= counted <= LATEST_MS):
            note(measure)
            continue
        if slot_name != last:
            last, mine = slot_name, found.setdefault(slots[slot_name], {})
        mine[measure] = counted


@lru_cache(maxsize=16384)  # the blocks of a year have the same fields
def _slot_and_measure(field: bytes | str) -> tuple[str, str]:
    slot_name, _, measure = text(field).partition(" ")
    return slot_name, measure


class AddFields(msgspec.Struct, frozen=True, gc=False):
    """Adds an HMGET of a block, of these slots and measures."""

    fields: Sequence[tuple[Slot, str]]
    found: dict[Slot, Measures]

    def __call__(self, note: Note, reply: Any) -> None:
        """Add a reply."""
        _add_fields(self.fields, self.found, note, reply)


def _add_fields(fields: Sequence[tuple[Slot, str]], found: dict[Slot, Measures], note: Note, reply: Any) -> None:
    last, mine = None, {}
    for (slot, measure), value in zip(fields, reply, strict=True):
        if value is None:
            continue
        try:
            counted = int(value)
        except (ValueError, OverflowError):
            counted = _rounded(value)
        if not _LEAST < counted < MOST or (measure == LAST and not 0 <= counted <= LATEST_MS):
            note(measure)
            continue
        if slot is not last:
            last, mine = slot, found.setdefault(slot, {})
        mine[measure] = counted


def add_board(found: dict[str, int], note: Note, reply: Any) -> None:
    """Add a board of one measure: member -> number."""
    members, scores = columns(reply)
    for begin in range(0, len(members), PART):
        part = slice(begin, begin + PART)
        for name, counted in zip(texts(members[part]), numbers(scores[part]), strict=True):
            if counted is None:
                note(name)
            else:
                found[name] = found.get(name, 0) + counted
        rest()


def by_member(boards: Boards) -> dict[str, Measures]:
    """The other way round: member -> measure -> number. What was given is empty then, so that not both take memory."""
    found: dict[str, Measures] = {}
    for measure, numbers_of in boards.items():
        for name, counted in yielding(numbers_of.items(), LIGHT):
            mine = found.get(name)
            if mine is None:
                found[name] = {measure: counted}
            else:
                mine[measure] = counted
        numbers_of.clear()
    return found


def by_measure(members: Mapping[str, Measures]) -> Boards:
    """As `by_member`, the other way round."""
    found: Boards = {}
    for name, measures in members.items():
        for measure, counted in measures.items():
            found.setdefault(measure, {})[name] = counted
    return found


class AddBins(msgspec.Struct, frozen=True, gc=False):
    """Adds a histogram."""

    found: dict[int, int]

    def __call__(self, note: Note, reply: Any) -> None:
        """Add a reply."""
        bins, scores = columns(reply)
        for name, calls in zip(bins, numbers(scores), strict=True):
            _add_bin(self.found, text(name), calls, note)


def _add_bin(found: dict[int, int], name: str, calls: int | None, note: Note) -> None:
    bin_number = number(name)
    if calls is None or bin_number is None or not 0 <= bin_number <= LAST_BIN:
        note(name)
    else:
        found[bin_number] = found.get(bin_number, 0) + calls


class AddKeyBoard(msgspec.Struct, frozen=True, gc=False):
    """Adds the board of one key."""

    found: KeyBoard

    def __call__(self, note: Note, reply: Any) -> None:
        """Add a reply."""
        _add_key_board(self.found, note, reply)


def _add_key_board(found: KeyBoard, note: Note, reply: Any) -> None:
    members, scores = columns(reply)
    for raw, counted in zip(members, numbers(scores), strict=True):
        try:
            measure, dimension, name = parse_key_board_member(text(raw))
        except ValueError:
            note(text(raw))
            continue
        if dimension == "latency":
            _add_bin(found.latency, name, counted, note)
        else:
            _add_score(found.members.setdefault(dimension, {}), name, measure, counted, note)


def _add_score(found: dict[str, Measures], name: str, measure: str, counted: int | None, note: Note) -> None:
    if counted is None:
        note(name)
        return
    measures = found.setdefault(name, {})
    measures[measure] = measures.get(measure, 0) + counted


def add_seen(found: dict[str, int], note: Note, reply: Any) -> None:
    """Add a registry: member -> when it was last active."""
    members, scores = columns(reply)
    add_scores(texts(members), found, note, scores)


def add_scores(members: Iterable[str], found: dict[str, int], note: Note, reply: Any) -> None:
    """Add a ZMSCORE of these members of a registry."""
    for name, score in zip(members, reply, strict=True):
        if score is None:
            continue
        at = number(score)
        if at is None or not 0 <= at <= LATEST_MS:
            note(name)
        else:
            found[name] = at


def add_member_scores(measure: str, members: Iterable[str], found: dict[str, Measures], note: Note, reply: Any) -> None:
    """Add a ZMSCORE of these members on a board of one measure."""
    for name, score in zip(members, reply, strict=True):
        if score is not None:
            _add_score(found, name, measure, number(score), note)


def text(raw: bytes | str) -> str:
    """A name in a reply."""
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw


def texts(many: Sequence[Any]) -> Iterable[str]:
    """As `text`, of many: all at once, unless one of them is not as this package writes it."""
    try:
        return list(map(bytes.decode, many))
    except (TypeError, UnicodeDecodeError):
        return map(text, many)


def number(value: bytes | str | float) -> int | None:
    """A field or score as a whole number; None if it is none, or larger than Redis itself can count."""
    try:
        found = int(value)
    except (ValueError, OverflowError):
        found = _rounded(value)
    return found if _LEAST < found < MOST else None


def _rounded(value: bytes | str | float) -> int:
    try:
        return int(float(value))  # "1e+17"
    except (ValueError, OverflowError):
        return MOST


def numbers(values: Sequence[Any]) -> Iterable[int | None]:
    """As `number`, of many: all at once, unless one of them is damaged."""
    try:
        found = list(map(int, values))
    except (ValueError, OverflowError):
        return map(number, values)
    return found if not found or (min(found) > _LEAST and max(found) < MOST) else map(number, values)


def columns(reply: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    """The fields and the values of a hash, or the members and the scores of a reply WITHSCORES, flat or already in pairs."""
    if isinstance(reply, Mapping):
        return list(reply), list(reply.values())
    flat = reply if type(reply) is list else list(reply)
    if flat and isinstance(flat[0], (list, tuple)):
        return [pair[0] for pair in flat], [pair[1] for pair in flat]
    return flat[::2], flat[1::2]


def latest(many: Iterable[Measures]) -> int:
    """The greatest `last_ms` of several slots, 0 of none."""
    return max((measures.get(LAST, 0) for measures in many), default=0)
