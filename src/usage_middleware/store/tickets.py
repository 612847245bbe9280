"""What a browser shows in place of an API key. Redis holds it under its hash: nobody who reads Redis can show one."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from usage_middleware.store.schema import Schema

#: A `session` belongs to a cookie, an `embed` ticket to a page inside of another site's page.
Kind = Literal["session", "embed"]
#: 256 bits, as base64url.
_TOKEN_BYTES = 32
#: Nothing longer is looked for.
_MOST = 100


class Ticket(msgspec.Struct, frozen=True):
    """Whom a token stands for.

    Attributes:
        org: the organisation, as the application calls it.
        key: the id of the API key that signed in, or the only one that is seen; None: no key.
        mount: the name of the only usage app that takes it.
        origin: the page around it; None of a session.
    """

    org: str
    key: str | None
    mount: str
    origin: str | None = None


_decode = msgspec.json.Decoder(Ticket).decode


class Tickets:
    """The tickets in Redis. Each dies by itself. `client` gives the Redis client of this process.

    Every method raises `redis_errors()` where Redis does not answer.
    """

    def __init__(self, client: Callable[[], Any], schema: Schema) -> None:
        self._client = client
        self._schema = schema

    def issue(self, kind: Kind, ticket: Ticket, seconds: int) -> str:
        """A new token, which is good for so many seconds."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._client().set(self._key(kind, token), msgspec.json.encode(ticket), ex=seconds)
        return token

    def find(self, kind: Kind, token: str, mount: str) -> Ticket | None:
        """The ticket of a token; None if there is none, it is over, another mount's, or damaged."""
        raw = self._client().get(self._key(kind, token)) if 0 < len(token) <= _MOST else None
        try:
            found = None if raw is None else _decode(raw)
        except msgspec.DecodeError:
            return None
        return found if found is not None and found.mount == mount else None

    def end(self, kind: Kind, token: str) -> None:
        """Make a token worthless."""
        if 0 < len(token) <= _MOST:
            self._client().delete(self._key(kind, token))

    def _key(self, kind: Kind, token: str) -> str:
        digest = blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
        return self._schema.ticket(kind, digest)
