"""Remembers which months have something packed, so that a batch of reads asks for what is there, in one trip."""

from __future__ import annotations

from usage_middleware.store.history.month import Head

#: So many months are remembered.
MOST = 20_000
_UNKNOWN = Head(0, 0, together=False)


class KnownMonths:
    """How months were when they were last read, by their Redis keys. Whoever goes by it has to look whether it is still so."""

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}

    def head(self, key: str) -> Head:
        """How a month was; as one that is not there, if that is not known."""
        return self._heads.get(key, _UNKNOWN)

    def keep(self, key: str, head: Head) -> None:
        """Remember how a month is."""
        if len(self._heads) >= MOST:
            self._heads = {}
        self._heads[key] = head
