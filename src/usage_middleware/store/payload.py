"""The MessagePack that `apply_batch.lua` takes: everything that one chunk adds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec

from usage_middleware.gil import rest
from usage_middleware.options import NONE, Settings
from usage_middleware.periods import DAY
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.history.base import NOTHING_PACKED, Base
from usage_middleware.store.members import ANONYMOUS, METHODS, OTHER, OTHER_METHOD, UNKNOWN, UNMATCHED, is_reserved
from usage_middleware.store.rollup import Increments, expand
from usage_middleware.store.schema import Schema

#: How long a worker's mark outlives its last chunk: a day more than a spooled chunk is sent for.
APPLIED_SECONDS = 8 * DAY

#: Up to here a number survives the script's own arithmetic; larger ones travel as text.
_EXACT = 2**53
#: No chunk has a greater number.
_MOST_NUMBER = _EXACT - 1
#: How much longer than any counter it is known who had a mark: a month's series begins up to a month before it ends, and a
#: worker's clock may be ahead.
MARKED_AHEAD = 40 * DAY

_RESERVED = {"endpoint": [f"{method} {name}" for method in sorted(METHODS | {OTHER_METHOD}) for name in (UNMATCHED, OTHER)]}
_RESERVED_NAMES = [ANONYMOUS, NONE, OTHER, UNKNOWN]


class _Entry(msgspec.Struct, array_like=True, gc=False):
    """What the script adds to one Redis key; from place `greatest` on (counted from 1) the greater value stays.

    `packed` is what history has of each, where a correction may take from that.

    A flush makes some 10,000 of them, none of which the garbage collector tracks for long.
    """

    key: str
    expire_at: int
    names: tuple[str, ...]
    amounts: tuple[int | str, ...]
    greatest: int
    packed: tuple[int, ...] = ()


class Doubt(IntEnum):
    """Whether a chunk may be in Redis already."""

    NONE = 0
    """It was never sent, or was refused."""
    RECENT = 1
    """It was sent, and no answer came."""
    OLD = 2
    """That was so long ago that its mark may have expired."""


class EncodedChunk(NamedTuple):
    """A chunk as the script takes it.

    Attributes:
        data: MessagePack.
        most_names: how many fields or members it adds to one Redis key, at most.
    """

    data: bytes
    most_names: int


class KeptIds(NamedTuple):
    """Ids that one Redis key is to keep.

    Attributes:
        key: the hash.
        expire_at: when it ends, seconds since the epoch.
        limit: how many ids it may have; 0: any number.
        ids: these ids.
        records: what is kept under each.
    """

    key: str
    expire_at: int
    limit: int
    ids: list[str]
    records: list[str]


class Once(NamedTuple):
    """The ids under which a chunk is counted once. It has no number then.

    Attributes:
        places: the Redis keys that may have one of these ids already.
        kept: where they are to be kept, in Redis keys of the chunk's organisation.
        trying: only find out whether it can be counted.
        may_shrink: some of its amounts may be below 0.
        months: months of the history that must still have these versions, by their Redis keys.
    """

    places: list[str]
    kept: list[KeptIds]
    trying: bool = False
    may_shrink: bool = False
    months: Sequence[tuple[str, int]] = ()


def encode_chunk(
    schema: Schema,
    worker: str,
    chunk: Chunk,
    previous: int,
    now: float,
    exempt: Collection[str] = (),
    doubt: Doubt = Doubt.NONE,
    sealed: int | None = None,
    once: Once | None = None,
    base: Base = NOTHING_PACKED,
) -> EncodedChunk:
    """A chunk as the script takes it.

    Args:
        schema: the names of Redis keys.
        worker: whose chunk it is.
        chunk: what to count.
        previous: the number of the last chunk that Redis has of this worker and organisation, as far as the sender knows.
        now: seconds since 1970.
        exempt: keys of the directory, for which the cap does not hold.
        doubt: whether Redis may have it already.
        sealed: the greatest number that this worker has given in this organisation: a mark that is greater is damaged.
            None if that is not known.
        once: in place of a number, the ids that it is counted under.
        base: what history has of the counters.
    """
    expansion = expand(schema, chunk, int(now), base.since)
    once = once and once._replace(months=base.months)
    registry = [_registry(schema, chunk.org, *one, int(now), exempt) for one in expansion.seen.items() if one[1]]
    rest()
    are_exact = _are_exact(chunk)
    series = _entries(expansion.series, base.values, are_exact=are_exact)
    boards = _entries(expansion.boards, base.values, are_exact=are_exact)
    data = msgspec.msgpack.encode(
        [
            3,
            chunk.number,
            previous,
            int(now * 1000),
            APPLIED_SECONDS,
            registry,
            series,
            boards,
            worker,
            longest_kept(schema.settings) + MARKED_AHEAD,
            doubt,
            _MOST_NUMBER if sealed is None else sealed,
            *(() if once is None else (once,)),
        ]
    )
    return EncodedChunk(data, 0 if once is None else max((len(one.names) for one in (*series, *boards)), default=0))


def longest_kept(settings: Settings) -> int:
    """How long the longest-lived counters are kept after their slot, seconds."""
    return settings.longest_kept


def _registry(schema: Schema, org: str, dimension: str, seen: dict[str, int], now: int, exempt: Collection[str]) -> list[Any]:
    """The members of one dimension; first those for which the cap holds."""
    keep = longest_kept(schema.settings)
    free = {name for name in seen if is_reserved(dimension, name) or (dimension == "key" and name in exempt)}
    members = sorted(seen, key=free.__contains__)
    return [
        dimension,
        schema.seen(org, dimension),
        now + keep,
        keep * 1000,
        schema.settings.member_limit(dimension),
        len(members) - len(free),
        members,
        [seen[name] for name in members],
        _RESERVED.get(dimension, _RESERVED_NAMES),
    ]


def _entries(some: Mapping[str, Increments], packed: Mapping[str, Mapping[str, int]], *, are_exact: bool) -> list[_Entry]:
    """What is added to each Redis key. `are_exact`: no amount is too great."""
    found = [
        _Entry(key, one.expire_at, (*one.sums, *one.greatest), (*one.sums.values(), *one.greatest.values()), len(one.sums) + 1)
        for key, one in some.items()
    ]
    for entry in () if are_exact else found:
        entry.amounts = tuple(map(_exact, entry.amounts))
    for entry in found if packed else ():
        if entry.key in packed:
            entry.packed = tuple(packed[entry.key].get(name, 0) for name in some[entry.key].sums)
    return found


def _are_exact(chunk: Chunk) -> bool:
    """Whether no number of a chunk, nor a sum of them, is too great."""
    of_one = max((max(one.calls, one.latency_us, one.sent, *one.counts) for one in chunk.cells.values()), default=0)
    return max(of_one * len(chunk.cells), chunk.dropped, *(one.last_ms for one in chunk.cells.values())) < _EXACT


def _exact(amount: int | str) -> int | str:
    return str(amount) if isinstance(amount, int) and amount >= _EXACT else amount
