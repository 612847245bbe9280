"""One behavioural suite through every shell."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support import record_call
from tests.web.conftest import ACME, ACME_REVOKED, ACME_TEST, OPERATOR
from tests.web.hosts import HOSTS, Api, Host, Reply
from usage_middleware import Usage, Viewer
from usage_middleware.errors import ConfigurationError, UsageUnavailable
from usage_middleware.report.reports import PLAN_VIEWS, VIEWS
from usage_middleware.web import Forbidden, KeyAuth

PATHS = [view.path for view in VIEWS]
NAMES = [view.name for view in VIEWS]


def record(usage: Usage, org: str = "acme", key: str = "key_1", status: int = 200, calls: int = 1) -> None:
    for _ in range(calls):
        record_call(usage.recorder, (org, key), "GET /v1/items", ("search", "(none)"), status, 8_000, 100, (10, 8, 6))
    assert usage.flush()


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_a_view_answers_json(api: Api, path: str) -> None:
    reply = api.get(path)
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "private, no-cache"
    assert reply.headers["vary"] == "Accept, Origin, Cookie, x-api-key, apikey, authorization"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["x-cache"] == "MISS"
    assert isinstance(reply.json, dict)


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_numbers_arrive(api: Api, usage: Usage, path: str) -> None:
    record(usage, calls=7)
    assert b"7" in api.get(path).body


def test_the_mounts_root_is_details(api: Api) -> None:
    assert api.get("/").json["success"] is True
    reply = api.get("")
    if api.host.serves_bare_mount:
        assert reply.json["success"] is True
    else:
        assert (reply.status, reply.headers["location"]) == (307, f"http://testserver{api.host.prefix}/")


@pytest.mark.parametrize("path", PATHS[:1] + PATHS[2:], ids=NAMES[:1] + NAMES[2:])
def test_a_slash_at_the_end_changes_nothing(api: Api, path: str) -> None:
    assert api.get(f"{path}/").status == 200
    assert api.get(f"{path}/").body[:40] == api.get(path).body[:40] or path == "/endpoints"


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_head_is_get_without_the_body(api: Api, path: str) -> None:
    get, head = api.get(path), api.call("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", [*PATHS, "/openapi.json", "/health"])
def test_other_methods_are_refused(api: Api, method: str, path: str) -> None:
    reply = api.call(method, path)
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, HEAD"
    assert reply.json["error"] == "Method Not Allowed"


@pytest.mark.parametrize("path", ["/nothing", "/summary/more", "/dashboards", "/%00", "/..", "/%FF", "/by-key/key_1"])
def test_other_paths_are_not_found(api: Api, path: str) -> None:
    reply = api.get(path)
    assert (reply.status, reply.code) == (404, "not_found")
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("path", [*PATHS, "/openapi.json", "/health"])
@pytest.mark.parametrize("key", [None, "sk_nobody", "", ACME_REVOKED, "x" * 10_000])
def test_nothing_is_open(api: Api, path: str, key: str | None) -> None:
    reply = api.with_key(key).get(path)
    assert (reply.status, reply.code) == (401, "unauthenticated")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert reply.json["error"] == "Unauthorized"
    assert "x-cache" not in reply.headers


@pytest.mark.parametrize("headers", [{"x_api_key": ACME}, {"apikey": ACME}, {"authorization": f"Bearer {ACME}"}])
def test_a_key_may_stand_in_any_of_the_headers(api: Api, headers: dict[str, str]) -> None:
    assert api.with_key(None).get("/summary", **headers).json["org_id"] == "acme"


def test_the_envelope_of_errors(api: Api) -> None:
    reply = api.get("/by-group?range=2h")
    assert reply.status == 400
    assert reply.headers["content-type"] == "application/json"
    assert reply.json == {
        "error": "Bad Request",
        "code": "invalid_range",
        "message": "range must be one of 1h, 24h, 7d, 30d, month_to_date, last_month",
        "param": "range",
    }
    assert api.get("/by-group?limit=no").json["error"] == "Unprocessable Entity"


@pytest.mark.parametrize("query", ["timeframe=2h", "nonsense=1", "limit=0"])
def test_errors_of_details_say_that_they_are_no_success(api: Api, query: str) -> None:
    assert api.get(f"/?{query}").json["success"] is False
    assert api.with_key(None).get("/").json["success"] is False
    assert "success" not in api.get(f"/summary?{query}").json


def test_csv(api: Api, usage: Usage) -> None:
    record(usage, status=404, calls=3)
    for reply in (api.get("/by-group?group=endpoint&format=csv"), api.get("/by-group?group=endpoint", accept="text/csv")):
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/csv; charset=utf-8"
        assert reply.headers["content-disposition"] == 'attachment; filename="usage-by-group.csv"'
        assert reply.body == b"bucket,calls,errors,avg_ms\r\nGET /v1/items,3,3,8.0\r\n"


def test_format_wins_over_accept(api: Api) -> None:
    assert api.get("/summary?format=json", accept="text/csv").headers["content-type"] == "application/json"
    assert api.get("/summary", accept="text/html,*/*;q=0.8").headers["content-type"] == "application/json"


def test_an_operator_sees_all_or_one(api: Api, usage: Usage) -> None:
    record(usage, "acme", "key_1", calls=2)
    record(usage, "globex", "key_9", calls=3)
    operator = api.with_key(OPERATOR)
    assert (operator.get("/summary").json["org_id"], operator.get("/summary").json["total_calls"]) == (None, 5)
    assert operator.get("/summary?org=globex").json["total_calls"] == 3
    assert operator.get("/by-key").code == "missing_org"
    assert operator.get("/?key_id=key_1").code == "missing_org"
    assert [row["bucket"] for row in operator.get("/by-group?group=org").json["buckets"]] == ["globex", "acme"]
    assert api.get("/by-group?group=org").code == "invalid_group"


def test_health_is_for_operators(api: Api) -> None:
    assert api.get("/health").status == 403
    assert api.get("/health").code == "forbidden"
    reply = api.with_key(OPERATOR).get("/health")
    assert reply.status == 200
    assert reply.json["redis"].items() >= {"kind": "redis", "reachable": True}.items()


def test_openapi_knows_where_it_is_mounted(api: Api) -> None:
    found = api.get("/openapi.json").json
    assert found["openapi"] == "3.1.0"
    assert found["servers"] == [{"url": api.host.prefix or "/"}]
    assert sorted(found["paths"]) == sorted([*PATHS, *(view.path for view in PLAN_VIEWS)])


def test_auth_gets_the_shells_own_request(host: Host, usage: Usage) -> None:
    seen: list[str] = []

    def auth(request: Any) -> Viewer:
        seen.append(type(request).__name__)
        return Viewer.organization("acme")

    Api(host, host.make(usage, auth=auth)).get("/summary")
    wanted = {"in flask by blueprint": "LocalProxy", "in flask by dispatcher": "dict", "wsgi": "dict"}
    assert seen == [wanted.get(host.name, "Request")]


@pytest.mark.parametrize("auth", [None, "sk_1", 5])
def test_a_shell_without_auth_can_not_be_made(host: Host, usage: Usage, auth: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"KeyAuth\(usage\.keys\)"):
        host.make(usage, auth=auth)


@pytest.mark.parametrize("found", [True, "acme", {"org": "acme"}, Viewer, 1, []])
def test_what_is_no_viewer_opens_nothing(host: Host, usage: Usage, found: object, caplog: pytest.LogCaptureFixture) -> None:
    api = Api(host, host.make(usage, auth=lambda _: found))
    with caplog.at_level(logging.CRITICAL, "usage_middleware.web.errors"):
        reply = api.get("/summary")
    assert (reply.status, reply.code) == (500, "internal_error")


def test_an_error_of_auth_is_logged_and_says_nothing(host: Host, usage: Usage, caplog: pytest.LogCaptureFixture) -> None:
    def auth(_: object) -> Viewer:
        raise RuntimeError("the password is hunter2")

    reply = Api(host, host.make(usage, auth=auth)).get("/summary")
    assert (reply.status, reply.code) == (500, "internal_error")
    assert b"hunter2" not in reply.body
    assert b"Traceback" not in reply.body
    logged = [entry for entry in caplog.records if entry.name == "usage_middleware.web.errors"]
    assert reply.headers["x-request-id"] in logged[0].getMessage()
    assert logged[0].exc_info is not None


@dataclass(frozen=True)
class FrozenError(Exception):
    """None of its attributes can be set."""

    text: str = "no"


def first_from_second(_: object) -> Viewer:
    try:
        raise RuntimeError("first")
    except RuntimeError as first:
        try:
            raise RuntimeError("second")
        except RuntimeError as second:
            raise first from second


def of_itself(_: object) -> Viewer:
    error = RuntimeError("of itself")
    raise error from error


def frozen(_: object) -> Viewer:
    raise FrozenError


@pytest.mark.parametrize("auth", [first_from_second, of_itself, frozen])
def test_any_error_of_auth_is_answered(usage: Usage, auth: Callable[[object], Viewer]) -> None:
    """Errors may name each other as their causes, in a circle."""
    found: list[Reply] = []
    api = Api(HOSTS[4], HOSTS[4].make(usage, auth=auth))
    asking = threading.Thread(target=lambda: found.append(api.get("/summary")), daemon=True)
    asking.start()
    asking.join(20)
    assert [(reply.status, reply.code) for reply in found] == [(500, "internal_error")]


class Abort(Exception):
    def __init__(self, status: int) -> None:
        super().__init__("the framework's own")
        self.status_code = status


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Forbidden(), 403, "forbidden"),
        (Abort(401), 401, "unauthenticated"),
        (Abort(403), 403, "forbidden"),
        (Abort(429), 429, "rate_limited"),
        (UsageUnavailable("no"), 503, "usage_unavailable"),
        (ConnectionRefusedError("no"), 503, "usage_unavailable"),
    ],
)
def test_auth_may_refuse_in_its_own_way(host: Host, usage: Usage, error: Exception, status: int, code: str) -> None:
    def auth(_: object) -> Viewer:
        raise error

    reply = Api(host, host.make(usage, auth=auth)).get("/")
    assert (reply.status, reply.code, reply.json["success"]) == (status, code, False)
    assert ("retry-after" in reply.headers) == (status in (429, 503))


def test_async_auth_is_awaited_in_starlette_alone(host: Host, usage: Usage) -> None:
    async def auth(request: Any) -> Viewer | None:
        assert await request.body() == b""
        return Viewer.organization("acme") if request.headers.get("x-api-key") == "let me in" else None

    if "starlette" not in host.name and "fastapi" not in host.name:
        with pytest.raises(ConfigurationError, match="await"):
            host.make(usage, auth=auth)
        return
    api = Api(host, host.make(usage, auth=auth))
    assert api.get("/summary").status == 401
    assert api.get("/summary", x_api_key="let me in").json["org_id"] == "acme"


def test_a_key_viewer_sees_itself(host: Host, usage: Usage) -> None:
    record(usage, key="key_1", calls=2)
    record(usage, key="key_2", calls=5)
    api = Api(host, host.make(usage, auth=KeyAuth(usage.keys, sees="key")))
    assert api.with_key(ACME).get("/summary").json["total_calls"] == 2
    assert api.with_key(ACME_TEST).get("/?key_id=key_2").json["usage"]["requests"] == 5
    assert api.with_key(ACME_TEST).get("/?key_id=key_1").json["usage"]["requests"] == 0
    assert [row["key_id"] for row in api.with_key(ACME).get("/by-key").json["keys"]] == ["key_1"]


def test_keyauth_may_be_narrowed_by_a_callable(host: Host, usage: Usage) -> None:
    def sees(info: Any) -> Viewer | None:
        return Viewer.organization(info.org) if info.environment == "live" else None

    api = Api(host, host.make(usage, auth=KeyAuth(usage.keys, sees=sees)))
    assert api.with_key(ACME).get("/summary").status == 200
    assert api.with_key(ACME_TEST).get("/summary").status == 401


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_json_has_no_surprises(api: Api, path: str) -> None:
    json.loads(api.get(path).body, parse_constant=pytest.fail)
