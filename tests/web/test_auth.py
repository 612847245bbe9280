"""`KeyAuth` on its own: what it accepts, and whom it takes for whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from tests.web.conftest import ACME, ACME_REVOKED, ACME_TEST
from usage_middleware import KeyInfo, Viewer
from usage_middleware.errors import ConfigurationError
from usage_middleware.web import KeyAuth
from usage_middleware.web.handler import viewer_from

if TYPE_CHECKING:
    from usage_middleware import Usage


def starlette(headers: Mapping[str, str]) -> Request:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})


def environ(headers: Mapping[str, str]) -> dict[str, Any]:
    shown = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    return {"wsgi.version": (1, 0), **shown}


BOTH = pytest.mark.parametrize("make", [starlette, environ])


@BOTH
@pytest.mark.parametrize(
    "headers",
    [{"X-API-Key": ACME}, {"apikey": ACME}, {"Authorization": f"Bearer {ACME}"}, {"Authorization": f"bearer  {ACME} "}],
)
def test_a_key_is_its_organization(usage: Usage, make: Any, headers: dict[str, str]) -> None:
    assert KeyAuth(usage.keys)(make(headers)) == Viewer.organization("acme")
    assert KeyAuth(usage.keys, sees="key")(make(headers)) == Viewer.key("acme", "key_1")


@BOTH
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": " "},
        {"X-API-Key": "sk_nobody"},
        {"X-API-Key": ACME_REVOKED},
        {"X-API-Key": "key_1"},
        {"Authorization": f"Digest {ACME}"},
        {"Authorization": f"Basic {ACME}"},
        {"Cookie": f"x-api-key={ACME}"},
    ],
)
def test_anybody_else_is_nobody(usage: Usage, make: Any, headers: dict[str, str]) -> None:
    assert KeyAuth(usage.keys)(make(headers)) is None


def test_a_revoked_key_is_nobody_at_once(usage: Usage) -> None:
    auth, request = KeyAuth(usage.keys), environ({"X-API-Key": ACME_TEST})
    assert auth(request) is not None
    usage.keys.revoke("acme", "key_2")
    assert auth(request) is None


def test_both_secrets_work_while_a_key_is_rotated(usage: Usage) -> None:
    usage.keys.put("acme", KeyInfo(id="key_1", name="Search backend"), secret="sk_new")
    for secret in (ACME, "sk_new"):
        assert KeyAuth(usage.keys)(environ({"X-API-Key": secret})) == Viewer.organization("acme")


class Forgetful:
    """A directory that does not say whose a key is."""

    def find(self, secret: str) -> KeyInfo:
        return KeyInfo(id="key_1", name="One", org=None)


@pytest.mark.parametrize("sees", ["org", "key"])
def test_a_directory_that_forgets_the_organization_opens_nothing(sees: Any) -> None:
    auth = KeyAuth(Forgetful(), sees=sees)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        auth(environ({"X-API-Key": "anything"}))


@pytest.mark.parametrize("keys", [None, "sk_1", {}, object()])
def test_a_directory_is_required(keys: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"usage\.keys"):
        KeyAuth(keys)


@pytest.mark.parametrize("sees", [None, "all", "organization", 1])
def test_what_it_sees_must_be_one_of_three(usage: Usage, sees: Any) -> None:
    with pytest.raises(ConfigurationError, match="sees must be"):
        KeyAuth(usage.keys, sees=sees)


def test_a_coroutine_is_no_viewer() -> None:
    async def auth(_: object) -> Viewer:
        raise NotImplementedError

    with pytest.raises(TypeError, match="coroutine"):
        viewer_from(auth, None)
