"""Adds up replies of Redis: fields of hashes, members with scores, histograms. The client may decode replies or not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from usage_middleware.periods import Slot
from usage_middleware.store.schema import LAST, parse_key_board_member

Measures = dict[str, int]


class KeyBoard(NamedTuple):
    """All that one key did: dimension -> member -> measure -> number, and its histogram."""

    members: dict[str, dict[str, Measures]]
    latency: dict[int, int]


def add_block(slots: Mapping[str, Slot], found: dict[Slot, Measures], reply: Any) -> None:
    """Add an HGETALL of a block: every measure of `slots`, which are given by their names in the block."""
    for field, value in reply.items() if isinstance(reply, Mapping) else pairs(reply):
        slot_name, measure = _slot_and_measure(field)
        slot = slots.get(slot_name)
        if slot is not None:
            found.setdefault(slot, {})[measure] = int(value)


@lru_cache(maxsize=16384)  # the blocks of a year have the same fields
def _slot_and_measure(field: bytes | str) -> tuple[str, str]:
    slot_name, _, measure = text(field).partition(" ")
    return slot_name, measure


def add_fields(fields: Sequence[tuple[Slot, str]], found: dict[Slot, Measures], reply: Any) -> None:
    """Add an HMGET of a block, of these slots and measures."""
    for (slot, measure), value in zip(fields, reply, strict=True):
        if value is not None:
            found.setdefault(slot, {})[measure] = int(value)


def add_board(measure: str, found: dict[str, Measures], reply: Any) -> None:
    """Add a board of one measure."""
    for name, score in pairs(reply):
        measures = found.setdefault(text(name), {})
        measures[measure] = measures.get(measure, 0) + number(score)


def add_bins(found: dict[int, int], reply: Any) -> None:
    """Add a histogram."""
    for name, score in pairs(reply):
        found[int(name)] = found.get(int(name), 0) + number(score)


def add_key_board(found: KeyBoard, reply: Any) -> None:
    """Add the board of one key."""
    for raw, score in pairs(reply):
        measure, dimension, name = parse_key_board_member(text(raw))
        if dimension == "latency":
            found.latency[int(name)] = found.latency.get(int(name), 0) + number(score)
        else:
            measures = found.members.setdefault(dimension, {}).setdefault(name, {})
            measures[measure] = measures.get(measure, 0) + number(score)


def add_scores(members: Iterable[str], found: dict[str, int], reply: Any) -> None:
    """Add a ZMSCORE of these members."""
    found.update((name, number(score)) for name, score in zip(members, reply, strict=True) if score is not None)


def add_member_scores(measure: str, members: Iterable[str], found: dict[str, Measures], reply: Any) -> None:
    """Add a ZMSCORE of these members on a board of one measure."""
    for name, score in zip(members, reply, strict=True):
        if score is not None:
            measures = found.setdefault(name, {})
            measures[measure] = measures.get(measure, 0) + number(score)


def text(raw: bytes | str) -> str:
    """A name in a reply."""
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw


def number(score: bytes | str | float) -> int:
    """A score as a whole number."""
    try:
        return int(score)
    except ValueError:  # "1e+17"
        return int(float(score))


def pairs(reply: Collection[Any]) -> Iterable[tuple[Any, Any]]:
    """(member, score) of a reply WITHSCORES, flat or already in pairs."""
    flat = list(reply)
    if flat and isinstance(flat[0], (list, tuple)):
        return ((pair[0], pair[1]) for pair in flat)
    return zip(flat[::2], flat[1::2], strict=True)


def latest(many: Iterable[Measures]) -> int:
    """The greatest `last_ms` of several slots, 0 of none."""
    return max((measures.get(LAST, 0) for measures in many), default=0)
