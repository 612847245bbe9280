"""A usage API over a real Redis, with the keys of two organisations, through each host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.hosts import HOSTS, Api, Host
from usage_middleware import KeyInfo, Viewer
from usage_middleware.web import KeyAuth

if TYPE_CHECKING:
    from usage_middleware import Usage

#: Secrets of the keys that `usage` knows.
ACME, ACME_TEST, ACME_REVOKED, GLOBEX = "sk_acme", "sk_acme_test", "sk_acme_revoked", "sk_globex"
OPERATOR = "sk_operator"

MakeApi = Callable[..., Api]


def put_keys(usage: Usage) -> None:
    """Three keys of acme, one of them revoked, and one of globex."""
    usage.keys.put("acme", KeyInfo(id="key_1", name="Search backend"), secret=ACME)
    usage.keys.put("acme", KeyInfo(id="key_2", name="Staging", environment="test"), secret=ACME_TEST)
    usage.keys.put("acme", KeyInfo(id="key_3", name="Old one"), secret=ACME_REVOKED)
    usage.keys.revoke("acme", "key_3")
    usage.keys.put("globex", KeyInfo(id="key_9", name="Globex"), secret=GLOBEX)


class OperatorOrKey(KeyAuth):
    """KeyAuth that also knows one secret of an operator's."""

    def __call__(self, request: Any) -> Viewer | None:
        headers = getattr(request, "headers", None)
        shown = request.get("HTTP_X_API_KEY") if headers is None else headers.get("x-api-key")
        return Viewer.operator() if shown == OPERATOR else super().__call__(request)


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    """Two organisations, a dimension, three counters."""
    made = make_usage(
        dimensions=("project", "chain"),
        counters=("input_records", "resolvable_records", "matches"),
        rates={
            "overall_match_rate": ("matches", "input_records"),
            "resolvable_match_rate": ("matches", "resolvable_records"),
        },
        rank_by="matches",
        untagged={"project": "default"},
    )
    put_keys(made)
    return made


@pytest.fixture(params=HOSTS, ids=str)
def host(request: pytest.FixtureRequest) -> Host:
    """Each way to mount the usage API."""
    found: Host = request.param
    return found


@pytest.fixture
def api(host: Host, usage: Usage) -> Api:
    """The usage API in each host, asked with a key of acme."""
    return Api(host, host.make(usage, auth=OperatorOrKey(usage.keys)), ACME)


@pytest.fixture
def one_api(usage: Usage) -> Api:
    """The usage API in one host, for what has nothing to do with hosts."""
    return Api(HOSTS[4], HOSTS[4].make(usage, auth=OperatorOrKey(usage.keys)), ACME)
