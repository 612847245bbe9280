"""The caps on members, as the sender sees them: who was refused a moment ago is `(other)` without asking again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from usage_middleware.store.chunk import Chunk
from usage_middleware.store.rollup import dimensions_of, substitute
from usage_middleware.store.schema import Schema

#: For so long a member that the cap refused is not asked about again.
REFUSED_SECONDS = 60.0
MOST_REFUSED = 10_000

#: (organisation, ids) -> those that are keys of the directory.
KnownKeys = Callable[[str, Collection[str]], Collection[str]]


def nobody(org: str, ids: Collection[str]) -> Collection[str]:
    """A directory that knows no key."""
    return ()


class OverflowCache:
    """Members that the cap refused within the last minute. Bounded: past it, Redis is asked once more."""

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
        """The chunk with what was refused as `(other)`; the same one if nothing was."""
        if not self._until:
            return chunk
        refused = {dimension: self.of(chunk.org, dimension, names) for dimension, names in _members(schema, chunk).items()}
        if "key" in refused:
            refused["key"].difference_update(exempt)
        return substitute(schema, chunk, refused)


def _members(schema: Schema, chunk: Chunk) -> Mapping[str, set[str]]:
    endpoint, who, *declared = dimensions_of(schema, chunk.org)
    names = {endpoint: {row.endpoint for row in chunk.rows}}
    names[who] = {row.org if who == "org" else row.key for row in chunk.rows}
    for place, dimension in enumerate(declared):
        names[dimension] = {row.tags[place] for row in chunk.rows}
    return names
