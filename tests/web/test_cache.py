"""Answers are kept for a minute, the same in every process."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.support import Clock, ServerProcess
from tests.web.conftest import ACME, ACME_TEST, GLOBEX, OPERATOR, OperatorOrKey
from tests.web.hosts import HOSTS, Api
from usage_middleware.errors import ConfigurationError
from usage_middleware.report.reports import VIEWS
from usage_middleware.store.answer_cache import MAX_BYTES, MAX_ENTRIES, PLAIN_BYTES, AnswerCache
from usage_middleware.store.schema import Schema
from usage_middleware.web import KeyAuth, usage_wsgi_app

if TYPE_CHECKING:
    from usage_middleware import Usage

PATHS = [view.path for view in VIEWS]
NAMES = [view.name for view in VIEWS]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[redis.Redis]:
    with server.client() as found:
        yield found


@pytest.fixture
def schema(usage: Usage) -> Schema:
    return Schema(usage.settings)


@pytest.fixture
def other_process(usage: Usage, make_usage: Callable[..., Usage]) -> Api:
    """The same usage API as another process serves it."""
    settings = usage.settings
    made = make_usage(
        dimensions=settings.dimensions,
        counters=settings.counters,
        rates=settings.rates,
        rank_by=settings.rank_by,
        untagged=settings.untagged,
    )
    return Api(HOSTS[0], HOSTS[0].make(made, auth=OperatorOrKey(made.keys)), ACME)


def kept(client: redis.Redis, schema: Schema, org: str = "acme") -> list[str]:
    entries: Any = client.zrange(schema.cache_index(org), 0, -1)
    return [name.decode() for name in entries]


@pytest.mark.parametrize("format", ["json", "csv"])
@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_another_process_gives_the_same_bytes(one_api: Api, other_process: Api, clock: Clock, path: str, format: str) -> None:
    first = one_api.get(f"{path}?format={format}")
    clock.advance(7)
    second = other_process.get(f"{path}?format={format}")
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("MISS", "HIT")
    assert second.headers["content-type"] == first.headers["content-type"]
    if (path, format) == ("/endpoints", "json"):
        changing = ("api_request_id", "request_completed_at")
        before, after = first.json, second.json
        assert all(before.pop(name) != after.pop(name) for name in changing)
        assert before == after
    else:
        assert first.body == second.body


def test_the_id_of_endpoints_is_that_of_the_request(one_api: Api) -> None:
    reply = one_api.get("/endpoints")
    assert reply.json["api_request_id"] == reply.headers["x-request-id"]
    assert reply.json["request_completed_at"] == "2026-11-20T13:45:20.000000Z"
    assert next(iter(reply.json)) == "api_request_id"


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_defaults_are_the_same_question(one_api: Api, path: str) -> None:
    spelled_out = {
        "/summary": "period=30d",
        "/": "timeframe=24h&limit=100&offset=0&include_errors=1&timezone=UTC",
        "/endpoints": "bucketing_size=day&include_unused_endpoints=false",
        "/by-group": "range=24h&group=method",
        "/by-key": "period=30d&offset=0",
        "/series": "period=30d&measure=calls&group=none&limit=5&timezone=UTC",
    }
    one_api.get(path)
    assert one_api.get(f"{path}?{spelled_out[path]}&_=1").headers["x-cache"] == "HIT"
    assert one_api.call("HEAD", path).headers["x-cache"] == "HIT"
    assert one_api.get(f"{path}?start=2026-11-19").headers["x-cache"] == "MISS"


def test_each_range_and_group_is_an_entry_of_its_own(one_api: Api) -> None:
    for query in ("range=7d", "range=30d", "range=7d&group=chain", "range=7d&limit=3", "range=7d&format=csv"):
        assert one_api.get(f"/by-group?{query}").headers["x-cache"] == "MISS"
        assert one_api.get(f"/by-group?{query}").headers["x-cache"] == "HIT"


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_viewers_do_not_share_entries(one_api: Api, path: str) -> None:
    for key in (ACME, GLOBEX, OPERATOR):
        assert one_api.with_key(key).get(f"{path}?org={'globex' if key == GLOBEX else 'acme'}").headers["x-cache"] == "MISS"
    assert one_api.with_key(ACME_TEST).get(f"{path}?org=acme").headers["x-cache"] == "HIT"


def test_key_viewers_do_not_share_entries(usage: Usage) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(usage, auth=KeyAuth(usage.keys, sees="key")))
    for path in PATHS:
        assert api.with_key(ACME).get(path).headers["x-cache"] == "MISS"
        assert api.with_key(ACME_TEST).get(path).headers["x-cache"] == "MISS"


def test_an_entry_lives_for_a_minute_in_its_organisations_tree(one_api: Api, client: redis.Redis, schema: Schema) -> None:
    one_api.get("/summary")
    (name,) = kept(client, schema)
    ttl: Any = client.pttl(schema.cache("acme", name))
    assert 55_000 < ttl <= 60_000
    index_ttl: Any = client.pttl(schema.cache_index("acme"))
    assert 55_000 < index_ttl <= 60_000
    client.delete(schema.cache("acme", name))
    assert one_api.get("/summary").headers["x-cache"] == "MISS"
    one_api.with_key(OPERATOR).get("/summary")
    assert len(kept(client, schema, "*")) == 1


@pytest.mark.parametrize("path", ["/summary?period=1h", "/summary?nonsense=1", "/by-group?group=no", "/?limit=0", "/none"])
def test_errors_are_not_kept(one_api: Api, client: redis.Redis, schema: Schema, path: str) -> None:
    for _ in range(2):
        assert "x-cache" not in one_api.get(path).headers
    one_api.with_key("sk_nobody").get("/summary")
    assert kept(client, schema) == []
    assert kept(client, schema, "*") == []


def test_without_a_cache_nothing_is_written(usage: Usage, client: redis.Redis, schema: Schema) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(usage, auth=KeyAuth(usage.keys), cache_seconds=0), ACME)
    for _ in range(2):
        assert api.get("/summary").headers["x-cache"] == "MISS"
    assert kept(client, schema) == []


@pytest.mark.parametrize("seconds", [-1, True, "60", 1.5, None])
def test_cache_seconds_must_be_a_number(usage: Usage, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="cache_seconds"):
        usage_wsgi_app(usage, auth=KeyAuth(usage.keys), cache_seconds=seconds)


@pytest.fixture
def cache(client: redis.Redis, schema: Schema) -> AnswerCache:
    return AnswerCache(lambda: client, schema, 60)


def test_of_two_that_miss_together_one_wins_and_both_answer_it(cache: AnswerCache) -> None:
    both_missed = threading.Barrier(2)
    answers: list[tuple[bytes, bool]] = []

    def ask(body: bytes) -> None:
        def make() -> bytes:
            both_missed.wait(10)
            return body

        answers.append(cache.answer("acme", "question", make))

    threads = [threading.Thread(target=ask, args=(body,)) for body in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers[0][0] == answers[1][0]
    assert sorted(is_kept for _, is_kept in answers) == [False, True]


def test_at_most_64_entries_an_organisation(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    for number in range(MAX_ENTRIES + 6):
        cache.answer("acme", f"{number:032x}", lambda: b"{}")
    assert len(kept(client, schema)) == MAX_ENTRIES
    alive = [name for name in range(MAX_ENTRIES + 6) if client.exists(schema.cache("acme", f"{name:032x}"))]
    assert len(alive) == MAX_ENTRIES
    assert alive[-1] == MAX_ENTRIES + 5
    assert cache.answer("acme", f"{MAX_ENTRIES + 5:032x}", lambda: b"new") == (b"{}", True)


def test_what_has_ended_is_pruned(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    client.zadd(schema.cache_index("acme"), {f"{number:032x}": number for number in range(1000)})
    cache.answer("acme", "f" * 32, lambda: b"{}")
    assert kept(client, schema) == ["f" * 32]


def test_no_entry_is_over_256_kb(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    noise = random.Random(1).randbytes(MAX_BYTES + 1)
    assert cache.answer("acme", "a", lambda: noise) == (noise, False)
    assert kept(client, schema) == []
    cache.answer("acme", "b", lambda: noise[: MAX_BYTES - 1024])
    assert kept(client, schema) == ["b"]
    assert client.strlen(schema.cache("acme", "b")) <= MAX_BYTES


@pytest.mark.parametrize("size", [1, PLAIN_BYTES, PLAIN_BYTES + 1, 8 * MAX_BYTES])
def test_a_long_answer_is_kept_compressed(cache: AnswerCache, client: redis.Redis, schema: Schema, size: int) -> None:
    answer = (b'{"timestamp":"2026-11-20T00:00:00Z","calls":123},' * (size // 40 + 1))[:size]
    assert [cache.answer("acme", "a", lambda: answer), cache.answer("acme", "a", lambda: b"new")] == [
        (answer, False),
        (answer, True),
    ]
    stored = client.strlen(schema.cache("acme", "a"))
    assert stored == size if size <= PLAIN_BYTES else stored < size / 10


def test_of_two_that_miss_together_both_get_the_long_answer_of_the_winner(cache: AnswerCache) -> None:
    first, second = b"[1," * PLAIN_BYTES, b"[2," * PLAIN_BYTES

    def slow() -> bytes:
        cache.answer("acme", "a", lambda: first)
        return second

    assert cache.answer("acme", "a", slow) == (first, True)


def test_a_redis_that_refuses_to_write_still_answers(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    client.set(schema.cache_index("acme"), "of a wrong type")
    assert cache.answer("acme", "a", lambda: b"{}") == (b"{}", False)


def test_in_a_cluster(cluster: Any, make_usage: Callable[..., Usage]) -> None:
    usage = make_usage(cluster.url)
    cache = AnswerCache(lambda: usage.engine.read_client, Schema(usage.settings), 60)
    for org in ("acme", "globex", "*", "a{b}c"):
        assert cache.answer(org, "a", lambda: b"{}") == (b"{}", False)
        assert cache.answer(org, "a", lambda: b"new") == (b"{}", True)


def test_deployments_that_declare_different_things_do_not_share_answers(
    one_api: Api, usage: Usage, make_usage: Callable[..., Usage]
) -> None:
    one_api.get("/endpoints")
    other = make_usage(dimensions=usage.settings.dimensions, counters=("pages",))
    reply = Api(HOSTS[0], HOSTS[0].make(other, auth=OperatorOrKey(other.keys)), ACME).get("/endpoints")
    assert reply.headers["x-cache"] == "MISS"
    assert all("num_pages" in row for row in reply.json["results"])
