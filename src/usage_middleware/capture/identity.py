"""Who called, as an application says it: `Caller`, and what `Usage(identify=...)` takes and returns."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeAlias

from usage_middleware.credentials import credential_digest
from usage_middleware.errors import ConfigurationError
from usage_middleware.events import CallerId
from usage_middleware.store.members import key_member, org_member

#: Longer names are not cached: hardly anybody sends one twice, and they would fill the memory.
_MAX_CACHED = 256

_cached_org_member = lru_cache(maxsize=8192)(org_member)
_cached_key_member = lru_cache(maxsize=8192)(key_member)


class Caller:
    """Who called: an organisation and the id of one of its keys, or the credential that the request carries.

    Without `key` the call counts under `(anonymous)`, without `org` under `default`. A `credential` is hashed at once, and
    looked up in the key directory later, never during the request.

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
        org, key = self.org, self.key
        return (
            _cached_org_member(org) if org is None or len(org) <= _MAX_CACHED else org_member(org),
            _cached_key_member(key) if key is None or len(key) <= _MAX_CACHED else key_member(key),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Caller) and self.member == other.member

    def __hash__(self) -> int:
        return hash(self.member)

    def __repr__(self) -> str:
        return "Caller(credential=...)" if self.digest is not None else f"Caller(org={self.org!r}, key={self.key!r})"


#: The caller where nothing is known.
NOBODY = Caller()


def require_caller(found: object) -> Caller:
    """The caller that `identify` returned.

    Raises:
        ConfigurationError: if it returned something else.
    """
    if not isinstance(found, Caller):
        raise ConfigurationError(f"identify must return a Caller or None, not {type(found).__name__}")
    return found


#: What `Usage(identify=...)` takes. The awaitable is for ASGI alone.
Identify: TypeAlias = Callable[[Any], Caller | Awaitable[Caller | None] | None]


def is_async(function: Callable[..., Any]) -> bool:
    """True for an `async def`, a partial of one, or an object whose call is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
