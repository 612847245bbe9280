"""Whoever is let in is billed: applications check keys in many ways, and clients write them in more."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.datastructures import Authorization

from tests.safety.sockets import Line, served
from tests.support import there
from usage_middleware import KeyInfo, UsageMiddleware

if TYPE_CHECKING:
    from usage_middleware import Usage

SECRET = "sk_live_1"
Headers = list[tuple[bytes, bytes]]


def _values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _authorization(headers: Headers) -> str:
    return (_values(headers, b"authorization") or [""])[0]


def _second_word(headers: Headers) -> str:
    return ([*_authorization(headers).split(" "), ""])[1]


def _strictly(headers: Headers) -> str:
    scheme, _, token = _authorization(headers).partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _by_werkzeug(headers: Headers) -> str:
    found = Authorization.from_header(_authorization(headers))
    return (found and found.token) or ""


#: How applications take a key from their headers.
IDIOMS: dict[str, Callable[[Headers], str]] = {
    "scheme and token": _strictly,
    "second word": _second_word,
    "second word, any blank": lambda headers: ([*_authorization(headers).split(), "", ""])[1],
    "last word": lambda headers: (["", *_authorization(headers).split()])[-1],
    "without Bearer": lambda headers: _authorization(headers).replace("Bearer ", ""),
    "from the seventh character": lambda headers: _authorization(headers)[7:].strip(),
    "werkzeug's token": _by_werkzeug,
    "first X-API-Key": lambda headers: ([*_values(headers, b"x-api-key"), ""])[0],
    "last X-API-Key": lambda headers: ["", *_values(headers, b"x-api-key")][-1],
}
_KEY = SECRET.encode()
WRITTEN: tuple[Headers, ...] = (
    [(b"Authorization", b"Bearer " + _KEY)],
    [(b"Authorization", b"bEARER   " + _KEY + b" ")],
    [(b"Authorization", b"Bearer\t" + _KEY)],
    [(b"Authorization", b"Bearer \t " + _KEY)],
    [(b"Authorization", b"Bearer\xa0" + _KEY)],
    [(b"Authorization", b"Bearer " + _KEY + b" junk")],
    [(b"Authorization", b"Bearer " + _KEY + b"\tjunk more")],
    [(b"Authorization", b"Bearer Bearer " + _KEY)],
    [(b"Authorization", b"Junk " + _KEY)],
    [(b"Authorization", b"junk: " + _KEY)],
    [(b"Authorization", _KEY)],
    [(b"Authorization", b"Bearer " + _KEY), (b"X-API-Key", b"junk"), (b"apikey", b"junk")],
    [(b"X-API-Key", b"junk"), (b"x-api-KEY", _KEY)],
    [(b"X-API-Key", _KEY), (b"X-API-Key", b"junk"), (b"X-API-Key", b"other")],
    [(b"X-API-Key", b" \t" + _KEY + b"\t"), (b"Authorization", b"Basic anVuazpqdW5r")],
)
#: What is added to a request: nothing, or what makes it look like a browser's question before the request.
PREFLIGHT: Headers = [(b"Origin", b"https://a.example"), (b"Access-Control-Request-Method", b"GET")]


def host(scope: Any, receive: Any, send: Any) -> Any:
    """An application that answers every method alike, and lets in whom the idiom in its path finds."""
    idiom = IDIOMS[scope["path"].removeprefix("/").replace("_", " ")]

    async def answer() -> None:
        status = 200 if idiom(scope["headers"]).strip() == SECRET else 401
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return answer()


@pytest.mark.parametrize("idiom", IDIOMS)
def test_whoever_is_let_in_is_billed(make_usage: Callable[..., Usage], idiom: str) -> None:
    usage = make_usage()
    usage.keys.put("acme", KeyInfo("key_1", "A customer's"), secret=SECRET)
    let_in = 0
    with served(UsageMiddleware(host, usage)) as port, Line(port) as line:
        for headers, method, more in product(WRITTEN, (b"GET", b"OPTIONS"), ([], PREFLIGHT)):
            target = b"/" + idiom.replace(" ", "_").encode()
            answer = line.get(target, *headers, *more, method=method)
            let_in += answer.status == 200
    assert let_in >= 4
    assert usage.flush()
    keys = {key.key_id: key for key in there(usage.reader.by_key(org="acme", period="24h").keys)}
    found = keys["key_1"]
    assert found.request_count - found.error_count == let_in
