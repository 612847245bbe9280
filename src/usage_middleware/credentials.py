"""What a request shows of its caller: where an API key stands in the headers, and the digest that replaces it at once."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

#: Where a key is looked for, in this order. `authorization` counts with the scheme Bearer only.
HEADERS = ("x-api-key", "apikey", "authorization")


def credential_digest(secret: str) -> bytes:
    """BLAKE2b-256 of a secret, without a key: 32 bytes. What is stored of it is hashed again, with the pepper.

    >>> len(credential_digest("sk_live_1")), credential_digest("a") == credential_digest("b")
    (32, False)
    """
    raw = secret.encode() if secret.isascii() else secret.encode("utf-8", "surrogatepass")
    return blake2b(raw, digest_size=32).digest()


def from_headers(get: Callable[[str], str | None]) -> str | None:
    """The API key of a request, from `x-api-key`, `apikey` or `Authorization: Bearer`; None where there is none.

    `get` answers a header's value by its name in lower case.

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
