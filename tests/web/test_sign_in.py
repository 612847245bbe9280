"""Signing in with an API key, staying signed in, signing out; and what does not let anybody in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.support import ServerProcess
from tests.web.conftest import ACME, ACME_REVOKED, ACME_TEST, GLOBEX
from tests.web.hosts import HOSTS, Api, Host, Reply
from usage_middleware import Viewer
from usage_middleware.errors import ConfigurationError
from usage_middleware.store import tickets
from usage_middleware.web import BrowserAuth, KeyAuth, usage_app

if TYPE_CHECKING:
    from usage_middleware import Usage

OWN = {"sec_fetch_site": "same-origin"}


@pytest.fixture
def api(host: Host, usage: Usage) -> Api:
    """The usage API in each host, asked without a key."""
    return Api(host, host.make(usage, auth=BrowserAuth(KeyAuth(usage.keys)), name="customers", cache_seconds=0))


@pytest.fixture
def one(usage: Usage) -> Api:
    """The usage API in one host."""
    return mounted(usage, "customers")


def mounted(usage: Usage, name: str, sees: Any = "org", **options: Any) -> Api:
    auth = BrowserAuth(KeyAuth(usage.keys, sees))
    return Api(HOSTS[4], HOSTS[4].make(usage, auth=auth, name=name, cache_seconds=0, **options))


def enter(api: Api, secret: str, **headers: str) -> Reply:
    return api.call("POST", "/sign-in", authorization=f"Bearer {secret}", **{**OWN, **headers})


def cookie(reply: Reply) -> str:
    assert reply.status == 204, reply.body
    return reply.headers["set-cookie"].partition(";")[0]


def test_in_and_out(api: Api) -> None:
    assert api.get("/summary").status == 401
    session = cookie(enter(api, ACME))
    assert api.get("/summary", cookie=session).json["org_id"] == "acme"
    assert api.get("/dashboard", cookie=session).status == 200
    left = api.call("POST", "/sign-out", cookie=session, **OWN)
    assert left.status == 204
    assert "Max-Age=0" in left.headers["set-cookie"]
    assert api.get("/summary", cookie=session).status == 401


def test_the_cookie(one: Api) -> None:
    given = enter(one, ACME, host="api.example.com").headers["set-cookie"]
    assert re.fullmatch(r"usage_[0-9a-f]{12}=[\w-]{43}; Max-Age=43200; HttpOnly; SameSite=Lax; Secure", given)
    for local in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000"):
        assert "Secure" not in enter(one, ACME, host=local).headers["set-cookie"]


def test_who_signs_in_again_and_again_does_not_fill_redis(
    one: Api, server: ServerProcess, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tickets.MOST_TICKETS, "session", 3)
    others = cookie(enter(one, GLOBEX))
    sessions = [cookie(enter(one, ACME)) for _ in range(6)]
    assert [one.get("/summary", cookie=session).status for session in sessions] == [401] * 3 + [200] * 3
    assert one.get("/summary", cookie=others).status == 200
    with server.client() as client:
        assert len(client.keys(f"{namespace}:*:session:[0-9a-f]*")) == 4
        indexes = client.keys(f"{namespace}:*:session:of:*")
        assert [0 < client.ttl(name) <= 12 * 3600 for name in indexes] == [True] * 2


def test_a_damaged_index_of_sessions(one: Api, server: ServerProcess, namespace: str) -> None:
    before = cookie(enter(one, ACME))
    with server.client() as client:
        client.set(client.keys(f"{namespace}:*:session:of:*")[0], b"damaged")
    assert [one.get("/summary", cookie=session).status for session in (before, cookie(enter(one, ACME)))] == [200, 200]


def test_who_signs_out_leaves_room(one: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tickets.MOST_TICKETS, "session", 2)
    stays = cookie(enter(one, ACME))
    for _ in range(4):
        assert one.call("POST", "/sign-out", cookie=cookie(enter(one, ACME)), **OWN).status == 204
    assert one.get("/summary", cookie=stays).status == 200


def test_what_redis_holds_lets_nobody_in(one: Api, server: ServerProcess, namespace: str) -> None:
    session = cookie(enter(one, ACME))
    token = session.partition("=")[2]
    with server.client() as client:
        held = {name: client.get(name) for name in client.keys(f"{namespace}:*:session:[0-9a-f]*")}
        (name,) = held
        assert 0 < client.ttl(name) <= 12 * 3600
    everything = repr(held)
    assert token not in everything
    assert ACME not in everything
    digest = name.decode().rpartition(":")[2]
    assert one.get("/summary", cookie=f"{session.partition('=')[0]}={digest}").status == 401


@pytest.mark.parametrize("secret", ["", "sk_unknown", ACME_REVOKED, "x" * 5_000, "%00", "ключ".encode().decode("latin-1")])
def test_no_valid_key(one: Api, secret: str) -> None:
    found = enter(one, secret)
    assert (found.status, found.code) == (401, "unauthenticated")
    assert "set-cookie" not in found.headers


@pytest.mark.parametrize("forged", ["", "a", "a" * 43, "a" * 10_000, "../..", "\x7f", "*", "a b"])
def test_a_forged_cookie(one: Api, forged: str) -> None:
    name = cookie(enter(one, ACME)).partition("=")[0]
    assert one.get("/summary", cookie=f"{name}={forged}").status == 401


def test_a_revoked_key_ends_it(one: Api, usage: Usage) -> None:
    session = cookie(enter(one, ACME_TEST))
    assert one.get("/summary", cookie=session).status == 200
    usage.keys.revoke("acme", "key_2")
    assert one.get("/summary", cookie=session).status == 401
    usage.keys.remove("acme", "key_2")
    assert one.get("/summary", cookie=session).status == 401


def test_an_expired_session(one: Api, server: ServerProcess, namespace: str) -> None:
    session = cookie(enter(one, ACME))
    with server.client() as client:
        (name,) = client.keys(f"{namespace}:*:session:[0-9a-f]*")
        client.pexpire(name, 1)
        client.delete(name)
    assert one.get("/summary", cookie=session).status == 401


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"[]", b'{"org": 1}', b"null"])
def test_a_damaged_session(one: Api, server: ServerProcess, namespace: str, damage: bytes) -> None:
    session = cookie(enter(one, ACME))
    with server.client() as client:
        client.set(client.keys(f"{namespace}:*:session:[0-9a-f]*")[0], damage)
    assert one.get("/summary", cookie=session).status == 401


def test_another_mount_refuses_it(usage: Usage) -> None:
    inner, outer = mounted(usage, "operators"), mounted(usage, "customers")
    session = cookie(enter(outer, ACME))
    token, own_name = session.partition("=")[2], cookie(enter(inner, ACME)).partition("=")[0]
    assert inner.get("/summary", cookie=session).status == 401
    assert inner.get("/summary", cookie=f"{own_name}={token}").status == 401
    assert outer.get("/summary", cookie=session).status == 200


def test_what_a_key_sees_is_looked_up_each_time(usage: Usage) -> None:
    sees: list[Callable[[Any], Viewer | None]] = [lambda info: Viewer.organization(info.org)]
    api = mounted(usage, "customers", lambda info: sees[-1](info))
    session = cookie(enter(api, ACME))
    assert api.get("/by-key", cookie=session).json["total_keys"] == 2
    sees.append(lambda info: Viewer.key(info.org, info.id))
    assert api.get("/by-key", cookie=session).json["total_keys"] == 1
    sees.append(lambda _: None)
    assert api.get("/by-key", cookie=session).status == 401


def test_an_api_key_decides_before_a_cookie(one: Api) -> None:
    session = cookie(enter(one, ACME))
    assert one.get("/summary", cookie=session, x_api_key=GLOBEX).json["org_id"] == "globex"
    assert one.get("/summary", cookie=session, x_api_key="sk_unknown").status == 401


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": ""},
        {"sec_fetch_site": "", "origin": "https://evil.example"},
        {"sec_fetch_site": "", "origin": "null"},
        {"sec_fetch_site": "cross-site", "origin": "http://testserver"},
    ],
)
def test_another_site_can_neither_sign_in_nor_out(one: Api, path: str, headers: dict[str, str]) -> None:
    session = cookie(enter(one, ACME))
    found = one.call("POST", path, authorization=f"Bearer {ACME}", cookie=session, host="testserver", **headers)
    assert (found.status, found.code) == (403, "forbidden")
    assert one.get("/summary", cookie=session).status == 200


def test_an_old_browser_says_its_origin(one: Api) -> None:
    found = one.call("POST", "/sign-in", authorization=f"Bearer {ACME}", host="testserver", origin="http://testserver")
    assert found.status == 204


def test_signing_in_again_ends_the_session_before(one: Api) -> None:
    first = cookie(enter(one, ACME))
    second = cookie(enter(one, GLOBEX, cookie=first))
    assert one.get("/summary", cookie=first).status == 401
    assert one.get("/summary", cookie=second).json["org_id"] == "globex"


def test_attempts_from_one_address_have_a_limit(usage: Usage) -> None:
    api = mounted(usage, "customers", client_address=lambda _: "203.0.113.9")
    statuses = [enter(api, "sk_unknown").status for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert enter(api, ACME).status == 204


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
def test_only_post(one: Api, path: str) -> None:
    found = one.get(path)
    assert (found.status, found.headers["allow"]) == (405, "POST")


def test_where_nobody_signs_in_there_is_no_door(usage: Usage) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(usage, auth=KeyAuth(usage.keys)))
    assert enter(api, ACME).status == 404


def test_what_it_needs(usage: Usage) -> None:
    with pytest.raises(ConfigurationError, match="needs a name"):
        usage_app(usage, auth=BrowserAuth(KeyAuth(usage.keys)))
    not_key_auth: Any = usage.keys
    with pytest.raises(ConfigurationError, match="needs a KeyAuth"):
        BrowserAuth(not_key_auth)
    with pytest.raises(ConfigurationError, match="usage app alone"):
        BrowserAuth(KeyAuth(usage.keys))(None)


def test_redis_away(usage: Usage, one: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    session = cookie(enter(one, ACME))

    def away(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(redis.Redis, "execute_command", away)
    assert one.get("/summary", cookie=session).status == 503
