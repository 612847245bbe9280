"""An application's own key store: what it must look like, and its failures under their own name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from usage_middleware.errors import ConfigurationError, KeyStoreError, UsageUnavailable
from usage_middleware.gil import elsewhere
from usage_middleware.store.keys import Directory, KeyInfo, KeyInfos, Owner, Resolved
from usage_middleware.store.members import key_member, org_member

#: The methods of `Directory`, and how each is called.
_CALLS: Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]] = {
    "list": (("acme",), {"after": ("Search", "key_7"), "limit": 10, "include_revoked": True}),
    "get": (("acme", "key_7"), {}),
    "get_many": (("acme", ["key_7"]), {}),
    "count": (("acme",), {}),
    "find": (("sk_1",), {}),
    "resolve": (([b""],), {}),
}


def require_directory(keys: Directory) -> Directory:
    """Returns `keys`.

    Raises:
        ConfigurationError: it lacks methods of `Directory`, or has one that is async or takes something else. Only `find` may
            be async: it is for `KeyAuth`, which can await it in ASGI.
    """
    lacking = [name for name in _CALLS if not callable(getattr(keys, name, None))]
    if lacking:
        raise ConfigurationError(f"keys: a key directory needs the methods {', '.join(_CALLS)}; missing: {', '.join(lacking)}")
    for name, (arguments, named) in _CALLS.items():
        method = getattr(keys, name)
        if name != "find" and is_async_method(method):
            raise ConfigurationError(
                f"keys: {name} must be a plain method: nobody would await an async one; only find may be one"
            )
        _require_signature(name, method, arguments, named)
    return keys


def is_async_method(method: object) -> bool:
    """True for an `async def`, or an object whose call is one."""
    return inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(getattr(method, "__call__", None))  # noqa: B004


def _require_signature(name: str, method: Callable[..., Any], arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # Written in C: it can't tell.
        return
    try:
        signature.bind(*arguments, **named)
    except TypeError as error:
        wanted = ", ".join([*(type(one).__name__ for one in arguments), *(f"{word}=" for word in named)])
        raise ConfigurationError(f"keys: {name} is called as {name}({wanted}), but takes {signature}: {error}") from None


@contextmanager
def _named(method: str, *, quoting: bool = True) -> Iterator[None]:
    """Raise what the key store raises under its name.

    Without `quoting` by its type alone, since its text may hold a secret; but `UsageUnavailable` says what it is meant to say.
    """
    try:
        with elsewhere():
            yield
    except KeyStoreError:
        raise
    except Exception as error:
        text = f": {error}" if (quoting or isinstance(error, UsageUnavailable)) and str(error) else ""
        raise KeyStoreError(f"key store failed: {method} raised {type(error).__name__}{text}") from (error if quoting else None)


def finding() -> AbstractContextManager[None]:
    """Around a call of a key store's `find`.

    Raises:
        KeyStoreError: it failed.
    """
    return _named("find", quoting=False)


class OwnKeys:
    """The same key store with failures named as its own, and answers that were checked.

    Every method raises `KeyStoreError` where the key store's own raises, or returns something else than it should.

    Args:
        keys: the application's key store.
        unknown: names credentials that nobody knows, as members.
    """

    def __init__(self, keys: Directory, unknown: Callable[[Collection[bytes]], Resolved]) -> None:
        self._keys = keys
        self._unknown = unknown

    def list(
        self, org: str, *, after: tuple[str, str] | None = None, limit: int | None = None, include_revoked: bool = False
    ) -> KeyInfos:
        """As `Directory.list`."""
        with _named("list"):
            return self._keys.list(org, after=after, limit=limit, include_revoked=include_revoked)

    def get(self, org: str, key_id: str) -> KeyInfo | None:
        """As `Directory.get`."""
        with _named("get"):
            return self._keys.get(org, key_id)

    def get_many(self, org: str, key_ids: Collection[str]) -> dict[str, KeyInfo]:
        """As `Directory.get_many`."""
        with _named("get_many"):
            found: object = self._keys.get_many(org, key_ids)
            if not isinstance(found, dict):
                raise TypeError(f"it must return a dict from id to KeyInfo, not {type(found).__name__}")
            return found

    def count(self, org: str) -> int:
        """As `Directory.count`."""
        with _named("count"):
            return self._keys.count(org)

    def resolve(self, digests: Collection[bytes]) -> Resolved:
        """As `KeyDirectory.resolve`: unknown credentials have names, too."""
        with _named("resolve"):
            answer: object = self._keys.resolve(digests)
            if not isinstance(answer, Mapping):
                raise TypeError(
                    f"it must return a dict from digest to (organisation, key id, True), not {type(answer).__name__}"
                )
            found = {digest: _owner(answer[digest]) for digest in digests if digest in answer}
        unknown = [digest for digest in digests if digest not in found or not found[digest].known]
        return {**found, **(self._unknown(unknown) if unknown else {})}


def _owner(answer: object) -> Owner:
    """What `resolve` said of one digest.

    Raises:
        TypeError: it is no tuple of organisation, key id, True, and perhaps when the key was revoked.
    """
    match answer:
        case (str(org), str(key), bool(known)):
            return Owner(org_member(org), key_member(key), known)
        case (str(org), str(key), bool(known), None | int() | float() as revoked_at):
            return Owner(org_member(org), key_member(key), known, revoked_at)
    raise TypeError(f"a digest's answer must be (organisation, key id, True, revoked_at or None), not {_kinds(answer)}")


def _kinds(answer: object) -> str:
    if not isinstance(answer, tuple | list):
        return type(answer).__name__
    return f"({', '.join(type(one).__name__ for one in answer)})"
