"""API keys in requests: the headers that hold one, and the digest that takes its place at once."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

#: The headers that may hold a key, in this order; `authorization` only with the scheme Bearer.
HEADERS = ("x-api-key", "apikey", "authorization")


def credential_digest(secret: str) -> bytes:
    """BLAKE2b-256 of a secret, without a key: 32 bytes. It is hashed again, with the pepper, before it is stored.

    >>> len(credential_digest("sk_live_1")), credential_digest("a") == credential_digest("b")
    (32, False)
    """
    raw = secret.encode() if secret.isascii() else secret.encode("utf-8", "surrogatepass")
    return blake2b(raw, digest_size=32).digest()


def from_headers(get: Callable[[str], str | None]) -> str | None:
    """The API key of a request, from `x-api-key`, `apikey` or `Authorization: Bearer`; None if there is none.

    `get` returns the value of a header by its name in lower case.

    >>> from_headers({"authorization": "bearer sk_1"}.get), from_headers({"authorization": "Basic dTpw"}.get)
    ('sk_1', None)
    """
    return shown(*map(get, HEADERS))


def shown(x_api_key: str | None, apikey: str | None, authorization: str | None) -> str | None:
    """As `from_headers`, of the values of `HEADERS`."""
    key = (x_api_key and x_api_key.strip()) or (apikey and apikey.strip())
    if key:
        return key
    scheme, _, token = (authorization or "").strip().partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None
