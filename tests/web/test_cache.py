"""Answers are kept for a minute, the same in every process."""

from __future__ import annotations

import random
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.support import Clock, ServerProcess
from tests.web.conftest import ACME, ACME_TEST, GLOBEX, OPERATOR, OperatorOrKey
from tests.web.hosts import HOSTS, Api
from usage_middleware.errors import ConfigurationError
from usage_middleware.report.reports import VIEWS
from usage_middleware.store.answer_cache import (
    MAX_ANSWER,
    MAX_BYTES,
    MAX_ENTRIES,
    MAX_ENTRIES_IN_ALL,
    PLAIN_BYTES,
    AnswerCache,
    Entry,
)
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


def entry(name: str, org: str = "acme", viewer: str = "organization") -> Entry:
    return Entry(org, viewer, name)


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

        answers.append(cache.answer(entry("question"), make))

    threads = [threading.Thread(target=ask, args=(body,)) for body in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers[0][0] == answers[1][0]
    assert sorted(is_kept for _, is_kept in answers) == [False, True]


def test_at_most_64_entries_a_viewer(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    for number in range(MAX_ENTRIES + 6):
        cache.answer(entry(f"{number:032x}"), lambda: b"{}")
    assert len(kept(client, schema)) == MAX_ENTRIES
    alive = [name for name in range(MAX_ENTRIES + 6) if client.exists(schema.cache("acme", f"{name:032x}"))]
    assert len(alive) == MAX_ENTRIES
    assert alive[-1] == MAX_ENTRIES + 5
    assert cache.answer(entry(f"{MAX_ENTRIES + 5:032x}"), lambda: b"new") == (b"{}", True)


def test_one_viewer_evicts_nothing_of_another(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    cache.answer(entry("mine", viewer="key one"), lambda: b"{}")
    for number in range(MAX_ENTRIES + 6):
        cache.answer(entry(f"{number:032x}", viewer="key two"), lambda: b"{}")
    assert cache.answer(entry("mine", viewer="key one"), lambda: b"new") == (b"{}", True)
    assert len(kept(client, schema)) == MAX_ENTRIES + 1


def test_at_most_1024_entries_an_organisation(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    for number in range(MAX_ENTRIES_IN_ALL + 70):
        cache.answer(entry(f"{number:032x}", viewer=f"key {number // 50}"), lambda: b"{}")
    assert len(kept(client, schema)) == MAX_ENTRIES_IN_ALL
    assert len(client.keys(f"{schema.cache('acme', '')}{'[0-9a-f]' * 32}")) == MAX_ENTRIES_IN_ALL
    assert cache.answer(entry(f"{0:032x}", viewer="key 0"), lambda: b"new") == (b"{}", True)
    assert cache.answer(entry("one more", viewer="key new"), lambda: b"new") == (b"new", False)
    assert cache.answer(entry("one more", viewer="key new"), lambda: b"newer") == (b"newer", False)


def test_what_has_ended_is_pruned(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    client.zadd(schema.cache_index("acme"), {f"{number:032x}": number for number in range(1000)})
    cache.answer(entry("f" * 32), lambda: b"{}")
    assert kept(client, schema) == ["f" * 32]


def test_no_entry_is_over_256_kb(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    noise = random.Random(1).randbytes(MAX_BYTES + 1)
    assert cache.answer(entry("a"), lambda: noise) == (noise, False)
    assert kept(client, schema) == []
    cache.answer(entry("b"), lambda: noise[: MAX_BYTES - 1024])
    assert kept(client, schema) == ["b"]
    assert client.strlen(schema.cache("acme", "b")) <= MAX_BYTES


@pytest.mark.parametrize("size", [1, PLAIN_BYTES, PLAIN_BYTES + 1, 8 * MAX_BYTES])
def test_a_long_answer_is_kept_compressed(cache: AnswerCache, client: redis.Redis, schema: Schema, size: int) -> None:
    answer = (b'{"timestamp":"2026-11-20T00:00:00Z","calls":123},' * (size // 40 + 1))[:size]
    assert [cache.answer(entry("a"), lambda: answer), cache.answer(entry("a"), lambda: b"new")] == [
        (answer, False),
        (answer, True),
    ]
    stored = client.strlen(schema.cache("acme", "a"))
    assert stored == size + 5 if size <= PLAIN_BYTES else stored < size / 10


@pytest.mark.parametrize("size", [1, 2 * PLAIN_BYTES])
@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: b"",
        lambda packed: packed[:3],
        lambda packed: packed[:-1],
        lambda packed: packed + b"x",
        lambda packed: packed[:-1] + bytes([packed[-1] ^ 1]),
        lambda packed: b"\0" + packed[1:],
        lambda packed: bytes([packed[0] ^ 3]) + packed[1:],
        lambda packed: b'{"total_calls": 7}',
    ],
)
def test_a_damaged_entry_is_a_miss(
    cache: AnswerCache, client: redis.Redis, schema: Schema, damage: Callable[[bytes], bytes], size: int
) -> None:
    answer = b"1" * size
    cache.answer(entry("a"), lambda: answer)
    key = schema.cache("acme", "a")
    packed: Any = client.get(key)
    client.set(key, damage(packed))
    assert cache.answer(entry("a"), lambda: b"made again") == (b"made again", False)
    assert cache.answer(entry("a"), lambda: b"new") == (b"made again", True)


def test_an_entry_of_a_wrong_type_is_a_miss(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    client.hset(schema.cache("acme", "a"), "no", "answer")
    assert cache.answer(entry("a"), lambda: b"{}") == (b"{}", False)
    assert cache.answer(entry("a"), lambda: b"new") == (b"{}", True)


@pytest.mark.parametrize("limit", ["300/minute", None])
def test_a_damaged_entry_is_a_miss_over_http(
    usage: Usage, client: redis.Redis, schema: Schema, limit: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    api = Api(HOSTS[4], HOSTS[4].make(usage, auth=KeyAuth(usage.keys), limit=limit), ACME)
    whole = api.get("/summary").json
    (name,) = kept(client, schema)
    for value in (b"\x02nothing compressed", b'{"org_id": "globex"}'):
        client.set(schema.cache("acme", name), value)
        reply = api.get("/summary")
        assert (reply.headers["x-cache"], reply.json) == ("MISS", whole)
        assert api.get("/summary").headers["x-cache"] == "HIT"
    client.delete(schema.cache("acme", name))
    client.lpush(schema.cache("acme", name), "a list")
    assert [api.get("/summary").headers["x-cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert [one.getMessage() for one in caplog.records] == ["a cached answer was damaged, and is made again (19 bytes)"]


def test_inflating_is_bounded(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    bomb = b"\2" + zlib.crc32(b"").to_bytes(4, "big") + zlib.compress(bytes(50 * MAX_ANSWER), 9)
    client.set(schema.cache("acme", "a"), bomb)
    tracemalloc.start()
    try:
        assert cache.answer(entry("a"), lambda: b"{}") == (b"{}", False)
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_ANSWER
    finally:
        tracemalloc.stop()


def test_of_two_that_miss_together_both_get_the_long_answer_of_the_winner(cache: AnswerCache) -> None:
    first, second = b"[1," * PLAIN_BYTES, b"[2," * PLAIN_BYTES

    def slow() -> bytes:
        cache.answer(entry("a"), lambda: first)
        return second

    assert cache.answer(entry("a"), slow) == (first, True)


def test_a_redis_that_refuses_to_write_still_answers(cache: AnswerCache, client: redis.Redis, schema: Schema) -> None:
    client.set(schema.cache_index("acme"), "of a wrong type")
    assert cache.answer(entry("a"), lambda: b"{}") == (b"{}", False)


def test_in_a_cluster(cluster: Any, make_usage: Callable[..., Usage]) -> None:
    usage = make_usage(cluster.url)
    cache = AnswerCache(lambda: usage.engine.read_client, Schema(usage.settings), 60)
    for org in ("acme", "globex", "*", "a{b}c"):
        assert cache.answer(entry("a", org), lambda: b"{}") == (b"{}", False)
        assert cache.answer(entry("a", org), lambda: b"new") == (b"{}", True)


def test_deployments_that_declare_different_things_do_not_share_answers(
    one_api: Api, usage: Usage, make_usage: Callable[..., Usage]
) -> None:
    one_api.get("/endpoints")
    other = make_usage(dimensions=usage.settings.dimensions, counters=("pages",))
    reply = Api(HOSTS[0], HOSTS[0].make(other, auth=OperatorOrKey(other.keys)), ACME).get("/endpoints")
    assert reply.headers["x-cache"] == "MISS"
    assert all("num_pages" in row for row in reply.json["results"])


def labelled_by_version(method: str, template: str) -> str:
    return f"v1 {template}"


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint_label": lambda method, template: template},
        {"endpoint_label": labelled_by_version},
        {"visible_endpoints": lambda viewer, labels: []},
        {"retention": {"board": {"day": 86_400 * 10}}},
        {"untagged": {"project": "other"}},
        {"shards": {"key": 4}},
        {"operator_tree": False},
        {"max_members": 50},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_an_option_that_an_answer_depends_on_is_part_of_the_question(
    one_api: Api, usage: Usage, make_usage: Callable[..., Usage], path: str, options: dict[str, Any]
) -> None:
    settings = usage.settings
    same = {name: getattr(settings, name) for name in ("dimensions", "counters", "rates", "rank_by", "untagged")}
    one_api.get(path)
    other = make_usage(**{**same, **options})
    reply = Api(HOSTS[0], HOSTS[0].make(other, auth=OperatorOrKey(other.keys)), ACME).get(path)
    assert reply.headers["x-cache"] == "MISS"


@pytest.mark.parametrize("path", [*PATHS, "/openapi.json", "/nothing", "/summary?period=1x"])
def test_what_browsers_and_proxies_may_keep(one_api: Api, path: str) -> None:
    for key in (ACME, None):
        headers = one_api.with_key(key).get(path).headers
        assert headers["cache-control"] == "private, no-cache"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["vary"] == "Accept, Origin, Cookie, x-api-key, apikey, authorization"
