"""Search in a list: the rows one of whose names contains a text, whatever its case."""

from __future__ import annotations

from typing import NamedTuple


class Search(NamedTuple):
    """What is searched for; an empty text finds everything. It is plain text: no character means anything else."""

    text: str

    @classmethod
    def of(cls, asked: str | None) -> Search:
        """The search that a parameter asks for."""
        return cls((asked or "").casefold())

    def finds(self, *names: str) -> bool:
        """Whether one of a row's names contains the text.

        >>> Search.of("store").finds("key_7", "Storefront"), Search.of(".*").finds("Storefront")
        (True, False)
        """
        return not self.text or any(self.text in name.casefold() for name in names)
