"""Where requests show their API keys, and the digest that replaces a key at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, TypeAlias
from urllib.parse import unquote_plus

from usage_middleware.authorization import Words, basic_user, bearer
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


#: The order of a place, from 0 for the most important, and how its value becomes a key.
_Reader: TypeAlias = tuple[int, Callable[[str], str | Words | None]]


class Credentials:
    """The places where requests show their API keys, in their order.

    A place is `bearer` (`Authorization: Bearer KEY`), `basic-user` (the user name of `Authorization: Basic`), `query:NAME` (a
    parameter of the query), the name of a header, or a function that gets the small request and returns a key or None.

    `bearer` is read as loosely as applications do it, so that no spelling is overlooked: also without a scheme, under one that
    is not known, and of several words the first and the last.

    Args:
        places: one to eight of them; None: `x-api-key`, `apikey` and `bearer`.

    Attributes:
        headers: the names of the headers that it reads, in lower case.
        showing: the names of the headers that may show who asks: these, and those of sessions. No browser sends one of them in
            a preflight.
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
                self._queried.append([(order, partial(_parameter, name, last)) for last in (False, True)])
            else:
                header, read = _WORDS.get(place, (place, str.strip))
                headers.setdefault(header, []).append((order, read))
        self.headers = tuple(headers)
        self.showing = frozenset({*headers, "authorization", "cookie"})
        self._by_name = {name.encode(): readers for name, readers in headers.items()}
        self._names = tuple(self._by_name)
        #: Reads the headers by the `get` of an environ.
        self.headers_by = _headers_by(*map(environ_key, headers))
        #: The readers of each of the values of `in_scope` and `in_environ`.
        functions: list[list[_Reader]] = [[(order, str.strip)] for order, _ in self._functions]
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
        only = None
        for value in values:
            if value:
                if only is not None or type(value) is not str:
                    break
                only = value
        else:
            return () if only is None else _of_one(only, self._readers[values.index(only)])
        return _in_order(
            [
                (order, read(text))
                for value, readers in zip(values, self._readers, strict=True)
                if value
                for text in ((value,) if isinstance(value, str) else value)
                for order, read in readers
            ]
        )

    def in_environ(
        self, environ: Mapping[str, Any], request: Callable[[], SeenRequest], failed: Callable[[], object]
    ) -> Values:
        """What a WSGI environ has in each place. `failed` is called where a function raised, with its exception at hand."""
        values = self.headers_by(environ.get)
        if self.only_headers:
            return values
        return (*values, *self._others(environ.get("QUERY_STRING", ""), request, failed))

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


def _headers_by(*keys: str) -> Callable[[Callable[[str], str | None]], Values]:
    if len(keys) == 1:
        (only,) = keys
        return lambda get: (get(only),)
    if len(keys) == 3:  # As the default places have it: written out, since each request does it.
        first, second, third = keys
        return lambda get: (get(first), get(second), get(third))
    return lambda get: tuple([get(key) for key in keys])


def caller_digest(secrets: Sequence[str]) -> bytes:
    """The digests of the keys that a request showed, in one piece."""
    if len(secrets) == 1:
        return credential_digest(secrets[0])
    return b"".join([credential_digest(secret) for secret in secrets])


def _of_one(text: str, readers: Sequence[_Reader]) -> Sequence[str]:
    """As `_in_order`, of a request with one value, as most are."""
    if len(readers) > 1:
        return _in_order([(order, read(text)) for order, read in readers])
    secret = readers[0][1](text)
    if not secret:
        return ()
    return (secret,) if type(secret) is str else secret


def _in_order(found: list[tuple[int, str | Words | None]]) -> Sequence[str]:
    shown = [(order, secret) for order, secret in found if secret]
    # Sorted by the order alone: of a repeated header, the first comes first.
    shown.sort(key=lambda one: one[0])
    return list(dict.fromkeys(one for _, secret in shown for one in ((secret,) if isinstance(secret, str) else secret)))


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
_WORDS: Mapping[str, tuple[str, Callable[[str], str | Words | None]]] = {
    "bearer": ("authorization", bearer),
    "basic-user": ("authorization", basic_user),
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
