"""Delivery: each call once, whatever fails on the way, and no organisation because of another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as Silent

from tests.record.conftest import AT_ONCE, FaultyWriter, MakeRecorder
from tests.support import START, Clock, ServerProcess, quick_client, record_call
from usage_middleware.errors import UsageUnavailable
from usage_middleware.record.recorder import Recorder

Counted = Callable[..., int]
ACME = ("acme", "key_7")
GLOBEX = ("globex", "key_1")


def add(
    recorder: Recorder, caller: tuple[str, str] | bytes = ACME, endpoint: str = "GET /a", status: int = 200, n: int = 1
) -> None:
    for _ in range(n):
        record_call(recorder, caller, endpoint, (), status, 1000, 50, ())
    recorder._flusher.add_up()


def writer_of(recorder: Recorder) -> FaultyWriter:
    writer = recorder._flusher._writer
    assert isinstance(writer, FaultyWriter)
    return writer


def test_a_flush_counts_and_says_so(make_recorder: MakeRecorder, counted: Counted) -> None:
    recorder = make_recorder()
    add(recorder, n=3)
    add(recorder, GLOBEX, n=2)
    assert recorder.stats().backlog_calls == 5
    assert recorder.flush()
    assert (counted("acme"), counted("globex"), counted("*")) == (3, 2, 5)
    stats = recorder.stats()
    assert (stats.backlog_calls, stats.state, stats.flushed_through_ms) == (0, "ok", int(START * 1000))
    assert recorder.flush()
    assert counted("*") == 5


def test_all_of_a_large_aggregate(make_recorder: MakeRecorder, counted: Counted) -> None:
    recorder = make_recorder()
    for number in range(400):
        add(recorder, ("acme", f"key_{number}"), f"GET /{number % 60}")
    assert recorder.flush()
    assert counted("acme") == counted("*") == 400
    assert len(writer_of(recorder).sent) > 5


def test_two_workers(make_recorder: MakeRecorder, counted: Counted) -> None:
    for recorder in (one := make_recorder()), make_recorder(), one:
        add(recorder, n=4)
        assert recorder.flush()
    assert counted("acme") == 12


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("error", [Silent("Timeout reading"), Unreachable("reset"), ResponseError("BUSY running a script")])
def test_a_lost_request_or_reply_is_sent_again_and_counted_once(
    make_recorder: MakeRecorder, counted: Counted, where: str, error: Exception
) -> None:
    recorder = make_recorder()
    writer_of(recorder).faults = [(where, error)] * 7
    calls = 0
    while writer_of(recorder).faults:
        add(recorder)
        calls += 1
        assert not recorder.flush()
    assert recorder.flush()
    assert counted("acme") == counted("*") == calls > 2
    assert recorder.stats().backlog_calls == 0
    assert recorder.stats().retries == 7


def test_the_watermark_waits_for_what_is_pending(make_recorder: MakeRecorder, clock: Clock) -> None:
    recorder = make_recorder()
    add(recorder)
    assert recorder.flush()
    through = recorder.stats().flushed_through_ms
    writer_of(recorder).faults = [("before", Silent())] * 2
    clock.advance(5)
    add(recorder)
    assert not recorder.flush()
    assert recorder.stats().flushed_through_ms == through
    clock.advance(5)
    assert recorder.flush() or recorder.flush()
    assert recorder.stats().flushed_through_ms == through + 10_000


def test_one_organisations_trouble_does_not_block_another(make_recorder: MakeRecorder, counted: Counted) -> None:
    recorder = make_recorder()
    writer = writer_of(recorder)
    writer.only, writer.faults = {"acme"}, [("before", ResponseError("NOPERM this user has no permissions"))] * 3
    for _ in range(3):
        add(recorder)
        add(recorder, GLOBEX)
        assert not recorder.flush()
    assert (counted("acme"), counted("globex"), counted("*")) == (0, 3, 6)
    assert recorder.flush()
    assert (counted("acme"), counted("*")) == (3, 6)


def test_a_chunk_that_fails_for_its_own_sake_is_set_aside(
    make_recorder: MakeRecorder, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make_recorder()
    writer = writer_of(recorder)
    writer.only, writer.faults = {"acme"}, [("garbage", ResponseError())] * 3
    add(recorder, n=4)
    for _ in range(3):
        add(recorder, GLOBEX)
        assert not recorder.flush()
    add(recorder, n=2)
    assert recorder.flush()
    assert (counted("acme"), counted("acme", "dropped"), counted("globex")) == (2, 4, 3)
    assert recorder.stats().dropped == {"acme": 4}
    assert "4 calls of acme are dropped" in caplog.text


def test_a_chunk_set_aside_that_did_arrive_is_not_dropped_too(make_recorder: MakeRecorder, counted: Counted) -> None:
    recorder = make_recorder()
    writer = writer_of(recorder)
    strange = ResponseError("strange")
    writer.only, writer.faults = {"acme"}, [("after", strange), ("before", strange), ("before", strange)]
    add(recorder, n=4)
    for _ in range(4):
        recorder.flush()
    assert (counted("acme"), counted("acme", "dropped")) == (4, 0)


def test_a_chunk_that_gets_no_answer_while_others_do_is_kept(make_recorder: MakeRecorder, counted: Counted) -> None:
    recorder = make_recorder()
    writer = writer_of(recorder)
    writer.only, writer.faults = {"acme"}, [("before", Unreachable("closed"))] * 100
    add(recorder, n=4)
    for _ in range(50):
        add(recorder, GLOBEX)
        assert not recorder.flush()
    assert counted("globex") == 50
    assert "MTU" in recorder.stats().blocked["acme"]
    writer.faults = []
    assert recorder.flush()
    assert (counted("acme"), counted("acme", "dropped")) == (4, 0)
    assert not recorder.stats().blocked


# A Redis that forgets


def test_what_redis_forgot_within_ten_seconds_is_sent_again(
    make_recorder: MakeRecorder, counted: Counted, client: Any, namespace: str
) -> None:
    recorder = make_recorder()
    for _ in range(3):
        add(recorder)
        assert recorder.flush()
    _forget(client, namespace)
    add(recorder)
    assert recorder.flush()
    assert counted("acme") == counted("*") == 4


def test_also_when_no_more_calls_come(make_recorder: MakeRecorder, counted: Counted, client: Any, namespace: str) -> None:
    monotonic = Clock(0.0)
    recorder = make_recorder(monotonic=monotonic)
    add(recorder, n=3)
    assert recorder.flush()
    _forget(client, namespace)
    monotonic.advance(11)
    assert recorder.flush()
    assert counted("acme") == counted("*") == 3
    monotonic.advance(11)
    assert recorder.flush()
    assert recorder._flusher.sender.outbox.queues() == []


def test_what_redis_kept_is_let_go_of(make_recorder: MakeRecorder) -> None:
    monotonic = Clock(0.0)
    recorder = make_recorder(monotonic=monotonic)
    add(recorder)
    assert recorder.flush()
    assert recorder.stats().backlog_bytes > 0
    monotonic.advance(11)
    assert recorder.flush()
    assert recorder.stats().backlog_bytes == 0


def test_a_number_outlives_what_redis_remembers(
    make_recorder: MakeRecorder, counted: Counted, client: Any, namespace: str
) -> None:
    """After 8 days without a call the mark is gone."""
    monotonic = Clock(0.0)
    recorder = make_recorder(monotonic=monotonic)
    for _ in range(2):
        add(recorder)
        assert recorder.flush()
        monotonic.advance(11)
    assert recorder.flush()
    client.delete(*client.scan_iter(f"{namespace}:*:applied:*", count=10_000))
    add(recorder)
    assert recorder.flush()
    assert counted("acme") == 3


def _forget(client: Any, namespace: str) -> None:
    client.delete(*client.scan_iter(f"{namespace}:*", count=10_000))


def test_a_server_that_stops_and_comes_back(make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "usage_middleware")
    with ServerProcess(appendonly="yes", appendfsync="always") as server:
        own = quick_client(unix_socket_path=str(server.socket))
        recorder = make_recorder(client=own)
        add(recorder)
        assert recorder.flush()
        server.kill()
        for _ in range(4):
            add(recorder, n=2)
            assert not recorder.flush()
        assert recorder.stats().state == "away"
        assert recorder.stats().backlog_calls == 8
        server.start()
        assert recorder.flush()
        key = f"{recorder._flusher._writer.schema.tree('acme')}:series:1d:2026-11"
        assert own.hget(key, "20 calls") == b"9"
        assert [record.getMessage().split(":")[1] for record in caplog.records] == [
            " Redis can't be written, and calls are kept until it can",
            " Redis is written again",
        ]
        recorder.close()
        own.close()


def test_while_redis_is_away_memory_grows_with_members_not_with_traffic(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(client=quick_client(unix_socket_path="/nowhere/at/all"), shutdown_timeout=AT_ONCE)
    sizes = []
    for _ in range(3):
        add(recorder, n=100)
        assert not recorder.flush()
        sizes.append(recorder.stats().backlog_bytes)
    assert len(set(sizes)) == 1
    assert recorder.stats().backlog_calls == 300
    recorder.after_fork_in_child()


def test_a_long_outage_is_folded_then_dropped_and_told(
    make_recorder: MakeRecorder, counted: Counted, client: Any, clock: Clock
) -> None:
    way: list[Any] = [quick_client(unix_socket_path="/nowhere/at/all")]
    recorder = make_recorder(client=lambda: way[0], backlog_bytes=20_000)
    for minute in range(100):
        for endpoint in "GET /a", "GET /b", "GET /c":
            add(recorder, endpoint=endpoint)
        recorder._flusher.add_up()
        if minute % 2:
            recorder.flush()
        clock.advance(60)
    assert recorder.stats().backlog_calls == 300
    for number in range(50):
        add(recorder, endpoint=f"GET /{number}")
    recorder._flusher.add_up()
    held = recorder.stats().backlog_calls
    assert held < 350
    way[0] = client
    assert recorder.flush()
    assert counted("acme") == counted("*") == held
    assert counted("acme", "dropped") == counted("*", "dropped") == 350 - held
    assert recorder.stats().dropped == {"acme": 350 - held}
    way[0].close()


def test_an_organisation_that_stays_refused_does_not_take_the_room_of_all(
    make_recorder: MakeRecorder, counted: Counted
) -> None:
    monotonic = Clock(0.0)
    recorder = make_recorder(backlog_bytes=40_000, monotonic=monotonic)
    writer = writer_of(recorder)
    writer.only, writer.faults = {"acme"}, [("before", ResponseError("NOPERM no permissions"))] * 100
    for number in range(60):
        add(recorder, endpoint=f"GET /{number}")
        add(recorder, GLOBEX)
        recorder.flush()
        monotonic.advance(5)
    assert counted("globex") == 60
    assert recorder.stats().backlog_bytes < 40_000
    writer.faults = []
    assert recorder.flush()
    assert counted("acme") + counted("acme", "dropped") == 60
    assert recorder.stats().dropped["acme"] == counted("acme", "dropped") > 0


# Who called


def resolver(known: dict[bytes, tuple[str, str, bool]]) -> Callable[[Collection[bytes]], dict[bytes, tuple[str, str, bool]]]:
    return lambda digests: {digest: known[digest] for digest in digests}


def test_digests_are_resolved(make_recorder: MakeRecorder, counted: Counted, client: Any, namespace: str) -> None:
    known, stranger = b"k" * 32, b"s" * 32
    recorder = make_recorder(resolve=resolver({known: ("acme", "key_7", True), stranger: ("default", "key_ab", False)}))
    add(recorder)
    add(recorder, known, status=401)
    for status in 200, 500, 401, 403, 404:
        add(recorder, stranger, status=status)
    assert recorder.flush()
    assert counted("acme") == 2
    board = client.zrange(f"{namespace}:{{default}}:board:1d:2026-11-20:key:calls", 0, -1, withscores=True)
    assert dict(board) == {b"key_ab": 2, b"(anonymous)": 3}


def test_while_the_directory_fails_the_others_are_counted(make_recorder: MakeRecorder, counted: Counted) -> None:
    broken = [True]

    def resolve(digests: Collection[bytes]) -> dict[bytes, tuple[str, str, bool]]:
        if broken[0]:
            raise RuntimeError("no database")
        return dict.fromkeys(digests, ("acme", "key_7", True))

    recorder = make_recorder(resolve=resolve)
    add(recorder)
    add(recorder, b"d" * 32, n=2)
    assert not recorder.flush()
    assert counted("acme") == 1
    assert recorder.stats().backlog_calls == 2
    assert recorder.stats().lost == {"resolve": 1}
    broken[0] = False
    assert recorder.flush()
    assert counted("acme") == 3


def test_calls_dropped_in_an_outage_are_those_of_whoever_called(
    make_recorder: MakeRecorder, counted: Counted, client: Any
) -> None:
    way: list[Any] = [quick_client(unix_socket_path="/nowhere/at/all")]
    recorder = make_recorder(
        client=lambda: way[0], backlog_bytes=20_000, resolve=resolver({b"d" * 32: ("acme", "key_7", True)})
    )
    for number in range(60):
        add(recorder, b"d" * 32, f"GET /{number}")
        if number % 20 == 0:
            assert not recorder.flush()
    kept = recorder.stats().backlog_calls
    assert kept < 60
    way[0].close()
    way[0] = client
    assert recorder.flush()
    assert (counted("acme"), counted("acme", "dropped"), counted("default", "dropped")) == (kept, 60 - kept, 0)
    assert recorder.stats().dropped == {"acme": 60 - kept}


# Caps


def test_past_the_cap_members_are_other_and_totals_reconcile(
    make_recorder: MakeRecorder, counted: Counted, client: Any, namespace: str
) -> None:
    recorder = make_recorder(max_members={"key": 2, "endpoint": 3})
    for number in range(6):
        add(recorder, ("acme", f"key_{number}"), f"GET /{number}")
    assert recorder.flush()
    tree = f"{namespace}:{{acme}}"
    keys = dict(client.zrange(f"{tree}:board:1d:2026-11-20:key:calls", 0, -1, withscores=True))
    endpoints = dict(client.zrange(f"{tree}:board:1d:2026-11-20:endpoint:calls", 0, -1, withscores=True))
    assert (keys[b"(other)"], len(keys)) == (4, 3)
    assert (endpoints[b"GET (other)"], len(endpoints)) == (3, 4)
    assert counted("acme") == counted("*") == sum(keys.values()) == sum(endpoints.values()) == 6
    assert recorder.stats().refused >= 7


def test_a_refused_member_is_asked_about_once_a_minute(make_recorder: MakeRecorder) -> None:
    monotonic = Clock(0.0)
    recorder = make_recorder(max_members={"key": 1}, operator_tree=False, monotonic=monotonic)
    add(recorder, ("acme", "a"))
    recorder.flush()
    sent = writer_of(recorder).sent
    for expected in 2, 1:
        sent.clear()
        add(recorder, ("acme", "b"))
        assert recorder.flush()
        assert len(sent) == expected
    monotonic.advance(61)
    sent.clear()
    add(recorder, ("acme", "b"))
    assert recorder.flush()
    assert len(sent) == 2


def test_keys_of_the_directory_are_counted_past_the_cap(make_recorder: MakeRecorder, client: Any, namespace: str) -> None:
    asked: list[tuple[str, set[str]]] = []

    def known_keys(org: str, ids: Collection[str]) -> set[str]:
        asked.append((org, set(ids)))
        return {"mine"}

    recorder = make_recorder(max_members={"key": 1}, known_keys=known_keys)
    add(recorder, ("acme", "a"))
    recorder.flush()
    for key in "mine", "b", "c":
        add(recorder, ("acme", key))
    assert recorder.flush()
    board = client.zrange(f"{namespace}:{{acme}}:board:1d:2026-11-20:key:calls", 0, -1, withscores=True)
    assert dict(board) == {b"a": 1, b"mine": 1, b"(other)": 2}
    assert asked == [("acme", {"mine", "b", "c"})]


# What it says of itself


def test_a_recorder_of_another_shape_refuses_and_says_so(
    make_recorder: MakeRecorder, counted: Counted, client: Any, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert make_recorder().flush()
    other = make_recorder(slot_minutes=15, shutdown_timeout=AT_ONCE)
    add(other)
    for _ in range(2):
        assert not other.flush()
    assert other.stats().state == "refused"
    assert "slot_minutes is 30, this recorder has 15" in other.stats().reason
    assert len([record for record in caplog.records if "nothing is written" in record.message]) == 1
    assert counted("acme") == 0
    client.hset(f"{namespace}:{{*}}:meta", "slot_minutes", 15)
    assert other.flush()
    assert counted("acme") == 1


def test_the_workers_account_of_itself(make_recorder: MakeRecorder, client: Any, namespace: str, clock: Clock) -> None:
    recorder = make_recorder()
    add(recorder)
    recorder.flush()
    worker = recorder.stats().worker
    facts = {name.decode(): value.decode() for name, value in client.hgetall(f"{namespace}:{{*}}:worker:{worker}").items()}
    now_ms = str(int(START * 1000))
    assert {"flushed_through_ms": now_ms, "beat_ms": now_ms, "backlog_calls": "0", "dropped": "0"}.items() <= facts.items()
    assert set(facts) == {
        "spool_damaged", "damaged",
        "flushed_through_ms", "backlog_calls", "backlog_bytes", "dropped", "retries", "refused", "wrong_type", "unreplicated",
        "blocked", "blocked_reason", "spool_files", "spool_calls", "spool_error", "skew_ms", "script", "beat_ms", "pid", "host",
        "version", "dropped_unresolved", "conflicting", "key_store_error", "history",
    }  # fmt: skip
    assert client.zscore(f"{namespace}:{{*}}:workers", worker) == int(START * 1000)
    clock.advance(5)
    recorder.flush()
    assert client.zscore(f"{namespace}:{{*}}:workers", worker) == int(START * 1000) + 5_000


def test_a_server_that_can_not_be_started_is_away(make_recorder: MakeRecorder) -> None:
    def client() -> Any:
        raise UsageUnavailable("the embedded server does not start")

    recorder = make_recorder(client=client, shutdown_timeout=AT_ONCE)
    add(recorder)
    assert not recorder.flush()
    assert (recorder.stats().state, recorder.stats().backlog_calls) == ("away", 1)
    assert "does not start" in recorder.stats().reason
    recorder.after_fork_in_child()


def test_the_operators_tree_is_the_sum_of_the_organisations(make_recorder: MakeRecorder, client: Any, namespace: str) -> None:
    recorder = make_recorder(dimensions=("project",), shards={"org": 4})
    for number in range(60):
        record_call(
            recorder,
            (f"org{number % 7}", f"k{number}"),
            f"GET /{number % 5}",
            (f"p{number % 3}",),
            200 + number % 2 * 300,
            number,
            9,
            (),
        )
    assert recorder.flush()
    for board in "endpoint:calls", "endpoint:latency_us", "endpoint:5xx", "project:calls", "latency":
        whole = dict(client.zrange(f"{namespace}:{{*}}:board:1d:2026-11-20:{board}", 0, -1, withscores=True))
        parts: dict[bytes, float] = {}
        for org in range(7):
            for member, score in client.zrange(f"{namespace}:{{org{org}}}:board:1d:2026-11-20:{board}", 0, -1, withscores=True):
                parts[member] = parts.get(member, 0) + score
        assert whole == parts
    shards = [client.zrange(f"{namespace}:{{*}}:board:1d:2026-11-20:org~{n}:calls", 0, -1, withscores=True) for n in range(4)]
    assert sum(score for shard in shards for _, score in shard) == 60
    assert not list(client.scan_iter(f"{namespace}:{{\\*}}:*:key:*", count=10_000))
