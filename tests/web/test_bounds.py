"""Work is bounded before it is done: nothing is read for a question that is too large, and answers have an end."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import record_call
from tests.web.conftest import ACME, GLOBEX, OperatorOrKey
from tests.web.hosts import HOSTS, Api, watched
from usage_middleware import KeyInfo, Viewer, gil
from usage_middleware.interpreter import TURN, YOUNG
from usage_middleware.report import by_key, distributions, endpoint_sums, size
from usage_middleware.report.distributions import DEFAULTS
from usage_middleware.store.answer_cache import MAX_ANSWER
from usage_middleware.store.members import key_member
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.web import budget
from usage_middleware.web.budget import MOST_OF_A_VIEWER, budget_of

if TYPE_CHECKING:
    from usage_middleware import Usage

DAYS = "start_date=2026-11-01&end_date=2026-11-20"


def record(usage: Usage, endpoints: int, key: str = "key_1") -> None:
    """Call each endpoint, the later ones more often."""
    for number in range(endpoints):
        for _ in range(number + 1):
            caller = "acme", key_member(key)
            record_call(usage.recorder, caller, f"GET /v1/{number:02d}", ("search", "eth"), 200, 8_000, 100, (10, 8, 6))
    assert usage.flush()


# The endpoints of each key.


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", 20),
        ("endpoints_per_key=3", 3),
        ("endpoints_per_key=0", 0),
        ("endpoints_per_key=20", 20),
        ("endpoints_per_key=24&limit=9", 24),
        ("endpoints_per_key=25&limit=9", 25),
        ("endpoints_per_key=1000&limit=9", 25),
    ],
)
def test_the_rest_of_a_distribution_is_other(one_api: Api, usage: Usage, query: str, named: int) -> None:
    record(usage, 25)
    found = one_api.get(f"/by-key?{query}").json["keys"][0]
    assert (found["key_id"], found["request_count"]) == ("key_1", 325)
    distribution = found["endpoint_distribution"]
    assert sum(distribution.values()) == 325
    assert list(distribution)[:named] == [f"GET /v1/{number:02d}" for number in reversed(range(25))][:named]
    assert list(distribution)[named:] == (["(other)"] if named < 25 else [])


@pytest.mark.parametrize(
    "query", ["endpoints_per_key=21", "endpoints_per_key=1001&limit=5", "endpoints_per_key=-1", "endpoints_per_key=x"]
)
def test_how_many_endpoints_are_possible(one_api: Api, query: str) -> None:
    reply = one_api.get(f"/by-key?{query}")
    assert (reply.status, reply.code, reply.json["param"]) == (422, "invalid_parameter", "endpoints_per_key")
    assert "endpoints_per_key must be a whole number from 0 to" in reply.json["message"]


def test_by_default_there_are_fewer_for_many_keys() -> None:
    found = [distributions._default(keys) for keys in range(1, by_key.UNPAGED + 1)]
    assert sorted(found, reverse=True) == found
    assert set(found) == set(DEFAULTS)
    assert found[999] == 20
    assert found[-1] == 2
    for keys, number in enumerate(found, 1):
        assert keys * (350 + number * 145) <= MAX_ANSWER


def test_what_can_not_be_read_is_not_named(one_api: Api, usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    record(usage, 3)
    monkeypatch.setattr(distributions, "MOST_MEMBERS", 5)
    with watched(ReadBatch, "key_board") as boards:
        found = one_api.get("/by-key").json["keys"][0]
        assert found["endpoint_distribution"] == {"(other)": 6}
        refused = one_api.get("/by-key?endpoints_per_key=2")
    assert boards == []
    assert (refused.status, refused.code, refused.json["param"]) == (422, "window_too_wide", "endpoints_per_key")
    monkeypatch.setattr(distributions, "MOST_MEMBERS", 10**6)
    monkeypatch.setattr(distributions, "MOST_BOARDS", 1)
    assert one_api.get("/by-key?endpoints_per_key=2").code == "window_too_wide"


def test_many_keys_are_read_a_few_at_a_time(one_api: Api, usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        usage.keys.put("acme", KeyInfo(id=f"many_{number}", name=f"Many {number}"), secret=f"sk_many_{number}")
        record(usage, number + 1, f"many_{number}")
    whole = one_api.get("/by-key?sort_by=name").json["keys"]
    monkeypatch.setattr(distributions, "_TOGETHER", 2)
    assert one_api.get("/by-key?sort_by=name&_=1&limit=1000").json["keys"] == whole


def test_too_many_keys_are_refused_before_any_is_read(one_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_key, "UNPAGED", 1)
    with watched(ReadBatch, "read") as reads:
        reply = one_api.get("/by-key")
    assert (reply.status, reply.code, reads) == (422, "window_too_wide", [])
    assert "There are 2 keys: ask for pages" in reply.json["message"]
    assert one_api.get("/by-key?limit=1").status == 200


# Buckets and bytes.


def test_too_many_buckets_are_refused_before_any_is_read(one_api: Api, usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    record(usage, 3)
    monkeypatch.setattr(endpoint_sums, "MOST_BUCKETS_IN_ALL", 59)
    with watched(ReadBatch, "series") as series:
        reply = one_api.get(f"/endpoints?{DAYS}")
    assert (reply.status, reply.code, series) == (422, "window_too_wide", [])
    monkeypatch.setattr(endpoint_sums, "MOST_BUCKETS_IN_ALL", 60)
    assert one_api.get(f"/endpoints?{DAYS}").status == 200


def test_too_many_bytes_are_refused_before_any_is_read(one_api: Api, usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    record(usage, 3)
    monkeypatch.setattr(size, "MAX_ANSWER", 5_000)
    with watched(ReadBatch, "series") as series:
        reply = one_api.get(f"/endpoints?{DAYS}")
    assert (reply.status, reply.code, series) == (422, "answer_too_large", [])
    assert "limit=" in reply.json["message"]


@pytest.mark.parametrize("format", ["json", "csv"])
@pytest.mark.parametrize("path", ["/summary", "/", "/endpoints", "/by-group", "/by-key", "/series"])
def test_an_answer_has_an_end(one_api: Api, usage: Usage, monkeypatch: pytest.MonkeyPatch, path: str, format: str) -> None:
    record(usage, 3)
    monkeypatch.setattr(size, "MAX_ANSWER", 10)
    for _ in range(2):
        reply = one_api.get(f"{path}?format={format}")
        assert (reply.status, reply.code) == (422, "answer_too_large")
        assert "x-cache" not in reply.headers


# What questions cost that run at once.


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_OF_A_VIEWER", 5)
    monkeypatch.setattr(budget, "ALWAYS", 0)
    monkeypatch.setattr(budget, "MOST_SECONDS", 0.05)


@pytest.mark.usefixtures("cheap")
def test_a_viewer_that_asks_too_much_at_once_has_to_wait(usage: Usage) -> None:
    for host in HOSTS:
        api = Api(host, host.make(usage, auth=OperatorOrKey(usage.keys), cache_seconds=0), ACME)
        assert api.get("/by-key").status == 200
        with budget_of(usage.reader).question(Viewer.organization("acme")):
            # It waits for Redis, as on another thread.
            gil.asleep()
            gil.set_pace(None)
            reply = api.get("/by-key")
            assert (reply.status, reply.code, reply.headers["retry-after"]) == (429, "rate_limited", "1")
            assert api.with_key(GLOBEX).get("/by-key").status == 200
        assert api.get("/by-key").status == 200


@pytest.mark.usefixtures("cheap")
def test_what_is_cached_costs_nothing(one_api: Api, usage: Usage) -> None:
    whole = one_api.get("/by-key").json
    with budget_of(usage.reader).question(Viewer.organization("acme")):
        assert one_api.get("/by-key").json == whole


#: What a page asks at once.
PAGE = (
    "/summary?period=30d",
    "/?timeframe=30d",
    "/series?group=endpoint&granularity=day",
    "/series?group=endpoint&measure=p95&granularity=day",
    "/series?group=key&granularity=day",
    "/by-group?group=key&range=30d",
    f"/endpoints?{DAYS}&timezone=Asia/Kolkata",
    "/by-key?period=30d",
)


def test_the_questions_of_a_page_fit_into_the_budget(one_api: Api, usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        caller = "acme", key_member(f"many_{number}")
        record_call(usage.recorder, caller, f"GET /v1/{number % 50}", ("search", "eth"), 200, 8_000, 100, (10, 8, 6))
    assert usage.flush()
    costs: list[int] = []
    monkeypatch.setattr(budget.Budget, "charge", lambda _, question, cost: costs.append(cost))
    for path in PAGE:
        assert one_api.get(path).status == 200
    assert MOST_OF_A_VIEWER / 4 < sum(costs) < MOST_OF_A_VIEWER


def test_while_an_answer_is_made_turns_are_short_and_collections_few(one_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[float, int]] = []
    monkeypatch.setattr(budget.Budget, "charge", lambda *_: found.append((sys.getswitchinterval(), gc.get_threshold()[0])))
    before = sys.getswitchinterval(), gc.get_threshold()
    assert one_api.get("/by-key").status == 200
    assert found
    assert {(round(turn * 1e6), young) for turn, young in found} == {(TURN, YOUNG)}
    assert (sys.getswitchinterval(), gc.get_threshold()) == before


def test_programs_have_no_budget(usage: Usage, make_usage: Callable[..., Usage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_IN_ALL", 0)
    with budget_of(usage.reader).question(Viewer.operator()):
        report: Any = usage.reader.by_key(org="acme")
    assert report.total_keys == 2
