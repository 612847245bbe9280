"""API keys in the headers of a request, and the digest that replaces a key at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, TypeAlias

#: The headers that may hold a key, in this order; `authorization` only with the scheme Bearer.
HEADERS = ("x-api-key", "apikey", "authorization")

#: The headers of an ASGI scope, names in lower case.
RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]
#: The values of `HEADERS` in a request.
HeaderValues: TypeAlias = tuple[str | None, str | None, str | None]

_RAW_HEADERS = frozenset(name.encode() for name in HEADERS)


def credential_digest(secret: str) -> bytes:
    """BLAKE2b-256 of a secret, without a key: 32 bytes. Before it is stored it is hashed again, with the pepper.

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
    return from_values((get("x-api-key"), get("apikey"), get("authorization")))


def from_raw_headers(headers: RawHeaders) -> str | None:
    """As `from_headers`, from the headers of an ASGI scope."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name in _RAW_HEADERS and name not in found:
            found[name] = value.decode("latin-1")
    get = found.get
    return from_values((get(b"x-api-key"), get(b"apikey"), get(b"authorization"))) if found else None


def from_values(values: HeaderValues) -> str | None:
    """As `from_headers`, from the values of `HEADERS`."""
    x_api_key, apikey, authorization = values
    key = (x_api_key and x_api_key.strip()) or (apikey and apikey.strip())
    if key:
        return key
    scheme, _, token = (authorization or "").strip().partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


def values_in_environ(environ: Mapping[str, Any]) -> HeaderValues:
    """The values of `HEADERS` in a WSGI environ."""
    get = environ.get
    return get("HTTP_X_API_KEY"), get("HTTP_APIKEY"), get("HTTP_AUTHORIZATION")
