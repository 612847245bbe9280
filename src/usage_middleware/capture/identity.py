"""Who called: what an application says (`Caller`), what it is asked with (a small request), what the headers show."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, TypeAlias

from usage_middleware.credentials import HEADERS, credential_digest, shown
from usage_middleware.errors import ConfigurationError
from usage_middleware.events import CallerId
from usage_middleware.options import DEFAULT_ORG
from usage_middleware.store.schema import ANONYMOUS, key_member, org_member

Scope: TypeAlias = MutableMapping[str, Any]
Environ: TypeAlias = dict[str, Any]
#: The scope or the environ of a request.
Notes: TypeAlias = Scope

NOBODY: CallerId = (DEFAULT_ORG, ANONYMOUS)

_RAW_HEADERS = frozenset(name.encode() for name in HEADERS)
#: The values of `credentials.HEADERS` in a request.
Shown: TypeAlias = tuple[str | None, str | None, str | None]
#: Longer names are not worth remembering: nobody sends them twice, and they would fill the memory.
_REMEMBERED = 256

_org_member = lru_cache(maxsize=8192)(org_member)
_key_member = lru_cache(maxsize=8192)(key_member)


class Caller:
    """Who called: an organisation and the id of one of its keys, or the credential that was shown.

    Without `key` the call counts under `(anonymous)`, without `org` under `default`. A `credential` is hashed here and
    now and looked up in the key directory later, never during the request.

    Raises:
        ConfigurationError: if a credential comes together with `org` or `key`.
    """

    __slots__ = ("digest", "key", "org")

    def __init__(self, org: object = None, key: object = None, *, credential: str | None = None) -> None:
        if credential is not None and (org is not None or key is not None):
            raise ConfigurationError("Caller takes org and key where they are known, else credential; not both")
        self.org = org if org is None else str(org)
        self.key = key if key is None else str(key)
        self.digest = credential_digest(credential) if credential else None

    @property
    def member(self) -> CallerId:
        """Whom the call is counted for."""
        if self.digest is not None:
            return self.digest
        return _remembered(_org_member, org_member, self.org), _remembered(_key_member, key_member, self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Caller) and self.member == other.member

    def __hash__(self) -> int:
        return hash(self.member)

    def __repr__(self) -> str:
        return "Caller(credential=...)" if self.digest is not None else f"Caller(org={self.org!r}, key={self.key!r})"


def _remembered(cached: Callable[[str | None], str], plain: Callable[[str | None], str], name: str | None) -> str:
    return cached(name) if name is None or len(name) <= _REMEMBERED else plain(name)


def checked_caller(found: object) -> Caller:
    """What `identify` answered, if it is a caller.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(found, Caller):
        raise ConfigurationError(f"identify must answer a Caller or None, not {type(found).__name__}")
    return found


class Headers(Mapping[str, str]):
    """The headers of an ASGI scope by name in any case; of a repeated one the first value."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
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


class EnvironHeaders(Mapping[str, str]):
    """The headers of a WSGI environ by name in any case."""

    __slots__ = ("_environ",)

    def __init__(self, environ: Environ) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        key = name.upper().replace("-", "_")
        found: str = self._environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"]
        return found

    def __iter__(self) -> Iterator[str]:
        for key in self._environ:
            if key.startswith("HTTP_"):
                yield key[5:].replace("_", "-").lower()
            elif key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                yield key.replace("_", "-").lower()

    def __len__(self) -> int:
        return sum(1 for _ in self)


class State:
    """What the application left on its request's state (`request.state.user`), to be read by attribute."""

    __slots__ = ("_left",)

    def __init__(self, left: Any) -> None:
        self._left = left

    def __getattr__(self, name: str) -> Any:
        if isinstance(self._left, Mapping) and name in self._left:
            return self._left[name]
        return getattr(self._left, name)


class ScopeRequest:
    """What `identify` and `exclude` get of a request that came by ASGI."""

    __slots__ = ("method", "path", "scope")

    def __init__(self, scope: Scope, method: str, path: str) -> None:
        self.scope = scope
        self.method = method
        #: As the application sees it, without the prefix of its deployment.
        self.path = path

    @property
    def headers(self) -> Headers:
        """The request's headers by name in any case."""
        return Headers(self.scope["headers"])

    @property
    def state(self) -> State:
        """What the application left on `request.state`."""
        return State(self.scope.get("state", {}))


class EnvironRequest:
    """What `identify` and `exclude` get of a request that came by WSGI."""

    __slots__ = ("environ", "method", "path")

    def __init__(self, environ: Environ, method: str, path: str) -> None:
        self.environ = environ
        self.method = method
        #: As the application sees it, without the prefix of its deployment.
        self.path = path

    @property
    def headers(self) -> EnvironHeaders:
        """The request's headers by name in any case."""
        return EnvironHeaders(self.environ)

    @property
    def state(self) -> State:
        """What the application left in `environ["usage.state"]`: WSGI has no place of its own for it."""
        return State(self.environ.get("usage.state", {}))


Request: TypeAlias = ScopeRequest | EnvironRequest
#: What `Usage(identify=...)` takes. The awaitable is for ASGI alone.
Identify: TypeAlias = Callable[[Any], Caller | Awaitable[Caller | None] | None]


def shown_in_headers(headers: Iterable[tuple[bytes, bytes]]) -> CallerId:
    """The digest of the API key in the headers of an ASGI scope; nobody where there is none."""
    found: dict[bytes, str] | None = None
    for name, value in headers:
        if name in _RAW_HEADERS:
            if found is None:
                found = {name: value.decode("latin-1")}
            elif name not in found:
                found[name] = value.decode("latin-1")
    if found is None:
        return NOBODY
    get = found.get
    return shown_in_values((get(b"x-api-key"), get(b"apikey"), get(b"authorization")))


def values_in_environ(environ: Mapping[str, Any]) -> Shown:
    """What a WSGI environ has of the headers that may hold an API key, to be read later."""
    get = environ.get
    return get("HTTP_X_API_KEY"), get("HTTP_APIKEY"), get("HTTP_AUTHORIZATION")


def shown_in_values(values: Shown) -> CallerId:
    """The digest of the API key in the values of the headers that may hold one; nobody where there is none."""
    secret = shown(*values)
    return NOBODY if secret is None else credential_digest(secret)


def is_async(function: Callable[..., Any]) -> bool:
    """True for an `async def`, a partial of one, or an object whose call is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def is_preflight(scope: Scope) -> bool:
    """True for the question a browser asks before a request across origins."""
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names
