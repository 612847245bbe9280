"""The pepper: the key of the hash of credentials. Without it, somebody who can read Redis can't check guesses of API keys."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from hashlib import blake2b

from usage_middleware.errors import ConfigurationError
from usage_middleware.store.engine import Engine

#: How often a pepper in Redis is read again, in seconds: Redis may have lost it, and another process made a new one.
READ_EVERY = 60.0
_BYTES = 32


class Pepper:
    """Hashes credentials. The key of the hash is `given`, else `$USAGE_PEPPER`, else 32 random bytes that are kept in Redis.

    Raises:
        ConfigurationError: an empty one was given.
    """

    def __init__(self, engine: Engine, redis_key: str, given: bytes | str | None, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._redis_key = redis_key
        self._clock = clock
        self._given = _given_pepper(given)
        self._known: bytes | None = None
        self._read_at = float("-inf")

    def hide(self, digest: bytes) -> str:
        """The peppered hash of a digest, under which Redis holds a credential: 64 hex digits. Reads Redis once a minute."""
        return blake2b(digest, key=self._given or self._from_redis(), digest_size=32).hexdigest()

    def _from_redis(self) -> bytes:
        now = self._clock()
        if self._known is None or not 0 <= now - self._read_at < READ_EVERY:
            self._known = self._load_or_create()
            self._read_at = now
        return self._known

    def _load_or_create(self) -> bytes:
        found: bytes | None = self._engine.read_client.get(self._redis_key)
        if found is None:
            # Another process may be quicker: then its pepper counts.
            self._engine.client.set(self._redis_key, self._known or secrets.token_bytes(_BYTES), nx=True)
            found = self._engine.client.get(self._redis_key)
        return _as_key(found or b"")


def _given_pepper(given: bytes | str | None) -> bytes | None:
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
