"""Where requests show their API keys, and the digest that replaces a key at once."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote_plus

from usage_middleware.errors import ConfigurationError
from usage_middleware.headers import RawHeaders
from usage_middleware.options import check_plain_function
from usage_middleware.seen_request import SeenRequest, environ_key

#: A word for where a key is, or a function of the small request.
Place: TypeAlias = str | Callable[[Any], str | None]
#: What a request has in one place: nothing, a text, or the first and the last of several headers of one name.
Value: TypeAlias = str | tuple[str, str] | None
Values: TypeAlias = tuple[Value, ...]

#: Where keys are looked for unless `Usage(credentials=...)` says so. The first is the most important.
DEFAULT_PLACES = ("x-api-key", "apikey", "bearer")
#: The headers of the default places.
HEADERS = ("x-api-key", "apikey", "authorization")
#: So many places there may be. A request is read in all of them.
MOST_PLACES = 8
DIGEST_BYTES = 32

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_QUERY = "query:"


def credential_digest(secret: str) -> bytes:
    """BLAKE2b-256 of a secret, without a key: 32 bytes. Before it is stored it is hashed again, with the pepper.

    >>> len(credential_digest("sk_live_1")), credential_digest("a") == credential_digest("b")
    (32, False)
    """
    raw = secret.encode() if secret.isascii() else secret.encode("utf-8", "surrogatepass")
    return blake2b(raw, digest_size=DIGEST_BYTES).digest()


def digests_in(caller: bytes) -> Sequence[bytes]:
    """The digests of the credentials that one request showed, which are kept in one piece."""
    if len(caller) == DIGEST_BYTES:
        return (caller,)
    return [caller[begin : begin + DIGEST_BYTES] for begin in range(0, len(caller), DIGEST_BYTES)]


class _Reader(NamedTuple):
    """How a place's value becomes a key; `order` is the place's, from 0 for the most important."""

    order: int
    read: Callable[[str], str | None]


class Credentials:
    """The places where requests show their API keys, in their order.

    A place is `bearer` (`Authorization: Bearer KEY`), `basic-user` (the user name of `Authorization: Basic`), `query:NAME` (a
    parameter of the query), the name of a header, or a function that gets the small request and returns a key or None.

    Args:
        places: one to eight of them; None: `x-api-key`, `apikey` and `bearer`.

    Attributes:
        headers: the names of the headers that it reads, in lower case.
        only_headers: False if requests have to be asked for more than their headers.

    Raises:
        ConfigurationError: a place is none of these, or stands twice.
    """

    def __init__(self, places: Iterable[Place] | None = None) -> None:
        headers: dict[str, list[_Reader]] = {}
        self._queried: list[list[_Reader]] = []
        self._functions: list[tuple[int, Callable[[Any], str | None]]] = []
        self._parameters: set[str] = set()
        for order, place in enumerate(_checked(places)):
            if callable(place):
                self._functions.append((order, place))
            elif place.startswith(_QUERY):
                name = place.removeprefix(_QUERY)
                self._parameters.add(name)
                self._queried.append([_Reader(order, partial(_parameter, name, last)) for last in (False, True)])
            else:
                header, read = _WORDS.get(place, (place, _stripped))
                headers.setdefault(header, []).append(_Reader(order, read))
        self.headers = tuple(headers)
        self._by_name = {name.encode(): readers for name, readers in headers.items()}
        self._names = tuple(self._by_name)
        self._keys = tuple(environ_key(name) for name in headers)
        #: The readers of each of the values of `in_scope` and `in_environ`.
        functions = [[_Reader(order, _stripped)] for order, _ in self._functions]
        self._readers = [*headers.values(), *self._queried, *functions]
        self.only_headers = not (self._queried or self._functions)

    def in_headers(self, headers: RawHeaders) -> Sequence[str]:
        """The keys in the headers of an ASGI scope, each once, in the order of their places."""
        wanted = self._by_name
        found = [(name, value) for name, value in headers if name in wanted]
        if len(found) == 1:
            ((name, value),) = found
            return _of_one(value.decode("latin-1"), wanted[name])
        return self.in_values(self._header_values(found)) if found else ()

    def in_values(self, values: Values) -> Sequence[str]:
        """The keys in the values of `in_scope` or `in_environ`, each once, in the order of their places."""
        found = [(value, readers) for value, readers in zip(values, self._readers, strict=True) if value]
        if len(found) == 1:
            ((value, readers),) = found
            if isinstance(value, str):
                return _of_one(value, readers)
        return _in_order(
            [
                (order, read(text))
                for value, readers in found
                for text in ((value,) if isinstance(value, str) else value)
                for order, read in readers
            ]
        )

    def in_environ(
        self, environ: Mapping[str, Any], request: Callable[[], SeenRequest], failed: Callable[[], object]
    ) -> Values:
        """What a WSGI environ has in each place. `failed` is called where a function raised, with its exception at hand."""
        get = environ.get
        values = tuple([get(key) for key in self._keys])
        if self.only_headers:
            return values
        return (*values, *self._others(get("QUERY_STRING", ""), request, failed))

    def in_scope(
        self,
        scope: Mapping[str, Any],
        headers: RawHeaders,
        request: Callable[[], SeenRequest],
        failed: Callable[[], object],
    ) -> Values:
        """What an ASGI scope with these headers has in each place. `failed` is called as by `in_environ`."""
        values = self._header_values(headers)
        query: bytes = scope.get("query_string") or b""
        return (*values, *self._others(query.decode("latin-1"), request, failed))

    def _header_values(self, headers: RawHeaders) -> Values:
        found: dict[bytes, Value] = {}
        for name, value in headers:
            if name in self._by_name:
                text, first = value.decode("latin-1"), found.get(name)
                found[name] = text if first is None else (first if isinstance(first, str) else first[0], text)
        return tuple([found.get(name) for name in self._names])

    def _others(self, query: str, request: Callable[[], SeenRequest], failed: Callable[[], object]) -> Iterator[Value]:
        for _ in self._queried:
            yield query
        for _, function in self._functions:
            yield _result(function, request, failed)

    def without_secrets(self, query: bytes) -> bytes:
        """A query string without the parameters that hold keys."""
        if not self._parameters or not query:
            return query
        parts = query.decode("latin-1").split("&")
        return "&".join(part for part in parts if _name_of(part) not in self._parameters).encode("latin-1")


def caller_digest(secrets: Iterable[str]) -> bytes:
    """The digests of the keys that a request showed, in one piece."""
    return b"".join([credential_digest(secret) for secret in secrets])


def _of_one(text: str, readers: Sequence[_Reader]) -> Sequence[str]:
    """As `_in_order`, of a request with one value, as most are."""
    if len(readers) > 1:
        return _in_order([(order, read(text)) for order, read in readers])
    ((_, read),) = readers
    secret = read(text)
    return (secret,) if secret else ()


def _in_order(found: list[tuple[int, str | None]]) -> Sequence[str]:
    shown = [(order, secret) for order, secret in found if secret]
    if len(shown) > 1:
        # Sorted by the order alone: of a repeated header, the first comes first.
        shown.sort(key=lambda one: one[0])
        return list(dict.fromkeys(secret for _, secret in shown))
    return [secret for _, secret in shown]


def _result(
    function: Callable[[Any], str | None], request: Callable[[], SeenRequest], failed: Callable[[], object]
) -> str | None:
    try:
        found = function(request())
        if found is not None and not isinstance(found, str):
            raise ConfigurationError(f"credentials: a function must return a key or None, not {type(found).__name__}")
    except Exception:
        failed()
        return None
    return found


def _stripped(text: str) -> str | None:
    return text.strip()


def _bearer(text: str) -> str | None:
    scheme, _, token = text.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _basic_user(text: str) -> str | None:
    scheme, _, encoded = text.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(encoded.strip()).decode("utf-8", "replace").partition(":")[0]
    except ValueError:
        return None


def _parameter(name: str, last: bool, query: str) -> str | None:
    """The first or the last value of a parameter: frameworks differ in which one they take."""
    parts = query.split("&")
    for part in reversed(parts) if last else parts:
        if _name_of(part) == name:
            return unquote_plus(part.partition("=")[2]).strip()
    return None


def _name_of(part: str) -> str:
    name = part.partition("=")[0]
    return unquote_plus(name) if "%" in name or "+" in name else name


#: Words for places in headers: the header, and how its value is read.
_WORDS: Mapping[str, tuple[str, Callable[[str], str | None]]] = {
    "bearer": ("authorization", _bearer),
    "basic-user": ("authorization", _basic_user),
}


def _checked(places: Iterable[Place] | None) -> list[Place]:
    if isinstance(places, str):
        raise ConfigurationError(f'credentials must be a list or tuple of places, for instance ("{places}",)')
    found = [_place(place) for place in (DEFAULT_PLACES if places is None else places)]
    if not 1 <= len(found) <= MOST_PLACES:
        raise ConfigurationError(f"credentials: name 1 to {MOST_PLACES} places, not {len(found)}")
    if len(set(found)) != len(found):
        raise ConfigurationError("credentials: every place may stand once")
    return found


def _place(place: object) -> Place:
    if isinstance(place, str):
        if place.startswith(_QUERY) and len(place) > len(_QUERY):
            return place
        if _HEADER.fullmatch(place):
            return place.lower()
    elif callable(place):
        check_plain_function("credentials", place)
        return place
    raise ConfigurationError(
        "credentials: a place is bearer, basic-user, query: and the name of a parameter, the name of a header, or a function, "
        f"not {place!r}"
    )
