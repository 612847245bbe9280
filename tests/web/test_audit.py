"""What operators and the application are told of who asks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.conftest import ACME, ACME_TEST, OPERATOR, OperatorOrKey
from tests.web.hosts import HOSTS, Api, Host
from usage_middleware import Viewer
from usage_middleware.errors import ConfigurationError
from usage_middleware.web import attempts

if TYPE_CHECKING:
    from usage_middleware import Usage

WSGI = HOSTS[4]


def test_on_access_hears_of_every_request(host: Host, usage: Usage) -> None:
    heard: list[tuple[Viewer | None, str | None, int]] = []

    def on_access(viewer: Viewer | None, view: str | None, status: int) -> None:
        heard.append((viewer, view, status))

    api = Api(host, host.make(usage, auth=OperatorOrKey(usage.keys), on_access=on_access, allow_origins=["http://a"]), ACME)
    for path in ("/summary", "/summary", "/?limit=0", "/by-key?org=globex", "/openapi.json", "/health", "/nothing"):
        api.get(path)
    api.with_key("sk_wrong").get("/series")
    api.with_key(OPERATOR).call("HEAD", "/health")
    api.call("POST", "/by-group")
    api.call("OPTIONS", "/summary", origin="http://a", access_control_request_method="GET")
    acme = Viewer.organization("acme")
    assert heard == [
        (acme, "summary", 200),
        (acme, "summary", 200),
        (acme, "details", 422),
        (acme, "by-key", 404),
        (acme, "openapi", 200),
        (acme, "health", 403),
        (None, None, 404),
        (None, "series", 401),
        (Viewer.operator(), "health", 200),
        (None, "by-group", 405),
    ]


def test_an_on_access_that_fails_changes_nothing(usage: Usage, caplog: pytest.LogCaptureFixture) -> None:
    def on_access(*_: object) -> None:
        raise RuntimeError("the audit is full")

    api = Api(WSGI, WSGI.make(usage, auth=OperatorOrKey(usage.keys), on_access=on_access), ACME)
    assert [api.get("/summary").status for _ in range(3)] == [200, 200, 200]
    assert [one.getMessage() for one in caplog.records] == ["on_access raised; the answer is not affected"]


def test_on_access_is_a_plain_function(usage: Usage) -> None:
    async def on_access(*_: object) -> None:
        raise NotImplementedError

    for given in (on_access, "audit"):
        options: dict[str, Any] = {"on_access": given}
        with pytest.raises(ConfigurationError, match="on_access"):
            WSGI.make(usage, auth=OperatorOrKey(usage.keys), **options)


def test_refused_attempts_are_counted_for_operators(usage: Usage) -> None:
    customers = Api(WSGI, WSGI.make(usage, auth=OperatorOrKey(usage.keys), limit="3/day"), ACME)
    for key in ("sk_wrong", "sk_wrong", None):
        customers.with_key(key).get("/summary")
    customers.get("/health")
    customers.get("/summary?org=globex")
    for _ in range(5):
        customers.with_key(ACME_TEST).get("/summary")
    customers.get("/summary?period=no")
    operators = Api(WSGI, WSGI.make(usage, auth=lambda _: Viewer.operator()))
    assert operators.get("/health").json["refused_attempts"] == {
        "forbidden": 1,
        "foreign_org": 1,
        "rate_limited": 2,
        "unauthenticated": 3,
    }


def test_refused_attempts_are_logged_once_a_minute(
    usage: Usage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    monkeypatch.setattr(attempts, "monotonic", lambda: now[0])
    api = Api(WSGI, WSGI.make(usage, auth=OperatorOrKey(usage.keys)), "sk_very_wrong")
    with caplog.at_level(logging.WARNING, "usage_middleware.web.attempts"):
        for _ in range(3):
            api.get("/summary")
        now[0] += 61
        for _ in range(2):
            api.with_key(ACME).get("/health")
    logged = [one.getMessage() for one in caplog.records]
    assert logged == ["the usage API refused: 1 unauthenticated", "the usage API refused: 1 forbidden, 2 unauthenticated"]
    assert not [line for line in logged if "wrong" in line]
