"""Where `KeyAuth` reads keys: in the places that `Usage(credentials=...)` names, and never the key of one of two owners."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.conftest import ACME, ACME_REVOKED, ACME_TEST, GLOBEX, put_keys
from tests.web.hosts import HOSTS, Api, Host
from usage_middleware import KeyInfo
from usage_middleware.errors import ConfigurationError
from usage_middleware.web import KeyAuth, usage_app, usage_wsgi_app
from usage_middleware.web.flask import usage_blueprint

if TYPE_CHECKING:
    from usage_middleware import Usage

MakeUsage = Callable[..., "Usage"]
EVERY_HOST = pytest.mark.parametrize("host", HOSTS, ids=str)


def api_of(host: Host, usage: Usage, **options: Any) -> Api:
    return Api(host, host.make(usage, auth=KeyAuth(usage.keys, **options)))


def status(api: Api, path: str = "/summary", **headers: str) -> int:
    return api.get(path, **headers).status


@EVERY_HOST
def test_two_active_keys_of_two_owners_are_nobody(usage: Usage, host: Host) -> None:
    api = api_of(host, usage)
    assert status(api, x_api_key=GLOBEX, authorization=f"Bearer {ACME}") == 401
    assert status(api, x_api_key=ACME_TEST, authorization=f"Bearer {ACME}") == 401, "two keys of one organisation"
    assert status(api, x_api_key=ACME, authorization=f"Bearer {ACME}") == 200


@EVERY_HOST
def test_junk_and_revoked_keys_beside_an_active_one_change_nothing(usage: Usage, host: Host) -> None:
    api = api_of(host, usage)
    for shown in ("junk", ACME_REVOKED):
        assert status(api, x_api_key=shown, authorization=f"Bearer {ACME}") == 200
        assert status(api, x_api_key=shown) == 401


@EVERY_HOST
def test_the_usage_app_tells_it_where_keys_are(make_usage: MakeUsage, host: Host) -> None:
    usage = make_usage(credentials=("basic-user", "query:key"))
    put_keys(usage)
    api = api_of(host, usage)
    user = "Basic " + b64encode(f"{ACME}:".encode()).decode()
    assert status(api, authorization=user) == 200
    assert status(api, x_api_key=ACME, authorization=f"Bearer {ACME}") == 401
    assert status(api, f"/summary?key={ACME}&period=24h") == 200
    assert status(api, f"/summary?period=24h&k%65y={ACME}") == 200
    assert status(api, f"/summary?key={GLOBEX}", authorization=user) == 401
    assert status(api, f"/summary?key={ACME}&x=1") == 422


@EVERY_HOST
def test_it_may_be_told_other_places(usage: Usage, host: Host) -> None:
    api = api_of(host, usage, credentials=("x-console-key", "query:key"))
    assert status(api, x_console_key=ACME) == 200
    assert status(api, x_api_key=ACME) == 401
    assert status(api, f"/summary?key={ACME}") == 200


@EVERY_HOST
def test_a_function_gets_the_small_request(make_usage: MakeUsage, host: Host) -> None:
    def place(request: Any) -> str | None:
        assert request.method == "GET"
        found: str | None = request.headers.get("x-signed-key")
        return found and found.removeprefix("v1.")

    usage = make_usage(credentials=(place,))
    put_keys(usage)
    api = api_of(host, usage)
    assert status(api, x_signed_key=f"v1.{ACME}") == 200
    assert status(api, x_api_key=ACME) == 401


def test_one_key_auth_serves_two_usages(make_usage: MakeUsage, usage: Usage) -> None:
    auth = KeyAuth(usage.keys)
    host = HOSTS[4]
    other = make_usage(credentials=("x-other",))
    apis = [Api(host, host.make(one, auth=auth)) for one in (usage, other)]
    assert [status(api, x_api_key=ACME) for api in apis] == [200, 401]
    assert [status(api, x_other=ACME) for api in apis] == [401, 200]


@EVERY_HOST
def test_the_key_of_a_query_is_never_logged(make_usage: MakeUsage, host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    usage = make_usage(credentials=("query:key",))
    put_keys(usage)
    api = api_of(host, usage)
    for path in ("/summary", "/nothing", "/summary?period=never", "/by-key"):
        status(api, f"{path}{'&' if '?' in path else '?'}key={ACME}")
        status(api, f"{path}{'&' if '?' in path else '?'}key=sk_unknown")
    assert usage.flush()
    own = [record.getMessage() + str(record.exc_info or "") for record in caplog.records if record.name.startswith("usage")]
    assert not [line for line in own if ACME in line or "sk_unknown" in line]


class AsyncStore:
    """A key store that has to be awaited."""

    fails = False

    async def find(self, secret: str) -> KeyInfo | None:
        if self.fails:
            raise LookupError(f"no such key: {secret}")
        return KeyInfo("key_1", "One", org="acme") if secret == ACME else None


def test_an_async_find_is_awaited_in_asgi(usage: Usage, caplog: pytest.LogCaptureFixture) -> None:
    store: Any = AsyncStore()
    host = next(host for host in HOSTS if host.name == "starlette")
    api = Api(host, host.make(usage, auth=KeyAuth(store)))
    assert (status(api, x_api_key=ACME), status(api, x_api_key="junk")) == (200, 401)
    store.fails = True
    assert status(api, x_api_key=ACME) == 503
    assert "key store failed: find raised LookupError" in caplog.text
    assert ACME not in caplog.text


@pytest.mark.parametrize("make", [usage_wsgi_app, usage_blueprint])
def test_an_async_find_is_refused_where_nobody_awaits(usage: Usage, make: Callable[..., Any]) -> None:
    store: Any = AsyncStore()
    with pytest.raises(ConfigurationError, match="auth must be a plain function here"):
        make(usage, auth=KeyAuth(store))
    usage_app(usage, auth=KeyAuth(store))
