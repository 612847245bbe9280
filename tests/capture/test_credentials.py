"""The places where requests show their API keys: what is read in each, in which order, and what is no place."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.capture.recording import Usage
from tests.capture.shells import ASGI_SHELLS, SHELLS, http_scope
from usage_middleware.credentials import Credentials, Place, caller_digest, credential_digest, digests_in
from usage_middleware.errors import ConfigurationError
from usage_middleware.seen_request import EnvironRequest, ScopeRequest

Raw = list[tuple[bytes, bytes]]
NO_REQUEST: Any = None


def basic(user: str) -> str:
    return "Basic " + b64encode(f"{user}:".encode()).decode()


def failed() -> None:
    raise AssertionError("a function raised")


def in_scope(places: Credentials, headers: Raw, query: str = "") -> Sequence[str]:
    scope = http_scope() | {"headers": headers, "query_string": query.encode()}
    return places.in_values(places.in_scope(scope, headers, lambda: ScopeRequest(scope, "GET", "/"), failed))


def in_environ(places: Credentials, headers: Raw, query: str = "") -> Sequence[str]:
    environ: dict[str, Any] = {"QUERY_STRING": query}
    environ |= {f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1") for name, value in headers}
    return places.in_values(places.in_environ(environ, lambda: EnvironRequest(environ, "GET", "/"), failed))


@pytest.mark.parametrize(
    ("place", "headers", "found"),
    [
        ("bearer", [(b"authorization", b"Bearer sk_1")], ["sk_1"]),
        ("bearer", [(b"authorization", b" bearer   sk_1 ")], ["sk_1"]),
        ("bearer", [(b"authorization", b"Bearer\tsk_1")], ["sk_1"]),
        ("bearer", [(b"authorization", b"Bearer sk_1 junk")], ["sk_1 junk", "sk_1", "junk"]),
        ("bearer", [(b"authorization", b"Bearer junk junk sk_1")], ["junk junk sk_1", "junk", "sk_1"]),
        ("bearer", [(b"authorization", b"sk_1")], ["sk_1"]),
        ("bearer", [(b"authorization", b"Token sk_1=")], ["sk_1="]),
        ("bearer", [(b"authorization", b"Bearer")], []),
        ("bearer", [(b"authorization", b'Digest username="sk_1", realm="a"')], []),
        ("bearer", [(b"authorization", b"AWS4-HMAC-SHA256 Credential=sk_1, Signature=b")], []),
        ("bearer", [(b"authorization", basic("sk_1").encode())], []),
        ("bearer", [(b"x-api-key", b"sk_1")], []),
        ("basic-user", [(b"authorization", basic("sk_1").encode())], ["sk_1"]),
        ("basic-user", [(b"authorization", basic("sk_1").replace(" ", "\t").encode())], ["sk_1"]),
        ("basic-user", [(b"authorization", b"Basic !!")], []),
        ("basic-user", [(b"authorization", b"Bearer sk_1")], []),
        ("X-Acme-Key", [(b"x-acme-key", b" sk_1 "), (b"x-api-key", b"other")], ["sk_1"]),
        ("x-acme-key", [(b"x-acme-key", b" ")], []),
        ("authorization", [(b"authorization", b"Token sk_1")], ["Token sk_1"]),
    ],
)
def test_a_place_in_the_headers(place: str, headers: Raw, found: list[str]) -> None:
    places = Credentials((place,))
    assert list(places.in_headers(headers)) == list(in_scope(places, headers)) == list(in_environ(places, headers)) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("api_key=sk_1", ["sk_1"]),
        ("a=1&api%5Fkey=sk%2B1&b", ["sk+1"]),
        ("api_key=first&api_key=middle&api_key=last", ["first", "last"]),
        ("api_keys=sk_1", []),
        ("api_key", []),
        ("", []),
    ],
)
def test_a_parameter_of_the_query(query: str, found: list[str]) -> None:
    places = Credentials(("query:api_key",))
    assert list(in_scope(places, [], query)) == list(in_environ(places, [], query)) == found


def test_the_keys_of_a_query_are_no_parameters_of_a_view() -> None:
    places = Credentials(("bearer", "query:api_key"))
    assert places.without_secrets(b"period=24h&api_key=sk_1&api%5Fkey=sk_2&org=a%20b") == b"period=24h&org=a%20b"
    assert Credentials().without_secrets(b"api_key=x") == b"api_key=x"


def test_a_function_gets_the_small_request() -> None:
    def from_cookie(request: Any) -> str | None:
        found: str | None = request.headers.get("cookie")
        return found and found.removeprefix("key=")

    places = Credentials((from_cookie, "bearer"))
    headers = [(b"authorization", b"Bearer sk_2"), (b"cookie", b"key=sk_1")]
    assert list(in_scope(places, headers)) == list(in_environ(places, headers)) == ["sk_1", "sk_2"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_function_that_fails_costs_nothing_but_its_key(shell: str) -> None:
    def broken(request: Any) -> str | None:
        if "x-number" in request.headers:
            return 7  # type: ignore[return-value]
        raise RuntimeError("broken")

    usage = Usage(credentials=Credentials((broken, "bearer")))
    ask = SHELLS[shell](usage)
    assert ask("GET", "/items/1", {"authorization": "Bearer sk_1"}).status == 200
    assert ask("GET", "/items/1", {"authorization": "Bearer sk_1", "x-number": "1"}).status == 200
    assert [seen.caller for seen in usage.recording.seen] == [credential_digest("sk_1")] * 2
    assert usage.recording.reasons == {"credentials raised": 2}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_reads_the_places_that_were_named(shell: str) -> None:
    usage = Usage(credentials=Credentials(("query:key", "x-acme-key")))
    query: Any = {"query_string": b"key=sk_1"} if shell in ASGI_SHELLS else {"QUERY_STRING": "key=sk_1"}
    SHELLS[shell](usage)("GET", "/items/1", {"x-acme-key": "sk_2", "x-api-key": "junk"}, **query)
    assert usage.only.caller == caller_digest(["sk_1", "sk_2"])


def test_all_keys_of_a_request_are_kept_in_the_order_of_their_places() -> None:
    headers = [
        (b"authorization", b"Bearer b"),
        (b"x-api-key", b"x1"),
        (b"x-api-key", b"x2"),
        (b"x-api-key", b"x3"),
        (b"apikey", b"b"),
    ]
    assert list(Credentials().in_headers(headers)) == ["x1", "x3", "b"]
    assert list(Credentials(("bearer", "x-api-key")).in_headers(headers)) == ["b", "x1", "x3"]


def test_digests_are_kept_in_one_piece() -> None:
    secrets = ["a", "b", "c"]
    assert list(digests_in(caller_digest(secrets))) == [credential_digest(secret) for secret in secrets]


PARTS = st.sampled_from([b"sk_1", b" sk_2 ", b"", b"Bearer sk_3", b"bearer", b"Basic c2tfNDo=", b"\xe4", b"a \t b"])


@given(st.lists(st.tuples(st.sampled_from([b"x-api-key", b"apikey", b"authorization", b"accept"]), PARTS)))
def test_the_quick_scan_agrees_with_the_reader_of_values(headers: Raw) -> None:
    places: tuple[Place, ...]
    for places in (("x-api-key", "apikey", "bearer"), ("basic-user", "bearer", "x-api-key")):
        found = Credentials(places)
        assert list(found.in_headers(headers)) == list(in_scope(found, headers))
        assert len(found.in_headers(headers)) <= 4 * len(places)
        once = list(dict(headers).items())
        assert list(in_environ(found, once)) == list(found.in_headers(once))


@pytest.mark.parametrize(
    "places",
    [
        "bearer",
        (),
        ("query:",),
        ("X API Key",),
        ("",),
        (7,),
        (None,),
        ("bearer", "Bearer"),
        [f"x-{number}" for number in range(9)],
    ],
)
def test_what_is_no_place_is_refused(places: Any) -> None:
    with pytest.raises(ConfigurationError, match="credentials"):
        Credentials(places)


def test_nobody_would_await_an_async_function() -> None:
    async def place(request: Any) -> str:
        return "sk_1"

    with pytest.raises(ConfigurationError, match="credentials must be a plain function"):
        Credentials((place,))  # type: ignore[arg-type]
