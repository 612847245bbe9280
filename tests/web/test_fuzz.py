"""Whatever is asked, nothing fails on our side, and every refusal is one that is documented."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import record_call
from tests.web.conftest import ACME, OPERATOR, OperatorOrKey
from tests.web.hosts import HOSTS, Api, Host
from usage_middleware.report.reports import VIEWS
from usage_middleware.report.view import AnyView
from usage_middleware.web.errors import STATUS

if TYPE_CHECKING:
    from usage_middleware import Usage

NAMES = sorted({parameter.name for view in VIEWS for parameter in view.parameters})
CHOICES = sorted({choice for view in VIEWS for parameter in view.parameters for choice in parameter.choices})
TIMES = ["2026-11-20", "2026-11-19T05:30:00+05:30", "1970-01-01", "9000-12-31", "2026-03-29T02:30:00Z", "2024-02-29"]
ZONES = ["UTC", "Asia/Kathmandu", "Pacific/Chatham", "America/St_Johns", "Asia/Kolkata", "Africa/Monrovia", "Etc/GMT+12"]
NUMBERS, BOOLEANS = ["0", "1", "7", "1000"], ["true", "false"]
TEXTS = [
    "acme",
    "globex",
    "*",
    "(other)",
    "key_1",
    "live",
    "project",
    "chain",
    "endpoint",
    "key",
    "status",
    "org",
    "calls",
    "p95",
]
TEXTS += ["c.matches", "none", "method", "GET /v1/items"]
WORDS = [*CHOICES, *TIMES, *ZONES, *NUMBERS, *BOOLEANS, *TEXTS]

raw_bytes = st.binary(max_size=40).map(lambda some: quote(some, safe=""))
raw_text = st.text(max_size=20).map(lambda some: quote(some, safe="+"))
raw = raw_bytes | raw_text
likely = st.sampled_from(WORDS).map(lambda some: quote(some, safe="+"))
pairs = st.tuples(st.sampled_from(NAMES) | raw, likely | raw).map("=".join)
queries = st.lists(pairs, max_size=5).map("&".join) | st.text(st.characters(max_codepoint=255), max_size=60)
BY_KIND = {"integer": NUMBERS, "boolean": BOOLEANS, "time": TIMES, "date": TIMES[:1] + TIMES[2:4], "text": TEXTS, "zone": ZONES}


def sensible(view: AnyView) -> st.SearchStrategy[str]:
    """Queries whose every parameter is one that may be."""
    values = {one.name: st.sampled_from(one.choices or BY_KIND[one.kind]) for one in view.parameters}
    chosen = st.fixed_dictionaries({}, optional=values)
    return chosen.map(lambda given: "&".join(f"{name}={quote(value, safe='+')}" for name, value in given.items()))


targets = st.sampled_from(VIEWS).flatmap(lambda view: (queries | sensible(view)).map(lambda query: f"{view.path}?{query}"))
hosts = [HOSTS[0], HOSTS[4], HOSTS[6]]


@pytest.mark.parametrize("host", hosts, ids=str)
@pytest.mark.parametrize("key", [ACME, OPERATOR], ids=["organisation", "operator"])
def test_random_queries(host: Host, usage: Usage, key: str) -> None:
    record_call(usage.recorder, ("acme", "key_1"), "GET /v1/items", ("search", "(none)"), 200, 8_000, 100, (10, 8, 6))
    usage.flush()
    api = Api(host, host.make(usage, auth=OperatorOrKey(usage.keys)), key)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(targets)
    def check(target: str) -> None:
        reply = api.get(target)
        assert reply.status < 500, reply.body
        if reply.status != 200:
            assert reply.status == STATUS[reply.code]
            assert {"error", "code", "message", "param"} <= set(reply.json)

    check()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.text(max_size=30).map(lambda some: f"/{quote(some)}"), method=st.sampled_from(["GET", "POST", "TRACE"]))
def test_random_paths(one_api: Api, path: str, method: str) -> None:
    assert one_api.call(method, path).status in (200, 403, 404, 405)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=50))
def test_random_headers(one_api: Api, text: str) -> None:
    assert one_api.get("/summary", accept=text).status == 200
    assert one_api.with_key(None).get("/summary", authorization=text).status == 401
    assert one_api.with_key(None).get("/summary", x_api_key=text).status == 401


def test_an_unknown_method_is_refused(usage: Usage) -> None:
    api = Api(HOSTS[0], HOSTS[0].make(usage, auth=OperatorOrKey(usage.keys)), ACME)
    assert api.call("BREW", "/summary").status == 405
