"""Members over the cap: what Redis refused a moment ago is counted as `(other)` without asking again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from usage_middleware.events import CallKey, Cells, add_totals
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.members import OPERATOR, other_member
from usage_middleware.store.rollup import dimensions_of, members_of
from usage_middleware.store.schema import Schema

#: For this long a refused member is not sent again.
REFUSED_SECONDS = 60.0
MOST_REFUSED = 10_000

#: Given an organisation and key ids, those ids that are keys of the directory. May raise anything.
FindKnownKeys = Callable[[str, Collection[str]], Collection[str]]


def find_none(org: str, ids: Collection[str]) -> Collection[str]:
    """Finds nothing, for a recorder without a directory."""
    return ()


class OverflowCache:
    """Members that Redis refused within the last minute, up to a bound. When it is full, Redis is asked again."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until: dict[tuple[str, str, str], float] = {}

    def remember(self, org: str, dimension: str, names: Collection[str]) -> None:
        """These were refused now."""
        now = self._monotonic()
        if len(self._until) + len(names) > MOST_REFUSED:
            self._until = {key: until for key, until in self._until.items() if until > now}
        if len(self._until) + len(names) > MOST_REFUSED:
            self._until = {}
        for name in names:
            self._until[org, dimension, name] = now + REFUSED_SECONDS

    def of(self, org: str, dimension: str, names: Collection[str]) -> set[str]:
        """Which of these were refused within the last minute."""
        now = self._monotonic()
        return {name for name in names if self._until.get((org, dimension, name), 0.0) > now}

    def apply(self, schema: Schema, chunk: Chunk, exempt: Collection[str]) -> Chunk:
        """The chunk with refused members counted as `(other)`; the same object if there are none."""
        if not self._until:
            return chunk
        refused = {dimension: self.of(chunk.org, dimension, names) for dimension, names in _members(schema, chunk).items()}
        if "key" in refused:
            refused["key"].difference_update(exempt)
        return substitute(schema, chunk, refused)


def substitute(schema: Schema, chunk: Chunk, refused: Mapping[str, Collection[str]]) -> Chunk:
    """The same chunk with its refused members counted as `(other)`; `refused` is by dimension."""
    if not any(refused.values()):
        return chunk
    dimensions = dimensions_of(schema, chunk.org)
    cells: Cells = {}
    for key, totals in chunk.cells.items():
        add_totals(cells, _substituted(key, chunk.org, dimensions, refused), totals.copy())
    return chunk._replace(cells=cells)


def _substituted(key: CallKey, org: str, dimensions: tuple[str, ...], refused: Mapping[str, Collection[str]]) -> CallKey:
    endpoint, who, *tags = (
        other_member(dimension, member) if member in refused.get(dimension, ()) else member
        for dimension, member in zip(dimensions, members_of(key, org), strict=True)
    )
    own_org, own_key = key.owner
    caller = (who, own_key) if org == OPERATOR else (own_org, who)
    return CallKey(key.minute, caller, endpoint, tuple(tags), key.status)


def _members(schema: Schema, chunk: Chunk) -> Mapping[str, set[str]]:
    names: dict[str, set[str]] = {dimension: set() for dimension in dimensions_of(schema, chunk.org)}
    for key in chunk.cells:
        for found, member in zip(names.values(), members_of(key, chunk.org), strict=True):
            found.add(member)
    return names
