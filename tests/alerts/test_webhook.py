"""The webhook against a real HTTPS server; signatures are checked by the package of Standard Webhooks."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from tests.alerts.receiver import Receiver, receiving
from usage_middleware import AlertEvent, Webhook
from usage_middleware.alerts import https
from usage_middleware.alerts.addresses import Refused, is_public, resolve
from usage_middleware.alerts.event import AlertData, AlertPeriod
from usage_middleware.alerts.webhook import NotDelivered
from usage_middleware.errors import ConfigurationError

OLD, NEW = ("whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
EVENT = AlertEvent(
    id="evt_1",
    type="usage.threshold_reached",
    timestamp="2026-11-20T13:45:20Z",
    data=AlertData(
        org_id="acme",
        key_id=None,
        limit="calls",
        threshold_percent=80,
        used=8_001,
        limit_amount=10_000,
        period=AlertPeriod(start="2026-11-01T00:00:00Z", end="2026-12-01T00:00:00Z"),
    ),
)
pytestmark = pytest.mark.slow


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path) as found:
        yield found


def hook(receiver: Receiver, **more: Any) -> Webhook:
    return Webhook(receiver.url, **{"secret": NEW, "allow_private": True, "ca": receiver.ca, **more})


def test_it_is_a_standard_webhook(receiver: Receiver) -> None:
    hook(receiver, secret=(NEW, OLD))(EVENT)
    (found,) = receiver.delivered
    for secret in (OLD, NEW):
        assert Verifier(secret).verify(found.body, dict(found.headers)) == json.loads(found.body)
    assert json.loads(found.body) == {
        "type": "usage.threshold_reached",
        "timestamp": "2026-11-20T13:45:20Z",
        "data": {
            "org_id": "acme",
            "key_id": None,
            "limit": "calls",
            "threshold_percent": 80,
            "used": 8001,
            "limit_amount": 10000,
            "period": {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"},
        },
    }
    assert (found.path, found.headers["host"], found.headers["webhook-id"]) == (
        "/hooks?of=acme",
        f"localhost:{receiver.server_port}",
        "evt_1",
    )


@pytest.mark.parametrize(("status", "is_final"), [(500, False), (302, False), (307, False), (404, False), (410, True)])
def test_what_is_no_delivery(receiver: Receiver, status: int, is_final: bool) -> None:
    receiver.status = status
    with pytest.raises(NotDelivered, match=str(status)) as failed:
        hook(receiver)(EVENT)
    assert failed.value.is_final is is_final
    # A redirect is not followed.
    assert len(receiver.delivered) == 1


@pytest.mark.parametrize("behaviour", ["hang", "drip"])
def test_it_is_not_waited_for(receiver: Receiver, behaviour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, "SECONDS", 0.5)
    receiver.behaviour = behaviour
    began = time.monotonic()
    with pytest.raises(NotDelivered):
        hook(receiver)(EVENT)
    assert time.monotonic() - began < 3


def test_a_certificate_that_is_not_known_is_refused(receiver: Receiver) -> None:
    with pytest.raises(NotDelivered, match="certificate"):
        hook(receiver, ca=None)(EVENT)
    assert not receiver.delivered


def test_nothing_is_sent_to_private_addresses(receiver: Receiver) -> None:
    with pytest.raises(NotDelivered, match="not public"):
        hook(receiver, allow_private=False)(EVENT)
    assert not receiver.delivered


def test_proxies_of_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    hook(receiver)(EVENT)
    assert len(receiver.delivered) == 1


def test_a_name_is_resolved_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that has another address the second time gets nothing past the check."""
    asked: list[object] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any, **named: Any) -> Any:
        asked.append(host)
        return real(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    hook(receiver)(EVENT)
    assert asked.count("localhost") == 1


def test_one_private_address_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(2, 1, 6, "", (address, 443)) for address in ("93.184.215.14", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **named: found)
    with pytest.raises(Refused, match=r"10\.0\.0\.1"):
        resolve("hooks.example", 443, allow_private=False)
    assert resolve("hooks.example", 443, allow_private=True) == ["93.184.215.14", "10.0.0.1"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2a00:1450:4001::1", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.168.1.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
        ("localhost", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("http://hooks.example/", NEW),
        ("https:///usage", NEW),
        ("https://user:password@hooks.example/", NEW),
        ("https://hooks.example/\r\nX: y", NEW),
        ("https://hooks.example/#part", NEW),
        ("https://hooks.example:99999/", NEW),
        ("https://hooks.example:0/", NEW),
        (7, NEW),
        ("https://hooks.example/", "secret"),
        ("https://hooks.example/", "whsec_%%%"),
        ("https://hooks.example/", "whsec_" + base64.b64encode(b"short").decode()),
        ("https://hooks.example/", ()),
        ("https://hooks.example/", (NEW, None)),
    ],
)
def test_what_it_can_be_made_of(url: Any, secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="of Webhook must"):
        Webhook(url, secret)


def test_it_shows_no_secret() -> None:
    found = repr(Webhook("https://hooks.example/path-that-is-secret", NEW))
    assert found == "<Webhook https://hooks.example>"
