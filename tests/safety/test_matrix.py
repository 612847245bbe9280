"""Every view, with every parameter, with hostile names, over sockets, in every shell, by every kind of viewer.

Asserted: nobody gets a byte of somebody else, no name reaches the headers, nothing fails on our side, and what can't be
answered has a code that is documented.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

import pytest

from tests.safety.sockets import SHELLS, Line
from tests.support import record_call
from tests.web.conftest import ACME, ACME_TEST, GLOBEX, OPERATOR
from usage_middleware import KeyInfo, Viewer
from usage_middleware.report import corrections
from usage_middleware.report.reports import PLAN_VIEWS, VIEWS
from usage_middleware.web.errors import STATUS

if TYPE_CHECKING:
    from usage_middleware import Usage

#: Every page that takes parameters.
ALL_VIEWS = (*VIEWS, *PLAN_VIEWS, corrections.VIEW)
#: Names that want to be something else: another tenant, a part of a Redis key, a header, markup, a number, a reserved member.
HOSTILE = (
    b"globex", b"Globex ", b"globex}", b"{globex}", b"globex}:series:1d", b"globex\0", b"acme\r\nX-Evil: 1", b"*", b"%2A",
    b"(other)", b"%28other)", b"(anonymous)", b"(unknown)", b"default", b"calls", b"cache:index", b"../globex", b"key_9",
    b"key_2", b"key~3", b"\xff\xfe", b"\xed\xa0\x80", "\u202e\u0661\uff0a".encode(), b"'; DROP TABLE usage; --",
    b"<script>alert(1)</script>", b"=1+1", b"9" * 400, b"-1", b"1e999", b"NaN", b"9999-12-31T23:59:59Z", b"x" * 4_000,
    b"", b" ",
)  # fmt: skip
#: What only globex has, what only acme's second key has, and secrets.
GLOBEX_MARK, KEY_2_MARK = b"belongs-to-globex", b"belongs-to-key-2"
SECRETS = tuple(secret.encode() for secret in (ACME, ACME_TEST, GLOBEX, OPERATOR))
#: Who asks: the key that is shown, and what no answer may have.
VIEWERS: dict[str, tuple[str, tuple[bytes, ...]]] = {
    "customer": (ACME, (GLOBEX_MARK,)),
    "key": (f"only-{ACME}", (GLOBEX_MARK, KEY_2_MARK)),
    "operator": (OPERATOR, ()),
}
#: A parameter is tried with each name by a customer in one shell; elsewhere with each so-manieth, another one first for each
#: parameter, so that each name is tried. `USAGE_FULL_SAFETY=1` tries all everywhere.
NAMES_APART = {("wsgi", "customer"): 1, ("starlette", "customer"): 8, ("flask", "customer"): 8}
OTHERWISE = 1 if os.environ.get("USAGE_FULL_SAFETY") else 12


class AnyAuth:
    """By the key: an operator, a viewer of one key (`only-...`), or of an organisation."""

    def __init__(self, usage: Usage) -> None:
        self._keys = usage.keys

    def __call__(self, request: Any) -> Viewer | None:
        headers = getattr(request, "headers", None)
        shown = request.get("HTTP_X_API_KEY", "") if headers is None else headers.get("x-api-key", "")
        if shown == OPERATOR:
            return Viewer.operator()
        found = self._keys.find(shown.removeprefix("only-"))
        if found is None or found.org is None or found.revoked_at is not None:
            return None
        return Viewer.key(found.org, found.id) if shown.startswith("only-") else Viewer.organization(found.org)


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    """Two tenants. All that one of them has says whose it is."""
    made = make_usage(dimensions=("project",), counters=("records",))
    for org, key_id, name, secret in (
        ("acme", "key_1", "Own", ACME),
        ("acme", "key_2", KEY_2_MARK.decode(), ACME_TEST),
        ("globex", "key_9", GLOBEX_MARK.decode(), GLOBEX),
    ):
        made.keys.put(org, KeyInfo(id=key_id, name=name), secret=secret)
        record_call(made.recorder, (org, key_id), f"GET /{name}", (name,), counts=(3,))
    assert made.flush()
    return made


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """Each shell."""
    return str(request.param)


@pytest.fixture
def line(shell: str, usage: Usage) -> Iterator[Line]:
    """A connection to it."""
    with SHELLS[shell](usage, AnyAuth(usage)) as port, Line(port) as found:
        yield found


def targets(names_apart: int) -> Iterator[bytes]:
    """Every view with every parameter as every name, or as each third of them and so on."""
    for view in ALL_VIEWS:
        names = [parameter.name for parameter in view.parameters]
        for number, name in enumerate((*names, "no_such_parameter")):
            for value in HOSTILE[number % names_apart :: names_apart]:
                yield f"/usage{view.path}?{name}={quote_from_bytes(value, safe='')}".encode()


@pytest.mark.parametrize("viewer", VIEWERS)
def test_nobody_sees_anything_of_somebody_else(line: Line, shell: str, viewer: str) -> None:
    key, forbidden = VIEWERS[viewer]
    names_apart = min(OTHERWISE, NAMES_APART.get((shell, viewer), OTHERWISE))
    asked = 0
    for target in targets(names_apart):
        answer = line.get(target, (b"X-API-Key", key.encode()))
        assert answer.status < 500, (target, answer)
        assert not [mark for mark in (*forbidden, *SECRETS) if mark in answer.body], (target, answer.body)
        assert b"X-Evil" not in answer.head, target
        if answer.status != 200:
            assert STATUS[json.loads(answer.body)["code"]] == answer.status, (target, answer)
        asked += 1
    assert asked >= len(HOSTILE) * len(ALL_VIEWS) // names_apart


def test_hostile_credentials_open_nothing(line: Line, usage: Usage, namespace: str) -> None:
    before = set(usage.engine.client.scan_iter(f"{namespace}:*"))
    for value in HOSTILE:
        for raw in {value, value.replace(b"\r\n", b" ").replace(b"\0", b"")}:
            if b"\r" in raw or b"\0" in raw:
                continue
            for header in ((b"X-API-Key", raw), (b"Authorization", b"Bearer " + raw)):
                answer = line.get(b"/usage/summary", header)
                assert answer.status in (400, 401, 431), (header, answer)
                assert GLOBEX_MARK not in answer.body
    assert set(usage.engine.client.scan_iter(f"{namespace}:*")) <= before


def test_hostile_paths_and_methods_find_nothing(line: Line) -> None:
    for value in HOSTILE:
        target = b"/usage/" + (quote_from_bytes(value, safe="").encode() or b"x")
        for method in (b"GET", b"HEAD", b"POST", b"DELETE", b"BREW"):
            answer = line.get(target, (b"X-API-Key", ACME.encode()), method=method)
            assert 300 <= answer.status < 500 or value in (b"", b" "), (method, target, answer)
            assert b"X-Evil" not in answer.head
            assert GLOBEX_MARK not in answer.body


def test_raw_bytes_in_the_address_of_the_page(line: Line) -> None:
    """Not percent-encoded: what a client of its own can send. The page redirects to itself without the slash at the end."""
    for value in HOSTILE:
        raw = bytes(byte for byte in value if byte > 0x20)
        for target in (b"/usage/dashboard/?q=" + raw, b"/usage/dashboard?lang=" + raw + b"&theme=" + raw):
            for shown in ((b"X-API-Key", ACME.encode()), (b"Accept-Language", raw)):
                answer = line.get(target, shown)
                assert answer.status in (200, 308, 400, 401, 414, 429), (target, answer)
                assert b"\nX-Evil" not in answer.head


def test_an_answer_is_as_long_as_it_says(line: Line) -> None:
    """Read to the end by its length: the next answer on the same connection is whole."""
    for view in (*VIEWS, *PLAN_VIEWS):
        for accept in (b"application/json", b"text/csv", b"*/*;q=" + b"9" * 1000, b"text/csv;q=nan, \xff"):
            answer = line.get(f"/usage{view.path}".encode(), (b"X-API-Key", ACME.encode()), (b"Accept", accept))
            assert answer.status in (200, 400), answer
