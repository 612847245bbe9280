"""A key directory of the application's own takes the place of ours, and no name that it gives makes anybody the operator."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.support import record_call
from tests.web.hosts import over_asgi
from usage_middleware import KeyInfo, UsageMiddleware, Viewer
from usage_middleware.errors import ConfigurationError
from usage_middleware.store.key_directory import KeyDirectory
from usage_middleware.store.keys import Directory
from usage_middleware.web import KeyAuth, usage_app

if TYPE_CHECKING:
    from usage_middleware import Usage

SECRET = "sk_own"


class Table:
    """One key, in no Redis."""

    def __init__(self, org: str, key_id: str) -> None:
        self.key = KeyInfo(key_id, "Own", org=org)

    def list(
        self, org: str, *, after: tuple[str, str] | None = None, limit: int | None = None, include_revoked: bool = False
    ) -> list[KeyInfo]:
        return [self.key] if org == self.key.org else []

    def get(self, org: str, key_id: str) -> KeyInfo | None:
        return self.get_many(org, [key_id]).get(key_id)

    def get_many(self, org: str, key_ids: Collection[str]) -> dict[str, KeyInfo]:
        return {self.key.id: self.key} if org == self.key.org and self.key.id in key_ids else {}

    def count(self, org: str) -> int:
        return len(self.list(org))

    def find(self, secret: str) -> KeyInfo | None:
        return self.key if secret == SECRET else None

    def resolve(self, digests: Collection[bytes]) -> dict[bytes, tuple[str, str, bool]]:
        own = KeyDirectory.digest(SECRET)
        return {own: (str(self.key.org), self.key.id, True)} if own in digests else {}


def homepage(request: Request) -> PlainTextResponse:
    return PlainTextResponse("home")


def test_customers_of_another_directory_see_their_own_calls(make_usage: Callable[..., Usage]) -> None:
    table: Directory = Table("acme", "key_1")
    usage = make_usage(keys=table)
    mount = Mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys), cache_seconds=0))
    send = over_asgi(UsageMiddleware(Starlette(routes=[Route("/", homepage), mount]), usage))
    for _ in range(3):
        send("GET", "/", {"x-api-key": SECRET})
    send("GET", "/", {"x-api-key": "sk_unknown"})
    assert usage.flush()
    found = send("GET", "/usage/by-key", {"x-api-key": SECRET}).json
    assert [(row["key_id"], row["name"], row["request_count"]) for row in found["keys"]] == [("key_1", "Own", 3)]
    assert (found["org_id"], found["total_keys"]) == ("acme", 1)
    assert send("GET", "/usage/by-key", {"x-api-key": "sk_unknown"}).status == 401


@pytest.mark.parametrize("org", ["*", "", "a" * 1000, "a:{b}\0", "(other)", "\udce9"])
def test_no_organisation_that_it_names_is_the_operators(make_usage: Callable[..., Usage], org: str) -> None:
    usage = make_usage(keys=Table(org, "(key)"), operator_tree=False)
    record_call(usage.recorder, KeyDirectory.digest(SECRET), "GET /", (), 200, 1_000, 1, ())
    assert usage.flush()
    assert not list(usage.engine.client.scan_iter(match=f"{usage.settings.namespace}:{{[*]}}:[bs][oe]*"))
    assert usage.reader.summary(Viewer.organization(org or "default")).total_calls == 1
    assert usage.reader.summary(Viewer.key(org or "default", "(key)")).total_calls == 1


def test_what_is_no_directory_is_refused(make_usage: Callable[..., Usage]) -> None:
    half: Any = type("Half", (), {"find": print})()
    with pytest.raises(ConfigurationError, match="missing: list, get, get_many, count, resolve"):
        make_usage(keys=half)
