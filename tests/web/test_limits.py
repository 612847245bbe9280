"""How often a viewer may ask, and how often credentials from one address may be refused."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis
from starlette.exceptions import HTTPException
from werkzeug.exceptions import TooManyRequests

from tests.support import Clock, ServerProcess
from tests.web.conftest import ACME, ACME_TEST, GLOBEX, OPERATOR, OperatorOrKey
from tests.web.hosts import HOSTS, Api, Host
from usage_middleware import Viewer
from usage_middleware.errors import ConfigurationError
from usage_middleware.report.reports import VIEWS
from usage_middleware.store.schema import Schema
from usage_middleware.web import KeyAuth
from usage_middleware.web.limits import MOST_ADDRESSES, RefusedAddresses, named_address

if TYPE_CHECKING:
    from usage_middleware import Usage

WSGI = HOSTS[4]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[redis.Redis]:
    with server.client() as found:
        yield found


def limited(usage: Usage, limit: Any, host: Host = WSGI, **options: Any) -> Api:
    return Api(host, host.make(usage, auth=OperatorOrKey(usage.keys), limit=limit, **options), ACME)


def test_who_asks_too_often_has_to_wait(host: Host, usage: Usage) -> None:
    api = limited(usage, "3/hour", host)
    replies = [api.get("/summary") for _ in range(5)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
    assert [reply.headers["x-ratelimit-remaining"] for reply in replies] == ["2", "1", "0", "0", "0"]
    assert replies[0].headers["ratelimit-policy"] == '"requests";q=3;w=3600'
    assert replies[0].headers["ratelimit"] == '"requests";r=2;t=1200'
    refused = replies[-1]
    assert (refused.code, refused.headers["x-ratelimit-limit"]) == ("rate_limited", "3")
    assert 1198 <= int(refused.headers["retry-after"]) <= 1200
    assert "x-cache" not in refused.headers


def test_every_view_counts_and_nothing_else(usage: Usage) -> None:
    api = limited(usage, f"{len(VIEWS)}/day")
    for _ in range(3):
        assert api.get("/openapi.json").status == 200
        assert api.get("/health").status == 403
        assert api.get("/summary?period=no").status == 400
        assert api.call("POST", "/summary").status == 405
    assert [api.get(view.path).status for view in VIEWS] == [200] * len(VIEWS)
    assert [api.get(view.path).status for view in VIEWS] == [429] * len(VIEWS)
    assert api.get("/openapi.json").status == 200


def test_an_answer_that_is_cached_and_one_that_fails_count_too(usage: Usage) -> None:
    api = limited(usage, "4/day")
    replies = [api.get("/summary"), api.get("/summary"), api.get("/?granularity=minute&timeframe=all")]
    assert [(reply.status, reply.headers["x-ratelimit-remaining"]) for reply in replies] == [(200, "3"), (200, "2"), (400, "1")]


def test_each_viewer_has_its_own(usage: Usage) -> None:
    api = Api(WSGI, WSGI.make(usage, auth=KeyAuth(usage.keys, sees="key"), limit="1/day"))
    for key in (ACME, ACME_TEST, GLOBEX):
        assert [api.with_key(key).get("/summary").status for _ in range(2)] == [200, 429]


def test_the_keys_of_an_organisation_share_its_limit(usage: Usage) -> None:
    api = limited(usage, "2/day")
    assert [api.with_key(key).get("/summary").status for key in (ACME, ACME_TEST, ACME)] == [200, 200, 429]
    assert api.with_key(GLOBEX).get("/summary").status == 200
    assert [api.with_key(OPERATOR).get("/summary?org=acme").status for _ in range(3)] == [200, 200, 429]


def test_a_callable_decides_for_each_viewer(usage: Usage) -> None:
    def limit(viewer: Viewer) -> str | None:
        return None if viewer.is_operator else "1/day" if viewer == Viewer.organization("acme") else "2/day"

    api = limited(usage, limit)
    assert [api.get("/summary").status for _ in range(2)] == [200, 429]
    assert [api.with_key(GLOBEX).get("/summary").status for _ in range(3)] == [200, 200, 429]
    reply = api.with_key(OPERATOR).get("/summary")
    assert (reply.status, "x-ratelimit-limit" in reply.headers) == (200, False)


def test_several_limits_count_all_or_none(usage: Usage) -> None:
    api = limited(usage, "2/day, 5/hour")
    replies = [api.get("/summary") for _ in range(9)]
    assert [reply.status for reply in replies] == [200] * 2 + [429] * 7
    assert replies[1].headers["ratelimit"].startswith('"requests-86400s";r=0;t=86400, "requests-3600s";r=3;t=1440')
    assert replies[-1].headers["ratelimit"].startswith('"requests-86400s";r=0;')
    assert '"requests-3600s";r=3;' in replies[-1].headers["ratelimit"]


def test_it_holds_over_all_processes(usage: Usage, make_usage: Callable[..., Usage]) -> None:
    one = limited(usage, "3/day")
    other = limited(make_usage(dimensions=("project",)), "3/day")
    assert [api.get("/summary").status for api in (one, other, one, other)] == [200, 200, 200, 429]


def test_by_default_it_is_300_a_minute(usage: Usage) -> None:
    reply = Api(WSGI, WSGI.make(usage, auth=KeyAuth(usage.keys)), ACME).get("/summary")
    assert reply.headers["x-ratelimit-limit"] == "300"
    assert reply.headers["ratelimit"] == '"requests";r=299;t=1'
    assert abs(int(reply.headers["x-ratelimit-reset"]) - time.time()) < 30


def test_none_is_no_limit_and_writes_nothing(usage: Usage, client: redis.Redis) -> None:
    api = limited(usage, None, cache_seconds=0)
    assert "ratelimit" not in api.get("/summary").headers
    assert not client.exists(Schema(usage.settings).limits("acme"))


def test_what_is_kept_ends_with_its_window(usage: Usage, client: redis.Redis) -> None:
    limited(usage, "7/minute").get("/summary")
    key = Schema(usage.settings).limits("acme")
    ttl: Any = client.pttl(key)
    assert 0 < ttl <= 60_000
    assert client.hkeys(key) == [b"organization 60"]


def test_viewers_that_have_gone_are_forgotten(usage: Usage, client: redis.Redis) -> None:
    key = Schema(usage.settings).limits("acme")
    client.hset(key, mapping={f"key {number} 60": "1" for number in range(1000)})
    api = limited(usage, "1000/minute")
    for _ in range(200):
        assert api.get("/summary").status == 200
    size: Any = client.hlen(key)
    assert size < 300


@pytest.mark.parametrize("value", ["", "x", "nan", "inf", "-inf", "1e300", "-5", "9" * 400])
def test_a_damaged_count_locks_nobody_out_for_longer_than_the_window(usage: Usage, client: redis.Redis, value: str) -> None:
    client.hset(Schema(usage.settings).limits("acme"), "organization 60", value)
    reply = limited(usage, "60/minute").get("/summary")
    assert reply.status == 200 or int(reply.headers["retry-after"]) <= 60


def test_a_redis_that_can_not_count_refuses_nobody(usage: Usage, client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    client.set(Schema(usage.settings).limits("acme"), "of a wrong type")
    api = limited(usage, "1/day")
    assert [api.get("/summary").status for _ in range(3)] == [200, 200, 200]
    assert [one.getMessage().partition(":")[0] for one in caplog.records] == [
        "limits on the usage API can't be counted, and nobody is refused"
    ]


def test_in_a_cluster(cluster: Any, make_usage: Callable[..., Usage]) -> None:
    usage = make_usage(cluster.url)
    for org in ("acme", "globex", "initech"):
        api = Api(WSGI, WSGI.make(usage, auth=lambda _, org=org: Viewer.organization(org), limit="2/day"))
        replies = [api.get("/summary") for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert replies[1].headers["x-cache"] == "HIT"


@pytest.mark.parametrize(
    "limit", ["", "300", "0/minute", "-1/minute", "1/week", "many/minute", "1.5/second", "2000000/second", 300, True, b"1/day"]
)
def test_a_limit_is_a_number_a_time(usage: Usage, limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="limit"):
        WSGI.make(usage, auth=KeyAuth(usage.keys), limit=limit)


def test_a_callable_that_returns_something_else_is_our_error(usage: Usage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        assert limited(usage, lambda _: 5).get("/summary").code == "internal_error"

    async def limit(_: Viewer) -> str:
        raise NotImplementedError

    with pytest.raises(ConfigurationError, match="limit"):
        limited(usage, limit)


# Refused credentials.


def test_refused_credentials_from_one_address(host: Host, usage: Usage) -> None:
    seen: list[str] = []

    def address(request: Any) -> str:
        seen.append(type(request).__name__)
        return "203.0.113.7"

    api = Api(host, host.make(usage, auth=KeyAuth(usage.keys), client_address=address), "sk_wrong")
    replies = [api.get("/summary") for _ in range(33)]
    assert [reply.status for reply in replies] == [401] * 30 + [429] * 3
    assert (replies[-1].code, replies[-1].headers["retry-after"]) == ("rate_limited", "2")
    assert "address" in replies[-1].json["message"]
    assert api.with_key(ACME).get("/summary").status == 200
    wanted = {"in flask by blueprint": "LocalProxy", "in flask by dispatcher": "dict", "wsgi": "dict"}
    assert set(seen) == {wanted.get(host.name, "Request")}


def test_it_is_forgiven_with_time() -> None:
    clock = Clock(1000.0)
    refused = RefusedAddresses(clock)
    assert [refused.note("a") for _ in range(31)] == [0] * 30 + [2]
    assert refused.note("b") == 0
    clock.advance(2)
    assert [refused.note("a") for _ in range(2)] == [0, 2]
    clock.advance(60)
    assert [refused.note("a") for _ in range(31)] == [0] * 30 + [2]


def test_addresses_are_forgotten_that_were_refused_longest_ago() -> None:
    clock = Clock(1000.0)
    refused = RefusedAddresses(clock)
    for _ in range(31):
        refused.note("a")
    for number in range(MOST_ADDRESSES - 1):
        refused.note(str(number))
    assert refused.note("a") == 2
    for number in range(MOST_ADDRESSES):
        refused.note(str(number))
    assert len(refused._until) == MOST_ADDRESSES
    assert refused.note("a") == 0


def test_one_ipv6_network_is_one_address() -> None:
    assert named_address("2001:db8:1:2::1") == named_address(" 2001:db8:1:2:ffff::9 ") == "2001:db8:1:2::/64"
    assert named_address("2001:db8:1:3::1") != named_address("2001:db8:1:2::1")
    assert named_address("203.0.113.7") == "203.0.113.7"
    assert len(named_address("x" * 10_000)) == 256


def peer(usage: Usage, address: str) -> Callable[..., int]:
    from usage_middleware.credentials import Credentials
    from usage_middleware.web.app_options import AppOptions
    from usage_middleware.web.handler import Handler
    from usage_middleware.web.http import Request

    handler = Handler(usage.reader, lambda _: None, AppOptions(), Credentials())
    headers = {"x-forwarded-for": "198.51.100.1", "forwarded": "for=198.51.100.1"}

    def ask() -> int:
        request = Request("GET", "/summary", header=lambda name: headers.get(name, ""), peer=address)
        return handler.answer(request, None).status

    return ask


@pytest.mark.parametrize("address", ["93.184.215.14", "2a00:1450::1", "::ffff:93.184.215.14"])
def test_the_address_is_that_of_the_connection(usage: Usage, address: str) -> None:
    ask = peer(usage, address)
    assert [ask() for _ in range(31)] == [401] * 30 + [429]


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", "10.1.2.3", "192.168.0.1", "100.64.0.1", "::1", "fe80::1%eth0", "unix:", "::ffff:10.0.0.1"]
)
def test_behind_a_proxy_it_is_off(usage: Usage, address: str) -> None:
    ask = peer(usage, address)
    assert [ask() for _ in range(40)] == [401] * 40


def test_an_address_that_nobody_knows_is_not_counted(usage: Usage) -> None:
    api = Api(WSGI, WSGI.make(usage, auth=KeyAuth(usage.keys), client_address=lambda _: None), "sk_wrong")
    assert [api.get("/summary").status for _ in range(40)] == [401] * 40


@pytest.mark.parametrize("given", [5, "peer"])
def test_client_address_is_a_plain_function(usage: Usage, given: Any) -> None:
    with pytest.raises(ConfigurationError, match="client_address"):
        WSGI.make(usage, auth=KeyAuth(usage.keys), client_address=given)


# A host's own refusals.


class Plain(Exception):
    code = 429
    retry_after = 9


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (HTTPException(429, headers={"Retry-After": "7", "X-Plan": "free"}), {"retry-after": "7", "x-plan": "free"}),
        (TooManyRequests(retry_after=8), {"retry-after": "8"}),
        (Plain(), {"retry-after": "9"}),
        (HTTPException(429, headers={"retry-after": "6", "vary": "*"}), {"retry-after": "6"}),
        (HTTPException(429), {"retry-after": "60"}),
        (HTTPException(401, headers={"WWW-Authenticate": 'DPoP realm="x"'}), {"www-authenticate": 'DPoP realm="x"'}),
        (
            HTTPException(429, headers={"Content-Length": "5", "Content-Type": "text/x", "Cache-Control": "public"}),
            {"content-type": "application/json", "cache-control": "private, no-cache"},
        ),
    ],
)
def test_a_hosts_own_refusal_keeps_its_headers(host: Host, usage: Usage, error: Exception, expected: dict[str, str]) -> None:
    def auth(_: object) -> Viewer:
        raise error

    reply = Api(host, host.make(usage, auth=auth)).get("/summary")
    assert reply.code == ("unauthenticated" if reply.status == 401 else "rate_limited")
    assert reply.headers.items() >= expected.items()
    assert int(reply.headers["content-length"]) == len(reply.body)
