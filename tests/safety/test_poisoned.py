"""Damage in Redis costs the damaged thing alone, is named in `/health`, and stops nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.support import Clock, ServerProcess, record_call
from tests.web.conftest import ACME, GLOBEX, OPERATOR, OperatorOrKey, put_keys
from tests.web.hosts import HOSTS, Api, Reply
from usage_middleware import KeyInfo, Viewer
from usage_middleware.periods import Slot
from usage_middleware.report.health import health
from usage_middleware.report.reports import VIEWS
from usage_middleware.store.key_directory import KeyDirectory

if TYPE_CHECKING:
    from usage_middleware import Usage

#: What nobody wrote on purpose, as a stored value.
BAD_VALUES = (
    b"", b"{", b"[]", b"null", b"0", b'"acme"', b'["acme"]', b'["acme", 7]', b'["acme", "key_1", "x"]', b"{}", b"[" * 5_000,
    b'["\xff\xfe", "key_1"]', b"\xff\xfe", b"1e999", b"9" * 5_000, b'{"id": "key_1", "name": 7, "secrets": []}',
    b'{"id": "key_1", "name": "x", "secrets": "abc"}', b'{"id": "key_1", "name": "x", "created_at": 1e300, "secrets": []}',
    b'{"id": "key_1", "name": "x", "created_at": NaN, "secrets": []}', b'{"id": "", "name": "x", "secrets": []}',
)  # fmt: skip
#: What no counter is.
BAD_NUMBERS = (b"abc", b"", b"1.5.5", b"9" * 400, b"9" * 5_000, b"-" + b"9" * 400, b"nan", b"1e400", b"\xff")
BAD_SCORES = ("inf", "-inf", 1e300, -1e300)
DAY = "2026-11-20"


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Any]:
    with server.client() as found:
        yield found


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    """Both organisations have called, with a tag and a counter."""
    made = make_usage(dimensions=("project",), counters=("records",), untagged="default")
    put_keys(made)
    for secret in (ACME, GLOBEX):
        record_call(made.recorder, KeyDirectory.digest(secret), "GET /items", ("search",), counts=(3,))
    assert made.flush()
    return made


@pytest.fixture
def api(usage: Usage) -> Api:
    """Without a cache: every answer is built."""
    return Api(HOSTS[4], HOSTS[4].make(usage, auth=OperatorOrKey(usage.keys), cache_seconds=0), ACME)


def damaged(usage: Usage) -> str:
    """What `/health` says is damaged."""
    return " ".join(one.message for one in health(usage.reader).warnings if one.code == "damaged")


def credential(client: Any, namespace: str, key_id: str) -> bytes:
    found: Any = client.hgetall(f"{namespace}:{{*}}:credentials")
    digest: bytes = next(digest for digest, owner in found.items() if json.loads(owner)[1] == key_id)
    return digest


def calls(client: Any, namespace: str, org: str) -> int:
    return int(client.hget(f"{namespace}:{{{org}}}:series:1d:2026-11", "20 calls") or 0)


@pytest.mark.parametrize("value", BAD_VALUES)
def test_a_damaged_credential(usage: Usage, client: Any, namespace: str, clock: Clock, value: bytes) -> None:
    client.hset(f"{namespace}:{{*}}:credentials", credential(client, namespace, "key_1"), value)
    clock.advance(61)
    for secret in (ACME, GLOBEX):
        record_call(usage.recorder, KeyDirectory.digest(secret), "GET /items", ("search",), counts=(3,))
    assert usage.flush()
    assert (calls(client, namespace, "acme"), calls(client, namespace, "globex")) == (1, 2)
    assert usage.keys.find(ACME) is None
    assert usage.keys.find(GLOBEX) is not None
    assert f"{namespace}:{{*}}:credentials" in damaged(usage)


@pytest.mark.parametrize("value", BAD_VALUES)
def test_a_damaged_record_of_a_key(usage: Usage, api: Api, client: Any, namespace: str, clock: Clock, value: bytes) -> None:
    client.hset(f"{namespace}:{{acme}}:keys", "key_1", value)
    clock.advance(61)
    for secret in (ACME, GLOBEX):
        record_call(usage.recorder, KeyDirectory.digest(secret), "GET /items", ("search",), counts=(3,))
    assert usage.flush()
    assert calls(client, namespace, "globex") == 2
    assert usage.keys.find(ACME) is None
    assert [key.id for key in usage.keys.list("acme")] == ["key_2"]
    assert api.with_key(OPERATOR).get("/by-key?org=acme").status == 200
    assert f"{namespace}:{{acme}}:keys" in damaged(usage)


def test_a_damaged_record_can_be_written_anew_and_deleted(usage: Usage, client: Any, namespace: str) -> None:
    for key_id in ("key_1", "key_2"):
        client.hset(f"{namespace}:{{acme}}:keys", key_id, b"{")
    assert not usage.keys.revoke("acme", "key_1")
    usage.keys.put("acme", KeyInfo(id="key_1", name="Anew"), secret=ACME)
    assert not usage.keys.remove("acme", "key_2")
    assert [(key.id, key.name) for key in usage.keys.list("acme")] == [("key_1", "Anew")]
    assert usage.keys.count("acme") == 1
    assert usage.keys.find(ACME) is not None
    assert not client.hexists(f"{namespace}:{{acme}}:keys", "key_2")


@pytest.mark.parametrize("name", ["keys", "keys:names", "keys:revoked"])
def test_a_key_directory_of_another_type(usage: Usage, client: Any, namespace: str, clock: Clock, name: str) -> None:
    client.set(f"{namespace}:{{acme}}:{name}", "x")
    clock.advance(61)
    for secret in (ACME, GLOBEX):
        record_call(usage.recorder, KeyDirectory.digest(secret), "GET /items", ("search",), counts=(3,))
    assert usage.flush()
    assert calls(client, namespace, "globex") == 2
    usage.keys.list("acme", include_revoked=True)
    assert [key.id for key in usage.keys.list("globex")] == ["key_9"]
    usage.keys.count("acme")
    assert f"{namespace}:{{acme}}:{name}" in damaged(usage)


def test_credentials_of_another_type_keep_only_calls_of_credentials(
    usage: Usage, client: Any, namespace: str, clock: Clock
) -> None:
    client.set(f"{namespace}:{{*}}:credentials", "x")
    clock.advance(61)
    record_call(usage.recorder, KeyDirectory.digest(ACME), "GET /items", ("search",), counts=(3,))
    record_call(usage.recorder, ("globex", "key_9"), "GET /items", ("search",), counts=(3,))
    assert not usage.flush()
    assert (calls(client, namespace, "acme"), calls(client, namespace, "globex")) == (1, 2)
    stats = usage.recorder.stats()
    assert (stats.state, stats.backlog_calls, stats.lost) == ("ok", 1, {"resolve": 1})
    assert f"{namespace}:{{*}}:credentials" in damaged(usage)
    client.delete(f"{namespace}:{{*}}:credentials")
    usage.keys.put("acme", KeyInfo(id="key_1", name="Search"), secret=ACME)
    assert usage.flush()
    assert calls(client, namespace, "acme") == 2


def every_view(api: Api, org: str) -> dict[str, Reply]:
    """All views of the day, the endpoints and keys of the organisation too, as an operator sees them."""
    found = {view.name: api.with_key(OPERATOR).get(f"{view.path}?org={org}") for view in VIEWS}
    return found | {f"operator's {view.name}": api.with_key(OPERATOR).get(view.path) for view in VIEWS}


def assert_served(api: Api, org: str = "acme") -> None:
    replies = every_view(api, org)
    failed = {name: (reply.status, reply.body[:200]) for name, reply in replies.items() if reply.status not in (200, 400)}
    assert not failed
    assert {name for name, reply in replies.items() if reply.status == 400} <= {"operator's by-key", "operator's endpoints"}


def counters(client: Any, namespace: str, kind: str) -> list[str]:
    names = client.keys(f"{namespace}:*:{kind}:*")
    assert isinstance(names, list)
    return sorted(name.decode() for name in names)


@pytest.mark.parametrize("number", BAD_NUMBERS)
def test_damaged_fields_of_series(usage: Usage, api: Api, client: Any, namespace: str, number: bytes) -> None:
    for name in counters(client, namespace, "series"):
        for field in client.hkeys(name):
            client.hset(name, field, number)
        client.hset(name, f"20 s{'9' * 5_000}", 1)
        client.hset(name, "20 s\u00b2", 1)
        client.hset(name, b"20 \xff", 1)
        client.hset(name, "", 1)
    assert_served(api)
    assert ":series:" in damaged(usage)


def test_one_damaged_field_costs_itself(usage: Usage, api: Api, client: Any, namespace: str) -> None:
    client.hset(f"{namespace}:{{acme}}:series:1d:2026-11", "20 latency_us", "9" * 400)
    client.zadd(f"{namespace}:{{acme}}:board:1d:{DAY}:endpoint:latency_us", {"GET /items": float("inf")})
    found = api.get("/series?period=7d").json
    assert found["totals"]["calls"] == 1


@pytest.mark.parametrize("score", BAD_SCORES)
def test_damaged_scores_of_boards(usage: Usage, api: Api, client: Any, namespace: str, score: float) -> None:
    for name in (*counters(client, namespace, "board"), *counters(client, namespace, "seen")):
        members: Any = client.zrange(name, 0, -1)
        bad = {b"\xff\xfe": score, b"": score, b"latency": 1, b"calls latency x": 1, b"calls latency 999999999": 1}
        client.zadd(name, {**dict.fromkeys(members, score), **bad})
    assert_served(api)
    assert damaged(usage)


@pytest.mark.parametrize("kind", ["series", "board", "seen"])
def test_counters_of_another_type(usage: Usage, api: Api, client: Any, namespace: str, kind: str) -> None:
    for name in counters(client, namespace, kind):
        if "{globex}" not in name:
            client.delete(name)
            client.set(name, "x")
    assert_served(api)
    assert damaged(usage)
    assert api.with_key(GLOBEX).get("/summary").json["total_calls"] == 1


def test_one_board_of_another_type_does_not_cost_those_read_with_it(
    usage: Usage, client: Any, namespace: str, clock: Clock
) -> None:
    clock.advance(86_400)
    record_call(usage.recorder, ("acme", "key_1"), "GET /items", ("search",), counts=(3,))
    assert usage.flush()
    name = f"{namespace}:{{acme}}:board:1d:{DAY}:endpoint:calls"
    client.delete(name)
    client.set(name, "x")
    batch = usage.reader.context(Viewer.operator()).batch("acme")
    day = usage.settings.layers.day
    start = day.floor(int(clock())) - day.seconds
    found = batch.board([Slot(day, start), Slot(day, start + day.seconds)], "endpoint", ("calls",))
    batch.read()
    assert found.value == {"GET /items": {"calls": 1}}
    assert name in damaged(usage)


@pytest.mark.parametrize("name", ["workers", "routes", "owing"])
def test_what_workers_say_of_themselves(usage: Usage, api: Api, client: Any, namespace: str, name: str) -> None:
    client.delete(f"{namespace}:{{*}}:{name}")
    client.set(f"{namespace}:{{*}}:{name}", "x")
    assert_served(api)
    record_call(usage.recorder, ("acme", "key_1"), "GET /items", ("search",), counts=(3,))
    assert usage.flush()
    assert usage.recorder.stats().state == "ok"
    assert api.with_key(OPERATOR).get("/health").status == 200


def test_the_status_of_a_worker(usage: Usage, api: Api, client: Any, namespace: str) -> None:
    worker = f"{namespace}:{{*}}:worker:{usage.recorder.stats().worker}"
    for number in BAD_NUMBERS:
        client.hset(worker, "flushed_through_ms", number)
        assert_served(api)
        assert api.with_key(OPERATOR).get("/health").status == 200
    client.delete(worker)
    client.set(worker, "x")
    assert_served(api)
    assert api.with_key(OPERATOR).get("/health").status == 200


def test_since_when_a_dimension_is_kept(usage: Usage, api: Api, client: Any, namespace: str) -> None:
    client.hset(f"{namespace}:{{*}}:meta", "since:project", "x")
    assert_served(api)
    assert "meta" in damaged(usage)


def test_calls_go_on_where_their_counters_are_damaged(usage: Usage, client: Any, namespace: str) -> None:
    for name in counters(client, namespace, "series"):
        client.hset(name, "20 calls", "x")
    for name in counters(client, namespace, "seen"):
        client.delete(name)
        client.set(name, "x")
    record_call(usage.recorder, ("acme", "key_1"), "GET /items", ("search",), counts=(3,))
    assert usage.flush()
    assert client.hget(f"{namespace}:{{acme}}:series:1d:2026-11", "20 s200") == b"2"
    assert usage.recorder.stats().wrong_type > 0


def test_where_the_list_of_unknown_keys_is_damaged_calls_go_on(usage: Usage, client: Any, namespace: str) -> None:
    client.delete(f"{namespace}:{{*}}:unknown")
    client.set(f"{namespace}:{{*}}:unknown", "x")
    for secret in (ACME, "sk_of_nobody"):
        record_call(usage.recorder, KeyDirectory.digest(secret), "GET /items", ("search",), counts=(3,))
    assert usage.flush()
    assert (calls(client, namespace, "acme"), calls(client, namespace, "default")) == (2, 1)
    assert "unknown" in damaged(usage)


@pytest.mark.parametrize("value", ["x", "-1", "nan", "9" * 400, None])
def test_a_damaged_mark_of_a_worker_costs_no_call(usage: Usage, client: Any, namespace: str, value: str | None) -> None:
    mark = f"{namespace}:{{acme}}:applied:{usage.recorder.stats().worker}"
    client.delete(mark)
    client.rpush(mark, "x") if value is None else client.set(mark, value)
    record_call(usage.recorder, ("acme", "key_1"), "GET /items", ("search",), counts=(3,))
    assert usage.flush()
    client.delete(mark)
    client.rpush(mark, "x") if value is None else client.set(mark, value)
    assert usage.recorder._flusher._writer.marks(usage.recorder.stats().worker, ["acme"])["acme"].number is None
    assert calls(client, namespace, "acme") == 2
    assert usage.recorder.stats().dropped == {}


@pytest.mark.parametrize("value", ["2", "3", "9999", "999999999999999"])
def test_a_mark_that_became_a_greater_number_costs_no_call(usage: Usage, client: Any, namespace: str, value: str) -> None:
    """No worker can have a mark beyond the numbers that it gave: its calls would read as counted, for as long."""
    worker = usage.recorder.stats().worker
    for number in range(2, 5):
        mark = max(int(value), number)
        client.set(f"{namespace}:{{acme}}:applied:{worker}", mark + (mark == number))
        record_call(usage.recorder, ("acme", "key_1"), "GET /items", ("search",), counts=(3,))
        assert usage.flush()
        assert calls(client, namespace, "acme") == number
    assert client.get(f"{namespace}:{{acme}}:applied:{worker}") == b"4"
    assert usage.recorder.stats().dropped == {}


def test_a_pepper_of_another_type_is_named(usage: Usage, client: Any, namespace: str, clock: Clock) -> None:
    client.delete(f"{namespace}:{{*}}:pepper")
    client.hset(f"{namespace}:{{*}}:pepper", "x", "y")
    clock.advance(61)
    record_call(usage.recorder, ("acme", "key_1"), "GET /items", ("search",), counts=(3,))
    assert usage.flush()
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        usage.keys.find(ACME)
    assert "pepper" in damaged(usage)
