"""A key directory that is not ours: what is asked of it, and what its answers mean."""

from __future__ import annotations

from collections.abc import Collection

from usage_middleware.errors import ConfigurationError
from usage_middleware.store.keys import Directory, KeyDirectory, Resolved
from usage_middleware.store.schema import key_member, org_member

_METHODS = ("list", "get", "get_many", "count", "find", "resolve")


def checked(keys: Directory) -> Directory:
    """The directory.

    Raises:
        ConfigurationError: it has not all the methods of `Directory`.
    """
    lacking = [name for name in _METHODS if not callable(getattr(keys, name, None))]
    if lacking:
        raise ConfigurationError(
            f"keys: a key directory needs the methods {', '.join(_METHODS)}; missing: {', '.join(lacking)}"
        )
    return keys


def resolved(keys: Directory, digests: Collection[bytes]) -> Resolved:
    """Whose credentials these are, as members: ours answers so, any other by the names that its application uses."""
    found = keys.resolve(digests)
    if isinstance(keys, KeyDirectory):
        return found
    return {digest: (org_member(org), key_member(key), known) for digest, (org, key, known) in found.items()}
