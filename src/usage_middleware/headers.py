"""The headers of an ASGI scope: by name, and read by us without being lost for the application."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

#: The headers of an ASGI scope, names in lower case.
RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]


class Headers(Mapping[str, str]):
    """The headers of an ASGI scope by name in any case; of a repeated one the first value."""

    __slots__ = ("_raw",)

    def __init__(self, raw: RawHeaders) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode("latin-1", "replace")
        for key, value in self._raw:
            if key.lower() == wanted:
                return value.decode("latin-1")
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1").lower() for name, _ in self._raw))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class RereadHeaders(Iterator[tuple[bytes, bytes]]):
    """Headers that can be read once, as the application reads them. What it has read can be read again by us.

    The specification asks for any iterable. All servers that we know give a list, which is left as it is.
    """

    __slots__ = ("_left", "_read")

    def __init__(self, headers: Iterator[tuple[bytes, bytes]]) -> None:
        self._left = headers
        self._read: list[tuple[bytes, bytes]] = []

    @classmethod
    def replace_in(cls, scope: MutableMapping[str, Any]) -> None:
        """Put them into a scope whose headers can be read once. Nothing is read."""
        headers = scope.get("headers")
        if isinstance(headers, Iterator) and not isinstance(headers, cls):
            scope["headers"] = cls(headers)

    def __next__(self) -> tuple[bytes, bytes]:
        header = next(self._left)
        self._read.append(header)
        return header

    def all(self) -> list[tuple[bytes, bytes]]:
        """All of them: those that were read, and those that are left."""
        self._read.extend(self._left)
        return self._read


def headers_of(scope: Mapping[str, Any]) -> RawHeaders:
    """The headers of a scope, once the application has run.

    Raises:
        Exception: whatever reading them raises; TypeError if they are no iterable.
    """
    headers: RawHeaders = scope.get("headers", ())
    if type(headers) is list:
        return headers
    if type(headers) is RereadHeaders:
        return headers.all()
    iter(headers)
    return headers


def is_preflight(headers: RawHeaders, showing: Collection[str]) -> bool:
    """True for the request that a browser sends before one to another origin: it never shows who asks.

    Args:
        headers: those of a request with the method OPTIONS.
        showing: the names of headers that show who asks, in lower case.
    """
    names = {name.decode("latin-1") for name, _ in headers}
    return "origin" in names and "access-control-request-method" in names and names.isdisjoint(showing)
