"""Redis 6.2 knows every command that is sent, with its options. The rest of the suite's traffic is checked at its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import Docs, docs, used, watched
from tests.report.world import Call, World, world
from tests.store.history.packing import NOW, ORGS, everything
from tests.support import ServerProcess
from tests.web.hosts import HOSTS, Api
from usage_middleware import Viewer
from usage_middleware.periods import DAY
from usage_middleware.report.health import health
from usage_middleware.report.reports import VIEWS

if TYPE_CHECKING:
    from usage_middleware import Usage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own_server() -> Iterator[ServerProcess]:
    with ServerProcess() as server:
        yield server


@pytest.fixture(scope="module")
def known(own_server: ServerProcess) -> Docs:
    with own_server.client() as client:
        found = docs(client)
    if found is None:
        pytest.skip("this server does not say since when its commands are there; it runs them, or refuses them")
    return found


@pytest.mark.parametrize(
    ("words", "newer"),
    [
        ("GET a", []),
        ("COPY a b", []),
        ("zadd a LT 1 b", []),
        ("EXPIRE a 5", []),
        ("EXPIRE a 5 nx", ["expire ... NX"]),
        ("SINTERCARD 1 a", ["sintercard"]),
        ("CONFIG GET a", []),
        ("CLIENT NO-EVICT on", ["client|no-evict"]),
        ("ZRANGE a 0 1 BYSCORE", []),
    ],
)
def test_the_server_tells(known: Docs, words: str, newer: list[str]) -> None:
    assert list(known.newer(words.split())) == newer


def test_what_is_sent_is_seen_and_what_scripts_call(own_server: ServerProcess) -> None:
    with own_server.client() as client:
        with watched(own_server) as sent:
            client.set('a "b"', b"\x00\xff")
            client.eval("return redis.call('GET', KEYS[1])", 1, "a")
        assert [words[0] for words in sent if words[0] != "CLIENT"] == ["SET", "EVAL", "GET"]
        assert ["set"] in used(client)


def test_packing_and_views_use_old_commands(own_server: ServerProcess, known: Docs) -> None:
    with watched(own_server) as sent, world(own_server.url, NOW - 40 * DAY, history=True) as lived:
        for at in (NOW - 40 * DAY, NOW - 10):
            lived.happen(Call(at + number / 10, key=f"key_{number % 3}", status=(200, 404)[number % 2]) for number in range(50))
        lived.clock.set(NOW)
        lived.usage.pack_history()
        ask_everything(lived)
        assert correct(lived.usage)
        lived.usage.pack_history("acme")
        lived.usage.unpack_history()
        ask_everything(lived)
    assert {"HSET", "UNLINK", "ZINCRBY", "HGETALL"} <= {words[0].upper() for words in sent}
    assert known.newer_of_all(sent) == set()
    # Who is to be packed stands in a schedule: nobody looks through all keys.
    assert not {"SCAN", "KEYS", "HSCAN", "ZSCAN"} & {words[0].upper() for words in sent}


def ask_everything(lived: World) -> None:
    """Each view, as an operator, an organisation and a key; the reader, and `/health`."""
    for org in ORGS:
        assert everything(lived, org, 41, 38)
    for viewer in (Viewer.operator(), Viewer.organization("acme"), Viewer.key("acme", "key_1")):
        host = HOSTS[4]
        api = Api(host, host.make(lived.usage, auth=lambda _, viewer=viewer: viewer), "")
        for view in VIEWS:
            asked = {"by-group": "group=project&", "series": "group=endpoint&"}.get(view.name, "")
            for window in ("", "start=2029-11-01&end=2029-12-01&timezone=Europe/Berlin"):
                assert api.get(f"{view.path}?{asked}{window}").status in (200, 400, 403, 404, 422)
    health(lived.usage.reader)


def correct(usage: Usage) -> bool:
    """Take a call of packed time away."""
    about: dict[str, Any] = {"at": NOW - 40 * DAY, "endpoint": "GET /v1/items", "status": 200, "key": "key_0"}
    return usage.correct("acme", id="c1", reason="a test", calls=-1, tags={"project": "search"}, **about)
