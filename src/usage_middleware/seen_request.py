"""The small request that `identify`, `exclude` and functions in `credentials` are called with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

from usage_middleware.headers import Headers, headers_of

Scope: TypeAlias = MutableMapping[str, Any]
Environ: TypeAlias = dict[str, Any]
#: The scope or the environ of a request.
Notes: TypeAlias = Scope


class EnvironHeaders(Mapping[str, str]):
    """The headers of a WSGI environ by name in any case."""

    __slots__ = ("_environ",)

    def __init__(self, environ: Environ) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        found: str = self._environ[environ_key(name)]
        return found

    def __iter__(self) -> Iterator[str]:
        for key in self._environ:
            if key.startswith("HTTP_"):
                yield key[5:].replace("_", "-").lower()
            elif key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                yield key.replace("_", "-").lower()

    def __len__(self) -> int:
        return sum(1 for _ in self)


def environ_key(header: str) -> str:
    """Where a WSGI environ has a header.

    >>> environ_key("X-API-Key"), environ_key("Content-Type")
    ('HTTP_X_API_KEY', 'CONTENT_TYPE')
    """
    key = header.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


class State:
    """What the application left on its request (`request.state.user`), as attributes."""

    __slots__ = ("_left",)

    def __init__(self, left: Any) -> None:
        self._left = left

    def __getattr__(self, name: str) -> Any:
        if isinstance(self._left, Mapping) and name in self._left:
            return self._left[name]
        return getattr(self._left, name)


class SeenRequest:
    """What `identify` and `exclude` are called with.

    Attributes:
        method: the HTTP method.
        path: as the application sees it, without the prefix of its deployment.
        headers: by name in any case.
        state: what the application left on its request.
    """

    __slots__ = ("method", "path")

    def __init__(self, method: str, path: str) -> None:
        self.method = method
        self.path = path


class ScopeRequest(SeenRequest):
    """A request that came by ASGI. Its state is `request.state`."""

    __slots__ = ("scope",)

    def __init__(self, scope: Scope, method: str, path: str) -> None:
        super().__init__(method, path)
        self.scope = scope

    @property
    def headers(self) -> Headers:
        """The headers by name in any case; of a repeated one the first value."""
        return Headers(headers_of(self.scope))

    @property
    def state(self) -> State:
        """What the application left on `request.state`."""
        return State(self.scope.get("state", {}))


class EnvironRequest(SeenRequest):
    """A request that came by WSGI. Its state is `environ["usage.state"]`: WSGI has no place of its own for it."""

    __slots__ = ("environ",)

    def __init__(self, environ: Environ, method: str, path: str) -> None:
        super().__init__(method, path)
        self.environ = environ

    @property
    def headers(self) -> EnvironHeaders:
        """The headers by name in any case."""
        return EnvironHeaders(self.environ)

    @property
    def state(self) -> State:
        """What the application left in `environ["usage.state"]`."""
        return State(self.environ.get("usage.state", {}))
