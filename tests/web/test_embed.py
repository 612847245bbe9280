"""Embed tokens: what they open, and what not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import ServerProcess, eventually
from tests.web.conftest import ACME, OperatorOrKey
from tests.web.hosts import HOSTS, Api
from usage_middleware import Viewer
from usage_middleware.errors import ConfigurationError
from usage_middleware.store import tickets
from usage_middleware.web import usage_app

if TYPE_CHECKING:
    from usage_middleware import Usage

PORTAL = "https://portal.example.com"
ORG, KEY = Viewer.organization("acme"), Viewer.key("acme", "key_2")


def mounted(usage: Usage, name: str = "customers", origins: tuple[str, ...] = (PORTAL,)) -> Api:
    send = HOSTS[4].make(usage, auth=OperatorOrKey(usage.keys), name=name, embed_origins=list(origins), cache_seconds=0)
    return Api(HOSTS[4], send)


def given(usage: Usage, viewer: Viewer = ORG, audience: str = "customers", origin: str = PORTAL) -> str:
    token = usage.reader.embed_token(viewer, audience=audience, origin=origin)
    assert re.fullmatch(r"uet_[\w-]{43}", token)
    return f"Bearer {token}"


def test_what_it_opens(usage: Usage) -> None:
    api = mounted(usage)
    assert api.get("/summary", authorization=given(usage)).json["org_id"] == "acme"
    assert api.get("/by-key", authorization=given(usage, KEY)).json["total_keys"] == 1
    begin = api.get("/dashboard/start", authorization=given(usage, KEY)).json
    assert begin["viewer"] == {"org": "acme", "key": "key_2", "operator": False}
    assert begin["framed_by"] == PORTAL
    assert api.get("/health", authorization=given(usage)).status == 403
    assert api.get("/summary?org=globex", authorization=given(usage)).status == 404


def test_it_is_for_get_alone(usage: Usage) -> None:
    assert mounted(usage).call("POST", "/summary", authorization=given(usage)).status == 405


def test_another_mount_and_another_origin_refuse_it(usage: Usage) -> None:
    assert mounted(usage, "operators").get("/summary", authorization=given(usage)).status == 401
    assert mounted(usage, origins=("https://other.example",)).get("/summary", authorization=given(usage)).status == 401
    assert mounted(usage, origins=()).get("/summary", authorization=given(usage)).status == 401


def test_a_revoked_key_ends_it(usage: Usage) -> None:
    api, token = mounted(usage), given(usage, KEY)
    assert api.get("/summary", authorization=token).status == 200
    usage.keys.revoke("acme", "key_2")
    assert api.get("/summary", authorization=token).status == 401


def test_its_time_is_over(usage: Usage, server: ServerProcess, namespace: str) -> None:
    api, token = mounted(usage), given(usage)
    assert api.get("/summary", authorization=token).status == 200
    with server.client() as client:
        (name,) = client.keys(f"{namespace}:*:embed:[0-9a-f]*")
        client.pexpire(name, 1)
        eventually(lambda: not client.exists(name))
    found = api.get("/summary", authorization=token)
    assert (found.status, found.code) == (401, "unauthenticated")


def test_it_is_no_session(usage: Usage) -> None:
    """Shown as a cookie, or as an API key, it opens nothing."""
    api, token = mounted(usage), given(usage).removeprefix("Bearer ")
    assert api.get("/summary", cookie=f"usage_0={token}").status == 401
    assert api.get("/summary", x_api_key=token).status == 401


@pytest.mark.parametrize("token", ["uet_", "uet_a", "uet_" + "a" * 43, "uet_" + "a" * 9_000, "uet_*", "uet_\x7f"])
def test_a_forged_token(usage: Usage, token: str) -> None:
    assert mounted(usage).get("/summary", authorization=f"Bearer {token}").status == 401


def test_what_redis_holds_opens_nothing(usage: Usage, server: ServerProcess, namespace: str) -> None:
    token = given(usage)
    with server.client() as client:
        (name,) = client.keys(f"{namespace}:*:embed:[0-9a-f]*")
        assert 0 < client.ttl(name) <= 900
        held = name + client.get(name)
    assert token.removeprefix("Bearer uet_").encode() not in held
    digest = name.decode().rpartition(":")[2]
    assert mounted(usage).get("/summary", authorization=f"Bearer uet_{digest}").status == 401


def test_a_caller_has_so_many_at_once(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tickets.MOST_TICKETS, "embed", 2)
    api, of_key = mounted(usage), given(usage, KEY)
    tokens = [given(usage) for _ in range(3)]
    assert [api.get("/summary", authorization=token).status for token in (*tokens, of_key)] == [401, 200, 200, 200]


def test_a_session_is_no_embed_token(usage: Usage) -> None:
    from usage_middleware.report.embed import tickets_of
    from usage_middleware.store.tickets import Ticket

    token = tickets_of(usage.reader).issue("session", Ticket("acme", "key_1", "customers"), 60)
    assert mounted(usage).get("/summary", authorization=f"Bearer uet_{token}").status == 401


def test_the_chart_alone(usage: Usage) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(usage, auth=OperatorOrKey(usage.keys), name="a", allow_origins=[PORTAL]))
    begin = api.get("/dashboard/chart.js", origin=PORTAL)
    assert (begin.status, begin.headers["cache-control"]) == (200, "public, max-age=300")
    found = re.fullmatch(rb'import "\./(\w+/chart\.js)";\n', begin.body)
    assert found
    file = api.get(f"/dashboard/{found[1].decode()}", origin=PORTAL)
    assert file.headers["content-type"] == "text/javascript; charset=utf-8"
    assert file.headers["access-control-allow-origin"] == PORTAL
    assert "Origin" in file.headers["vary"]
    # Nothing of the page itself is in it: the page would begin to run.
    assert b"location" not in file.body
    assert b"document.cookie" not in file.body
    assert (
        "access-control-allow-origin" not in api.get(f"/dashboard/{found[1].decode()}", origin="https://evil.example").headers
    )


def test_the_frame(usage: Usage) -> None:
    api = mounted(usage)
    framed = api.get("/dashboard?embed=1")
    assert framed.status == 200
    assert f"frame-ancestors 'self' {PORTAL};" in framed.headers["content-security-policy"]
    assert b"acme" not in framed.body
    own = api.get("/dashboard", x_api_key=ACME)
    assert "frame-ancestors 'self';" in own.headers["content-security-policy"]
    assert api.get("/dashboard/start").status == 401
    assert mounted(usage, origins=()).get("/dashboard?embed=1").status == 401


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"viewer": Viewer.operator()}, "never for operators"),
        ({"viewer": "acme"}, "never for operators"),
        ({"seconds": 0}, "from 1 to 3600"),
        ({"seconds": 3601}, "from 1 to 3600"),
        ({"seconds": True}, "from 1 to 3600"),
        ({"audience": ""}, "name of the usage app"),
        ({"origin": "*"}, "must be that of the page"),
        ({"origin": f"{PORTAL}/page"}, "must be that of the page"),
    ],
)
def test_arguments(usage: Usage, wrong: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"viewer": ORG, "seconds": 900, "audience": "customers", "origin": PORTAL, **wrong}
    with pytest.raises(ConfigurationError, match=message):
        usage.reader.embed_token(arguments.pop("viewer"), **arguments)


def test_origins_need_a_name(usage: Usage) -> None:
    with pytest.raises(ConfigurationError, match="needs a name"):
        usage_app(usage, auth=OperatorOrKey(usage.keys), embed_origins=[PORTAL])
    with pytest.raises(ConfigurationError, match="embed_origins must hold exact origins"):
        usage_app(usage, auth=OperatorOrKey(usage.keys), name="a", embed_origins=["*"])
