"""The pepper: the key of the hash under which Redis holds the secrets of API keys.

With a pepper that is kept elsewhere, somebody who can read Redis can't test guesses of secrets. With one that is in Redis, they
can: secrets that are short or that people chose are found so, random ones of 128 bits are not. The same holds for somebody who
has the pepper too, and for files of the spool, which hold hashes without a pepper.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from usage_middleware.errors import ConfigurationError
from usage_middleware.store.engine import Engine

#: One pepper, or several, the newest first; None in a list: the one in Redis.
PepperOption: TypeAlias = "bytes | str | Sequence[bytes | str | None] | None"

#: How often a pepper in Redis is read again, in seconds: Redis may have lost it, and another process made a new one.
READ_EVERY = 60.0
_BYTES = 32


class PepperStatus(NamedTuple):
    """What `/health` says of the pepper.

    Attributes:
        is_used_from_redis: whether secrets are hashed with one that is kept in Redis.
        is_in_redis: whether there is one in Redis.
        left: how many secrets are not known to be hashed with the newest one; None unless it is being rotated.
    """

    is_used_from_redis: bool
    is_in_redis: bool
    left: int | None = None


class Pepper:
    """Hashes credentials. The key of the hash is `given`, else `$USAGE_PEPPER`, else 32 random bytes that are kept in Redis.

    Attributes:
        is_rotating: whether several were given, to go over from the older ones to the first.
        is_in_redis: whether the first one is kept in Redis.

    Raises:
        ConfigurationError: an empty one was given, or the same one twice.
    """

    def __init__(self, engine: Engine, redis_key: str, given: PepperOption, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._redis_key = redis_key
        self._clock = clock
        self._given = _given_peppers(given)
        self.is_rotating = len(self._given) > 1
        self.is_in_redis = self._given[0] is None
        self._known: bytes | None = None
        self._read_at = float("-inf")

    def hide(self, digest: bytes) -> str:
        """The hash of a digest with the newest pepper, 64 hex digits. Reads a pepper in Redis once a minute."""
        return self._hashed(digest, self._given[0])

    def all(self, digest: bytes) -> tuple[str, ...]:
        """The hashes under which Redis may hold a credential, that with the newest pepper first."""
        return tuple(self._hashed(digest, pepper) for pepper in self._given)

    def oldest(self, digest: bytes) -> str:
        """The hash with the oldest pepper. It names credentials that nobody knows, so that their names stay."""
        return self._hashed(digest, self._given[-1])

    @property
    def mark(self) -> str:
        """What tells the newest pepper from others, and says nothing of it: 8 hex digits."""
        return self._hashed(b"usage-middleware", self._given[0])[:8]

    def _hashed(self, digest: bytes, pepper: bytes | None) -> str:
        return blake2b(digest, key=pepper or self._from_redis(), digest_size=32).hexdigest()

    def _from_redis(self) -> bytes:
        now = self._clock()
        if self._known is None or not 0 <= now - self._read_at < READ_EVERY:
            self._known = self._load_or_create()
            self._read_at = now
        return self._known

    def _load_or_create(self) -> bytes:
        found = self._load()
        if found is None:
            # Another process may be quicker: then its pepper counts.
            self._engine.client.set(self._redis_key, self._known or secrets.token_bytes(_BYTES), nx=True)
            found = self._engine.client.get(self._redis_key)
        return _as_key(found or b"")

    def _load(self) -> bytes | None:
        try:
            found: bytes | None = self._engine.read_client.get(self._redis_key)
        except Exception as error:
            self._engine.damage.explains(error, self._redis_key)
            raise
        return found


def _given_peppers(given: PepperOption) -> tuple[bytes | None, ...]:
    if given is None:
        given = os.environ.get("USAGE_PEPPER") or None
    many = [given] if given is None or isinstance(given, bytes | str) else list(given)
    found = tuple(None if one is None else _given_pepper(one) for one in many)
    if not found or len(set(found)) < len(found):
        raise ConfigurationError("pepper takes one, or several different ones, the newest first: pepper=(new, old)")
    return found


def _given_pepper(given: object) -> bytes:
    if not given or not isinstance(given, bytes | str):
        raise ConfigurationError("pepper must be bytes or text, and not empty; 32 random bytes are best")
    return _as_key(given if isinstance(given, bytes) else given.encode("utf-8", "surrogatepass"))


def _as_key(pepper: bytes) -> bytes:
    # BLAKE2b takes a key of 1 to 64 bytes.
    return pepper if 0 < len(pepper) <= 64 else blake2b(pepper).digest()
