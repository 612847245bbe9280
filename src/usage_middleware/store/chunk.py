"""The numbered chunks in which counted calls go to Redis, and how calls are cut into them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from usage_middleware.events import CallKey, CallTotals, Cells, calls_in
from usage_middleware.gil import rest, yielding
from usage_middleware.periods import DAY

#: How much a chunk costs Redis at most, in increments: some 5 ms.
CHUNK_WORK = 6_500
#: A new Redis key costs as much as this many increments in a key that exists.
KEY_WORK = 10
#: About how many keys are sorted at once.
KEYS_SORTED = 250
#: Increments, Redis keys, and a name for what they are in.
_Part: TypeAlias = tuple[int, int, *tuple[int | str, ...]]


class Chunk(NamedTuple):
    """Calls of one organisation under one number: counted all together and once, however often they are sent.

    Attributes:
        org: whose tree they are written to; `*` for the operator's.
        number: 1, 2, 3, ... for each worker and organisation.
        cells: the calls. Never empty, unless `dropped` is not 0.
        dropped: calls that were finished but will never be counted.
        sealed_at: when it got its number, seconds since the epoch.
        corrects: these are changes of what was counted. They may be below 0, and have no latency bins.
    """

    org: str
    number: int
    cells: Cells
    dropped: int = 0
    sealed_at: int = 0
    corrects: bool = False

    @property
    def calls(self) -> int:
        """How many calls it counts."""
        return calls_in(self.cells)

    @property
    def minutes(self) -> set[int]:
        """The minutes of its calls."""
        return {key.minute for key in self.cells}

    def emptied(self) -> Chunk:
        """The same number, its calls counted as dropped."""
        return self._replace(cells={}, dropped=self.dropped + self.calls)


def cut(cells: Cells, counters: int, work: int | None = None) -> Iterator[Cells]:
    """The calls of each chunk. All calls of a key are in one chunk, with everything they add to.

    Args:
        cells: the calls.
        counters: how many counters are declared.
        work: how much a chunk costs Redis at most, in increments; None: `CHUNK_WORK`.
    """
    part: Cells = {}
    most = CHUNK_WORK if work is None else work
    cost = RollupCost(counters)
    for key in _in_order(cells):
        rest()
        part[key] = cells[key]
        cost.add(key, cells[key])
        if cost.increments + KEY_WORK * cost.redis_keys >= most:
            yield part
            part, cost = {}, RollupCost(counters)
    if part:
        yield part


def _in_order(cells: Cells) -> Iterator[CallKey]:
    """The keys, sorted so that calls which go into the same Redis keys stand together."""
    # Sorted in parts: sorting all at once would hold up every request until it is done.
    parts: list[list[CallKey]] = [[] for _ in range(len(cells) // KEYS_SORTED + 1)]
    for key in yielding(cells):
        parts[hash((key.minute, key.owner[1])) % len(parts)].append(key)
    for part in parts:
        rest()
        yield from sorted(part, key=_by_place)


def _by_place(key: CallKey) -> tuple[int, str, str]:
    return key.minute, key.owner[1], key.endpoint


class RollupCost:
    """Adds up what calls cost Redis when they are sent together.

    Attributes:
        increments: of fields and members, never less than there are.
        redis_keys: the Redis keys that these are in, if dimensions are not sharded.
    """

    def __init__(self, counters: int) -> None:
        self._counters = counters
        #: Hashes of parts: the parts themselves would be work for the garbage collector.
        self._known: set[int] = set()
        self.increments = self.redis_keys = 0

    def add(self, key: CallKey, totals: CallTotals) -> None:
        """Count the calls of one more key."""
        for part in self._parts(key, totals.bins):
            mark = hash(part)
            if mark not in self._known:
                self._known.add(mark)
                self.increments += 3 * part[0]
                self.redis_keys += 3 * part[1]

    def _parts(self, key: CallKey, bins: Iterable[int]) -> list[_Part]:
        """What these calls touch at each resolution, if they are the first to do so."""
        org, own_key = key.owner
        minute, endpoint, status, who = key.minute, key.endpoint, key.status, own_key or org
        series, dimensions = 4 + self._counters, 2 + len(key.tags)
        parts: list[_Part] = [
            (series, 2 + 2 * dimensions, minute),
            (series + 2, 2, minute, "e", endpoint),
            (series + 2, 2, minute, "k", who),
            (1, dimensions, minute, "s", status),
            (2, 0, minute, "es", endpoint, status),
            (2, 0, minute, "ks", who, status),
            (2, 0, minute, "ke", who, endpoint),
            (1, 0, minute, "kes", who, endpoint, status),
            # Days that are to be packed are marked.
            (1, 1, minute - minute % DAY, "d"),
        ]
        for place, tag in enumerate(key.tags):
            parts += [(2, 0, minute, "t", place, tag), (1, 0, minute, "ts", place, tag, status)]
            parts += [(2, 0, minute, "kt", who, place, tag), (1, 0, minute, "kts", who, place, tag, status)]
        for number in bins:
            parts += [(1, 0, minute, "b", number), (1, 0, minute, "eb", endpoint, number), (1, 0, minute, "kb", who, number)]
        return parts
