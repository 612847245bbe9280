"""The pepper: what keys the hash of credentials, so that nobody who reads Redis can try out guessed keys against it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Protocol

from usage_middleware.errors import ConfigurationError

#: How often a pepper that is kept in Redis is looked at again, in seconds: it may have been lost, or made anew by another.
CHECKED_EVERY = 60.0
_BYTES = 32


class Connected(Protocol):
    """What a pepper needs of an engine."""

    @property
    def client(self) -> Any:
        """The synchronous Redis client to write with."""

    @property
    def read_client(self) -> Any:
        """The synchronous Redis client to read with."""


class Pepper:
    """Hides digests of credentials. `given` by the user or in `$USAGE_PEPPER`, else 32 random bytes, kept once in Redis.

    Raises:
        ConfigurationError: an empty one was given.
    """

    def __init__(self, engine: Connected, redis_key: str, given: bytes | str | None, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._redis_key = redis_key
        self._clock = clock
        self._given = _checked(given)
        self._known: bytes | None = None
        self._checked_at = float("-inf")

    def hide(self, digest: bytes) -> str:
        """The name under which a credential stands in Redis: 64 hex digits. Asks Redis once a minute at most."""
        return blake2b(digest, key=self._given or self._kept(), digest_size=32).hexdigest()

    def _kept(self) -> bytes:
        now = self._clock()
        if self._known is None or not 0 <= now - self._checked_at < CHECKED_EVERY:
            self._known = self._schema_fits()
            self._checked_at = now
        return self._known

    def _schema_fits(self) -> bytes:
        """The one in Redis. Where there is none: ours, unless another process is quicker."""
        found: bytes | None = self._engine.read_client.get(self._redis_key)
        if found is None:
            self._engine.client.set(self._redis_key, self._known or secrets.token_bytes(_BYTES), nx=True)
            found = self._engine.client.get(self._redis_key)
        return _as_key(found or b"")


def _checked(given: bytes | str | None) -> bytes | None:
    if given is None:
        given = os.environ.get("USAGE_PEPPER") or None
    if given is None:
        return None
    if not given or not isinstance(given, bytes | str):
        raise ConfigurationError("pepper must be bytes or text, and not empty; 32 random bytes are best")
    return _as_key(given if isinstance(given, bytes) else given.encode("utf-8", "surrogatepass"))


def _as_key(pepper: bytes) -> bytes:
    # BLAKE2b takes a key of 1 to 64 bytes.
    return pepper if 0 < len(pepper) <= 64 else blake2b(pepper).digest()
