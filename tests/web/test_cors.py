"""CORS: pages of exact origins may ask from a browser, and nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.web.conftest import ACME
from tests.web.hosts import Api, Host
from usage_middleware.errors import ConfigurationError
from usage_middleware.web import KeyAuth

if TYPE_CHECKING:
    from usage_middleware import Usage

CONSOLE = "https://console.example.com"
OTHERS = [
    "null",
    "",
    "*",
    "https://console.example.com.evil.example",
    "https://evil.example",
    "http://console.example.com",
    "https://console.example.com:8443",
    "https://CONSOLE.example.com",
    "https://console.example.com/",
    "https://console.example.com, https://evil.example",
    "https://sub.console.example.com",
]


@pytest.fixture
def asked() -> list[object]:
    """The requests that `auth` was asked about."""
    return []


@pytest.fixture
def api(host: Host, usage: Usage, asked: list[object]) -> Api:
    key_auth = KeyAuth(usage.keys)

    def auth(request: Any) -> Any:
        asked.append(request)
        return key_auth(request)

    return Api(host, host.make(usage, auth=auth, allow_origins=[CONSOLE, "http://localhost:5173"]), ACME)


def of_cors(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("path", ["/summary", "/", "/openapi.json", "/summary?period=no", "/nothing"])
@pytest.mark.parametrize("key", [ACME, None])
def test_an_allowed_origin_may_read_every_answer(api: Api, path: str, key: str | None) -> None:
    reply = api.with_key(key).get(path, origin=CONSOLE)
    assert reply.headers["access-control-allow-origin"] == CONSOLE
    assert "X-Request-Id" in reply.headers["access-control-expose-headers"]
    assert "Retry-After" in reply.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in reply.headers
    assert "Origin" in reply.headers["vary"]


@pytest.mark.parametrize("origin", OTHERS)
def test_other_origins_get_nothing(api: Api, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        reply = api.call(method, "/summary", origin=origin, access_control_request_method="GET")
        assert of_cors(reply.headers) == {}


def test_a_preflight_is_answered_before_auth(api: Api, asked: list[object]) -> None:
    for path in ("/summary", "/", "/nothing"):
        reply = api.with_key(None).call(
            "OPTIONS",
            path,
            origin="http://localhost:5173",
            access_control_request_method="GET",
            access_control_request_headers="authorization, x-api-key",
        )
        assert (reply.status, reply.body) == (204, b"")
        assert reply.headers["access-control-allow-origin"] == "http://localhost:5173"
        assert reply.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
        assert reply.headers["access-control-allow-headers"] == "authorization, x-api-key"
        assert reply.headers["access-control-max-age"] == "600"
        assert "access-control-allow-credentials" not in reply.headers
    assert asked == []


@pytest.mark.parametrize("wanted", ["a b", "x-api-key\x0bx", "x" * 65, ",".join(["a"] * 40), "é", "a:b"])
def test_what_is_no_list_of_headers_is_not_repeated(api: Api, wanted: str) -> None:
    reply = api.call(
        "OPTIONS",
        "/summary",
        origin=CONSOLE,
        access_control_request_method="GET",
        access_control_request_headers=wanted,
    )
    assert reply.status == 204
    assert "access-control-allow-headers" not in reply.headers


def test_other_methods_are_still_refused(api: Api) -> None:
    reply = api.call("POST", "/summary", origin=CONSOLE)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert reply.headers["access-control-allow-origin"] == CONSOLE
    options = api.call("OPTIONS", "/summary")
    assert (options.status, options.headers["allow"], of_cors(options.headers)) == (204, "GET, HEAD, OPTIONS", {})


def test_it_is_off_by_default(host: Host, usage: Usage) -> None:
    api = Api(host, host.make(usage, auth=KeyAuth(usage.keys)), ACME)
    assert of_cors(api.get("/summary", origin=CONSOLE).headers) == {}
    preflight = api.call("OPTIONS", "/summary", origin=CONSOLE, access_control_request_method="GET")
    assert (preflight.status, preflight.headers["allow"], of_cors(preflight.headers)) == (405, "GET, HEAD", {})


def test_cookies_only_if_they_are_allowed(host: Host, usage: Usage) -> None:
    api = Api(host, host.make(usage, auth=KeyAuth(usage.keys), allow_origins=(CONSOLE,), allow_credentials=True), ACME)
    assert api.get("/summary", origin=CONSOLE).headers["access-control-allow-credentials"] == "true"
    preflight = api.call("OPTIONS", "/summary", origin=CONSOLE, access_control_request_method="GET")
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert of_cors(api.get("/summary", origin="null").headers) == {}


@pytest.mark.parametrize(
    "origins",
    [
        CONSOLE,
        ["*"],
        ["null"],
        [None],
        ["https://console.example.com/"],
        ["console.example.com"],
        ["https://*.example.com"],
        ["https://Console.example.com"],
        ["https://user@example.com"],
        [""],
        5,
        None,
        {CONSOLE: True},
    ],
)
def test_origins_are_exact(host: Host, usage: Usage, origins: Any) -> None:
    with pytest.raises(ConfigurationError, match="allow_origins"):
        host.make(usage, auth=KeyAuth(usage.keys), allow_origins=origins)


@pytest.mark.parametrize("allowed", [True, "yes", None])
def test_cookies_need_origins(host: Host, usage: Usage, allowed: Any) -> None:
    with pytest.raises(ConfigurationError, match="allow_credentials"):
        host.make(usage, auth=KeyAuth(usage.keys), allow_credentials=allowed)
