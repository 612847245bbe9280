"""Takes the replies of Redis apart, whatever the client decodes: fields, members with scores, histograms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from usage_middleware.periods import Slot
from usage_middleware.store.schema import LAST, parse_key_board_member

Measures = dict[str, int]


class KeyBoard(NamedTuple):
    """All that one key did: dimension -> member -> measure -> number, and its histogram."""

    members: dict[str, dict[str, Measures]]
    latency: dict[int, int]


def parse_series(wanted: Mapping[str, Slot], found: dict[Slot, Measures]) -> Callable[[Any], None]:
    """Takes an HGETALL of a block: of the slots that are wanted, by their names in it, every measure."""

    def take(reply: Any) -> None:
        for field, value in fields(reply):
            slot_name, measure = _slot_and_measure(field)
            slot = wanted.get(slot_name)
            if slot is not None:
                found.setdefault(slot, {})[measure] = int(value)

    return take


@lru_cache(maxsize=16384)  # the blocks of a year have the same fields
def _slot_and_measure(field: bytes | str) -> tuple[str, str]:
    slot_name, _, measure = text(field).partition(" ")
    return slot_name, measure


def parse_named(places: Sequence[tuple[Slot, str]], found: dict[Slot, Measures]) -> Callable[[Any], None]:
    """Takes an HMGET of a block, whose fields are these slots and measures."""

    def take(reply: Any) -> None:
        for (slot, measure), value in zip(places, reply, strict=True):
            if value is not None:
                found.setdefault(slot, {})[measure] = int(value)

    return take


def parse_board(measure: str, found: dict[str, Measures]) -> Callable[[Any], None]:
    """Takes a board of one measure."""

    def take(reply: Any) -> None:
        for name, score in pairs(reply):
            measures = found.setdefault(text(name), {})
            measures[measure] = measures.get(measure, 0) + number(score)

    return take


def parse_bins(found: dict[int, int]) -> Callable[[Any], None]:
    """Takes a histogram."""

    def take(reply: Any) -> None:
        for name, score in pairs(reply):
            found[int(name)] = found.get(int(name), 0) + number(score)

    return take


def parse_key_board(found: KeyBoard) -> Callable[[Any], None]:
    """Takes the board of one key."""

    def take(reply: Any) -> None:
        for raw, score in pairs(reply):
            measure, dimension, name = parse_key_board_member(text(raw))
            if dimension == "latency":
                found.latency[int(name)] = found.latency.get(int(name), 0) + number(score)
            else:
                measures = found.members.setdefault(dimension, {}).setdefault(name, {})
                measures[measure] = measures.get(measure, 0) + number(score)

    return take


def parse_seen(members: Sequence[str], found: dict[str, int]) -> Callable[[Any], None]:
    """Takes a ZMSCORE of these members."""

    def take(reply: Any) -> None:
        found.update((name, number(score)) for name, score in zip(members, reply, strict=True) if score is not None)

    return take


def text(raw: bytes | str) -> str:
    """A name in a reply, decoded by the client or not."""
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


def fields(reply: Any) -> Iterable[tuple[Any, Any]]:
    """(field, value) of an HGETALL, flat or already a mapping."""
    return reply.items() if isinstance(reply, Mapping) else pairs(reply)


def latest(many: Iterable[Measures]) -> int:
    """The greatest `last_ms` of several slots, 0 of none."""
    return max((measures.get(LAST, 0) for measures in many), default=0)
