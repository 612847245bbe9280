"""The script and the writer, against a real server: once, wholly or not at all, within the caps, with an end for every key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.cells import MINUTE, Cell, cell, cells, lists_of_cells
from tests.support import ClusterProcess, ServerProcess, quick_client
from usage_middleware.errors import UsageUnavailable
from usage_middleware.options import Settings
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.payload import Doubt
from usage_middleware.store.rollup import expand
from usage_middleware.store.schema import Schema
from usage_middleware.store.send_result import Mark
from usage_middleware.store.writer import SCRIPT, Disagreement, Outcome, SendResult, Writer

NOW = MINUTE + 20.5
WORKER = "f" * 32
DAY_KEY = "series:1d:2026-11"
DAY = 86_400.0


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Any]:
    with server.client() as found:
        yield found


@pytest.fixture
def make_writer(client: Any, namespace: str) -> Callable[..., Writer]:
    def make(**options: Any) -> Writer:
        return Writer(lambda: client, Schema(Settings(namespace=namespace, **options)))

    return make


@pytest.fixture
def writer(make_writer: Callable[..., Writer]) -> Writer:
    return make_writer()


def send(writer: Writer, number: int, *given_cells: Cell, previous: int | None = None, **rest: Any) -> SendResult:
    chunk = Chunk(rest.pop("org", "acme"), number, cells(given_cells or [cell()]), rest.pop("dropped", 0))
    previous = number - 1 if previous is None else previous
    return writer.send(rest.pop("worker", WORKER), chunk, previous, rest.pop("now", NOW), **rest)


def numbers(writer: Writer, *orgs: str, worker: str = WORKER) -> list[int | None]:
    """The numbers of a worker's last chunks that Redis has."""
    return [mark.number for mark in writer.marks(worker, orgs).values()]


def calls(client: Any, writer: Writer, org: str = "acme") -> int:
    return int(client.hget(f"{writer.schema.tree(org)}:{DAY_KEY}", "20 calls") or 0)


def stored(client: Any, namespace: str) -> dict[str, dict[str, int]]:
    """All series and boards of a namespace, and the days that are marked for packing."""
    found: dict[str, dict[str, int]] = {}
    for key in client.scan_iter(f"{namespace}:*", count=10_000):
        name = key.decode()
        if ":series:" in name:
            found[name] = {field.decode(): int(value) for field, value in client.hgetall(key).items()}
        elif ":board:" in name or name.endswith(":history:todo"):
            found[name] = {member.decode(): int(score) for member, score in client.zrange(key, 0, -1, withscores=True)}
    return found


def test_what_is_stored_is_what_was_expanded(client: Any, writer: Writer, namespace: str) -> None:
    given_cells = [cell(), cell(key="key_8", status=500, bins={1: 2, 2: 1}, calls=3)]
    assert send(writer, 1, *given_cells) == SendResult(Outcome.COUNTED)
    found = expand(writer.schema, Chunk("acme", 1, cells(given_cells)), int(NOW))
    expected = {key: {**one.sums, **one.greatest} for key, one in found.series.items()}
    expected |= {key: board.sums for key, board in found.boards.items()}
    assert stored(client, namespace) == expected


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lists_of_cells(), st.integers(1, 7), st.integers(0, 2**32))
def test_many_chunks_are_one_expansion(client: Any, given_cells: list[Cell], step: int, salt: int) -> None:
    # With history, the days of each chunk are marked.
    options: dict[str, Any] = {"dimensions": ("project",), "counters": ("records",), "history": False}
    writer = Writer(lambda: client, Schema(Settings(namespace=f"p{salt}", **options)))
    for number, at in enumerate(range(0, len(given_cells), step), 1):
        assert send(writer, number, *given_cells[at : at + step]).outcome is Outcome.COUNTED
    found = expand(writer.schema, Chunk("acme", 1, cells(given_cells)), int(NOW))
    expected = {key: {**one.sums, **one.greatest} for key, one in found.series.items()}
    expected |= {key: board.sums for key, board in found.boards.items()}
    try:
        assert stored(client, f"p{salt}") == expected
    finally:
        client.delete(*client.scan_iter(f"p{salt}:*", count=10_000))


def test_every_key_has_an_end(client: Any, make_writer: Callable[..., Writer], namespace: str) -> None:
    writer = make_writer(dimensions=("project",))
    send(writer, 1, cell(tags=("search",)))
    send(writer, 1, cell(tags=("search",)), org="*")
    send(writer, 2, cell(tags=("other",)))
    writer.heartbeat(WORKER, {"pid": 1}, int(NOW * 1000))
    keys = list(client.scan_iter(f"{namespace}:*", count=10_000))
    assert len(keys) > 50
    assert not [key for key in keys if client.ttl(key) < 0]


def test_an_end_is_that_of_the_slot_whatever_the_servers_clock(client: Any, writer: Writer) -> None:
    send(writer, 1)
    tree = writer.schema.tree("acme")
    board_end = MINUTE + 60 + 3 * 3600
    assert abs(client.pttl(f"{tree}:board:1m:2026-11-20T13:45:endpoint:calls") - (board_end - NOW) * 1000) < 2_000
    assert abs(client.pttl(f"{tree}:applied:{WORKER}") - 8 * 86_400_000) < 2_000


def test_a_later_chunk_does_not_move_the_end(client: Any, writer: Writer) -> None:
    send(writer, 1)
    key = f"{writer.schema.tree('acme')}:{DAY_KEY}"
    client.expire(key, 50)
    send(writer, 2)
    assert client.ttl(key) <= 50
    client.persist(key)
    send(writer, 3)
    assert client.ttl(key) > 50


def test_sent_five_times_counted_once(client: Any, writer: Writer) -> None:
    answers = [send(writer, 1) for _ in range(5)]
    assert [answer.outcome for answer in answers] == [Outcome.COUNTED] * 5
    assert [answer.last for answer in answers] == [0, 1, 1, 1, 1]
    assert calls(client, writer) == 1


def test_an_older_number_counts_nothing(client: Any, writer: Writer) -> None:
    for number in 1, 2, 3:
        send(writer, number)
    assert send(writer, 2) == SendResult(Outcome.COUNTED, last=3)
    assert calls(client, writer) == 3


def test_a_gap_is_told_and_nothing_counted(client: Any, writer: Writer) -> None:
    send(writer, 1)
    assert send(writer, 3) == SendResult(Outcome.GAP, last=1)
    assert calls(client, writer) == 1
    assert send(writer, 3, previous=1).outcome is Outcome.COUNTED
    assert calls(client, writer) == 2


def test_a_server_that_forgot_everything(client: Any, writer: Writer) -> None:
    send(writer, 1)
    client.delete(*client.keys(f"{writer.schema.namespace}:*"))
    assert send(writer, 2, doubt=Doubt.OLD) == SendResult(Outcome.GAP, last=0)


def test_a_server_that_forgot_this_worker(client: Any, writer: Writer) -> None:
    """What others counted came before its first chunk: Redis has lost the end, and its counters with it."""
    send(writer, 1, worker="b" * 32)
    saved = client.dump(writer.schema.marked("acme"))
    send(writer, 1)
    client.delete(writer.schema.applied("acme", WORKER))
    client.restore(writer.schema.marked("acme"), 0, saved, replace=True)
    assert writer.marks(WORKER, ["acme"]) == {"acme": Mark(None)}
    assert send(writer, 2) == SendResult(Outcome.GAP, last=0)
    assert send(writer, 2, doubt=Doubt.RECENT) == SendResult(Outcome.GAP, last=0)


def test_a_mark_that_is_lost_alone(client: Any, writer: Writer) -> None:
    """It is known that the worker had one, so its counters were never lost: the chunk is the next one."""
    send(writer, 1)
    client.delete(writer.schema.applied("acme", WORKER))
    assert writer.marks(WORKER, ["acme"]) == {"acme": Mark(None, is_lost=True)}
    assert send(writer, 2) == SendResult(Outcome.COUNTED)
    assert (calls(client, writer), numbers(writer, "acme")) == (2, [2])


def test_a_first_chunk_in_doubt_whose_mark_is_lost_was_counted(client: Any, writer: Writer) -> None:
    send(writer, 1)
    client.delete(writer.schema.applied("acme", WORKER))
    assert send(writer, 1, doubt=Doubt.RECENT) == SendResult(Outcome.COUNTED, last=1)
    assert calls(client, writer) == 1


@pytest.mark.parametrize("doubt", [Doubt.RECENT, Doubt.OLD])
def test_a_chunk_in_doubt_whose_mark_is_lost_is_not_counted(client: Any, writer: Writer, doubt: Doubt) -> None:
    send(writer, 1)
    send(writer, 2)
    client.delete(writer.schema.applied("acme", WORKER))
    assert send(writer, 2, doubt=doubt) == SendResult(Outcome.UNSURE)
    assert calls(client, writer) == 2


def test_doubt_of_a_first_chunk(client: Any, writer: Writer) -> None:
    """Others' counters say nothing of it, as long as its mark can't have expired."""
    send(writer, 1, worker="b" * 32)
    assert send(writer, 1, doubt=Doubt.OLD) == SendResult(Outcome.UNSURE)
    assert send(writer, 1, doubt=Doubt.RECENT).outcome is Outcome.COUNTED
    assert calls(client, writer) == 2


def test_it_is_known_for_longer_than_any_counter_who_had_a_mark(client: Any, writer: Writer) -> None:
    key = writer.schema.marked("acme")
    send(writer, 1)
    others = [name for name in client.keys(f"{writer.schema.tree('acme')}:*") if name.decode() != key]
    assert client.ttl(key) > max(map(client.ttl, others))
    client.expire(key, 100 * 86400)
    send(writer, 2)
    assert client.ttl(key) > max(map(client.ttl, others))


def test_workers_that_were_killed_are_forgotten_when_their_marks_have_expired(client: Any, writer: Writer) -> None:
    """Those that live on are not, however many there are."""
    key, killed, today = writer.schema.marked("acme"), "c" * 32, NOW
    send(writer, 1)
    for number in range(200):
        send(writer, 1, worker=f"{number:032x}")
    send(writer, 1, worker=killed, now=today + DAY)
    for number in range(2, 11):
        today += DAY
        send(writer, number, now=today)
    send(writer, 1, worker="d" * 32, now=today + DAY)
    assert {name.decode() for name in client.hkeys(key)} == {WORKER, killed, "d" * 32}
    send(writer, 2, worker="d" * 32, now=today + 90 * DAY)
    assert client.hlen(key) == 3, "few cost nothing"


def test_a_key_of_another_type_in_place_of_those_who_had_a_mark(client: Any, writer: Writer) -> None:
    client.set(writer.schema.marked("acme"), "wrong")
    assert [send(writer, number).outcome for number in (1, 2, 2)] == [Outcome.COUNTED] * 3
    assert calls(client, writer) == 2


def test_a_worker_that_ends_leaves_no_mark(client: Any, writer: Writer) -> None:
    send(writer, 1)
    writer.forget(WORKER, ["acme"])
    assert not client.exists(writer.schema.applied("acme", WORKER), writer.schema.marked("acme"))


def test_a_chunk_in_parts(client: Any, writer: Writer) -> None:
    send(writer, 1, in_parts=True)
    assert send(writer, 1, in_parts=True) == SendResult(Outcome.COUNTED, last=1)
    assert send(writer, 2, in_parts=True).outcome is Outcome.COUNTED
    assert (calls(client, writer), client.exists(writer.schema.parts("acme", WORKER))) == (2, 0)


def test_a_chunk_of_which_a_part_is_missing(client: Any, writer: Writer) -> None:
    keys = writer._keys("acme", WORKER)
    client.set(keys[-1], b"something else")
    assert writer._run(keys, b"", "0" * 40) == [b"RETRY", b"parts of the chunk are missing"]
    assert not client.exists(keys[0])


def test_workers_and_organisations_number_for_themselves(client: Any, writer: Writer) -> None:
    for worker in "a" * 32, "b" * 32:
        for org in "acme", "globex":
            assert send(writer, 1, worker=worker, org=org).outcome is Outcome.COUNTED
    assert calls(client, writer) == calls(client, writer, "globex") == 2
    assert numbers(writer, "acme", "globex", "nobody", worker="a" * 32) == [1, 1, None]


def test_the_script_is_loaded_again(client: Any, writer: Writer) -> None:
    send(writer, 1)
    client.script_flush()
    assert send(writer, 2).outcome is Outcome.COUNTED
    assert client.script_exists(SCRIPT.sha) == [True]
    assert calls(client, writer) == 2


def test_the_greatest_stays(client: Any, writer: Writer) -> None:
    start = MINUTE * 1000
    for number, last_ms in enumerate([start + 50, start + 90, start + 70], 1):
        send(writer, number, cell(last_ms=last_ms))
    assert client.hget(f"{writer.schema.tree('acme')}:{DAY_KEY}", "20 last_ms") == b"%d" % (start + 90)
    assert client.zscore(writer.schema.seen("acme", "key"), "key_7") == start + 90


@pytest.mark.parametrize("amount", [2**53 - 1, 2**53 + 1, 2**60 + 1, 10**15, 10**9])
def test_large_sums_are_exact(client: Any, make_writer: Callable[..., Writer], amount: int) -> None:
    writer = make_writer(counters=("records",))
    for number in 1, 2, 3:
        send(writer, number, cell(counts=(amount,)))
    assert client.hget(f"{writer.schema.tree('acme')}:{DAY_KEY}", "20 c.records") == str(3 * amount).encode()


def test_a_sum_that_grows_past_what_a_double_holds(client: Any, make_writer: Callable[..., Writer]) -> None:
    writer = make_writer(counters=("records",))
    for number, amount in enumerate([2**53 - 1, 2, 3], 1):
        send(writer, number, cell(counts=(amount,)))
    assert client.hget(f"{writer.schema.tree('acme')}:{DAY_KEY}", "20 c.records") == str(2**53 + 4).encode()


def test_a_key_of_another_type_is_passed_by_and_counted(client: Any, writer: Writer) -> None:
    tree = writer.schema.tree("acme")
    client.set(f"{tree}:{DAY_KEY}", "mine")
    client.set(f"{tree}:board:1d:2026-11-20:key:calls", "mine")
    client.set(f"{tree}:seen:key", "mine")
    assert send(writer, 1) == SendResult(Outcome.COUNTED, wrong_type=3)
    assert client.hget(f"{tree}:{DAY_KEY}:key:key_7", "20 calls") == b"1"
    assert client.zscore(f"{tree}:board:1d:2026-11-20:endpoint:calls", "GET /v1/items") == 1
    assert client.get(f"{tree}:{DAY_KEY}") == b"mine"


def test_a_field_that_is_no_number_is_passed_by(client: Any, writer: Writer) -> None:
    key = f"{writer.schema.tree('acme')}:{DAY_KEY}"
    client.hset(key, "20 calls", "many")
    assert send(writer, 1).wrong_type == 1
    assert client.hgetall(key)[b"20 calls"] == b"many"
    assert client.hget(key, "20 bytes") == b"50"


def test_what_is_not_a_chunk_is_a_fault(client: Any, writer: Writer) -> None:
    with pytest.raises(redis.ResponseError, match="not a chunk"):
        writer._run(writer._keys("acme", WORKER), b"\x91\x07")
    assert not client.exists(writer.schema.applied("acme", WORKER))


def test_dropped_calls(client: Any, writer: Writer) -> None:
    assert writer.send(WORKER, Chunk("acme", 1, {}, 7), 0, NOW).outcome is Outcome.COUNTED
    assert client.hgetall(f"{writer.schema.tree('acme')}:{DAY_KEY}") == {b"20 dropped": b"7"}


# Caps


def test_new_members_are_refused_when_it_is_full(client: Any, make_writer: Callable[..., Writer]) -> None:
    writer = make_writer(max_members={"key": 2})
    assert send(writer, 1, cell(key="a"), cell(key="b")).outcome is Outcome.COUNTED
    assert send(writer, 2, cell(key="a"), cell(key="c"), cell(key="d")) == SendResult(Outcome.FULL, refused={"key": {"c", "d"}})
    assert calls(client, writer) == 2
    assert numbers(writer, "acme") == [1]
    assert send(writer, 2, cell(key="a"), cell(key="b")).outcome is Outcome.COUNTED


def test_the_room_that_is_left_is_given_away(make_writer: Callable[..., Writer]) -> None:
    writer = make_writer(max_members={"key": 2})
    answer = send(writer, 1, *[cell(key=name) for name in "abcd"])
    assert {name: len(refused) for name, refused in answer.refused.items()} == {"key": 2}


def test_reserved_members_are_always_admitted_and_take_no_room(make_writer: Callable[..., Writer]) -> None:
    writer = make_writer(max_members={"key": 1, "endpoint": 1})
    reserved = [cell(key="(other)", endpoint="GET (unmatched)"), cell(key="(anonymous)", endpoint="POST (other)")]
    assert send(writer, 1, *reserved).outcome is Outcome.COUNTED
    assert send(writer, 2, cell(key="a")).outcome is Outcome.COUNTED
    assert send(writer, 3, *reserved).outcome is Outcome.COUNTED
    assert send(writer, 4, cell(key="b")).refused == {"key": {"b"}}


def test_keys_of_the_directory_are_always_admitted(make_writer: Callable[..., Writer]) -> None:
    writer = make_writer(max_members={"key": 1})
    send(writer, 1, cell(key="a"))
    assert send(writer, 2, cell(key="b"), cell(key="c"), exempt={"b"}).refused == {"key": {"c"}}
    assert send(writer, 2, cell(key="b"), exempt={"b"}).outcome is Outcome.COUNTED
    assert send(writer, 3, cell(key="b")).outcome is Outcome.COUNTED


def test_members_that_were_not_seen_for_the_longest_retention_make_room(
    client: Any, make_writer: Callable[..., Writer]
) -> None:
    writer = make_writer(max_members={"key": 1})
    client.zadd(writer.schema.seen("acme", "key"), {"old": (NOW - 801 * 86400) * 1000})
    assert send(writer, 1, cell(key="a")).outcome is Outcome.COUNTED
    assert client.zrange(writer.schema.seen("acme", "key"), 0, -1) == [b"a"]


def test_dimensions_have_a_cap_each(make_writer: Callable[..., Writer]) -> None:
    writer = make_writer(dimensions=("project",), max_members={"project": 1, "endpoint": 1})
    answer = send(writer, 1, cell(tags=("x",)), cell(tags=("y",), endpoint="GET /b", key="k"))
    assert {name: len(refused) for name, refused in answer.refused.items()} == {"project": 1, "endpoint": 1}


# What goes wrong


def test_no_server() -> None:
    nowhere = quick_client(unix_socket_path="/nowhere/at/all")
    answer = send(Writer(lambda: nowhere, Schema(Settings())), 1)
    assert answer.outcome is Outcome.SILENT
    assert "/nowhere" in answer.reason


def test_rows_that_do_not_fit_the_settings_are_a_fault(writer: Writer) -> None:
    assert send(writer, 1, cell(tags=("one", "too many"))).outcome is Outcome.FAULT
    assert send(writer, 1, cell(key="\ud800")).outcome is Outcome.FAULT


def test_no_engine() -> None:
    def client() -> redis.Redis:
        raise UsageUnavailable("no server was found")

    assert send(Writer(client, Schema(Settings())), 1) == SendResult(Outcome.SILENT, reason="no server was found")


def test_a_permission_that_lacks_is_this_organisations_trouble(client: Any, server: ServerProcess, namespace: str) -> None:
    client.execute_command("ACL", "SETUSER", namespace, "on", ">secret", "+@all", f"~{namespace}:{{acme}}:*")
    try:
        with server.client(username=namespace, password="secret") as limited:
            writer = Writer(lambda: limited, Schema(Settings(namespace=namespace)))
            assert send(writer, 1).outcome is Outcome.COUNTED
            assert send(writer, 1, org="globex").outcome is Outcome.LATER
    finally:
        client.execute_command("ACL", "DELUSER", namespace)


def test_a_permission_that_lacks_for_some_keys_claims_nothing(client: Any, server: ServerProcess, namespace: str) -> None:
    client.execute_command("ACL", "SETUSER", namespace, "on", ">secret", "+@all", f"~{namespace}:{{acme}}:applied:*")
    try:
        with server.client(username=namespace, password="secret") as limited:
            writer = Writer(lambda: limited, Schema(Settings(namespace=namespace)))
            assert send(writer, 1).outcome is Outcome.LATER
    finally:
        client.execute_command("ACL", "DELUSER", namespace)
    assert list(client.scan_iter(f"{namespace}:*", count=10_000)) == []


@pytest.mark.slow
def test_out_of_memory_is_refused_before_anything_is_claimed(namespace: str) -> None:
    with ServerProcess() as small, small.client() as client:
        writer = Writer(lambda: client, Schema(Settings(namespace=namespace)))
        send(writer, 1)
        client.config_set("maxmemory", "100kb")  # An empty Redis 6.2 takes less than a megabyte.
        answer = send(writer, 2)
        assert answer.outcome is Outcome.AWAY
        assert "OOM" in answer.reason or "maxmemory" in answer.reason
        client.config_set("maxmemory", "0")
        assert calls(client, writer) == 1
        assert send(writer, 2).outcome is Outcome.COUNTED
        assert calls(client, writer) == 2


@pytest.mark.slow
def test_a_replica_takes_nothing(namespace: str) -> None:
    with ServerProcess() as single, single.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        answer = send(Writer(lambda: client, Schema(Settings(namespace=namespace))), 1)
        assert answer.outcome is Outcome.AWAY
        client.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.slow
def test_too_few_replicas(namespace: str) -> None:
    with ServerProcess(min_replicas_to_write=1) as single, single.client() as client:
        assert send(Writer(lambda: client, Schema(Settings(namespace=namespace))), 1).outcome is Outcome.AWAY


# What else it leaves in Redis


def test_the_shape_is_written_down_once(client: Any, make_writer: Callable[..., Writer]) -> None:
    make_writer().check_schema(1_000)
    writer = make_writer(dimensions=("project",))
    writer.check_schema(2_000)
    assert client.hgetall(writer.schema.meta) == {
        b"schema": b"1",
        b"slot_minutes": b"30",
        b"since:endpoint": b"1000",
        b"since:key": b"1000",
        b"since:project": b"2000",
        b"features": b"",
        b"history_since": b"1000",
    }


def test_what_a_later_version_writes_beyond_the_base_layout_stays_written_down(client: Any, writer: Writer) -> None:
    client.hset(writer.schema.meta, "features", "packed")
    writer.check_schema(1_000)
    assert client.hget(writer.schema.meta, "features") == b"packed"


def test_another_shape_is_a_disagreement(client: Any, make_writer: Callable[..., Writer]) -> None:
    make_writer().check_schema(1)
    with pytest.raises(Disagreement, match="slot_minutes is 30, this recorder has 15"):
        make_writer(slot_minutes=15).check_schema(1)


def test_a_sign_of_life(client: Any, writer: Writer) -> None:
    client.zadd(writer.schema.workers, {"dead": NOW * 1000 - 61_000, "alive": NOW * 1000 - 59_000})
    writer.heartbeat(WORKER, {"pid": 5, "host": "here"}, int(NOW * 1000))
    assert client.zrange(writer.schema.workers, 0, -1) == [b"alive", WORKER.encode()]
    assert client.hgetall(writer.schema.worker(WORKER)) == {b"pid": b"5", b"host": b"here"}
    assert 0 < client.ttl(writer.schema.worker(WORKER)) <= 60


def test_a_worker_that_ends_leaves_its_counters_alone(client: Any, writer: Writer, namespace: str) -> None:
    send(writer, 1)
    writer.heartbeat(WORKER, {"pid": 5}, int(NOW * 1000))
    writer.forget(WORKER, ["acme"])
    assert not [key for key in client.scan_iter(f"{namespace}:*", count=10_000) if WORKER.encode() in key]
    assert client.zscore(writer.schema.workers, WORKER) is None
    assert calls(client, writer) == 1


# Cluster


def test_organisations_are_spread_over_a_cluster(cluster: ClusterProcess, namespace: str) -> None:
    client: Any = cluster.client()
    try:
        writer = Writer(lambda: client, Schema(Settings(namespace=namespace)))
        writer.check_schema(1)
        orgs = [f"org{number}" for number in range(12)]
        for org in [*orgs, "*"]:
            assert send(writer, 1, org=org).outcome is Outcome.COUNTED
            assert send(writer, 2, org=org).outcome is Outcome.COUNTED
        writer.heartbeat(WORKER, {"pid": 1}, int(NOW * 1000))
        assert {writer.node_of(org) for org in orgs} == {f"127.0.0.1:{node.port}" for node in cluster.nodes}
        assert numbers(writer, *orgs) == [2] * 12
        assert [calls(client, writer, org) for org in orgs] == [2] * 12
        writer.forget(WORKER, orgs)
        assert numbers(writer, *orgs) == [None] * 12
    finally:
        client.close()


def test_nothing_is_written_while_a_slot_moves(cluster: ClusterProcess, namespace: str) -> None:
    client: Any = cluster.client()
    writer = Writer(lambda: client, Schema(Settings(namespace=namespace)))
    send(writer, 1)
    slot = client.keyslot(writer.schema.tree("acme"))
    source = next(node for node in cluster.nodes if f"127.0.0.1:{node.port}" == writer.node_of("acme"))
    target = next(node for node in cluster.nodes if node is not source)
    with source.client() as old, target.client() as new:
        old_id, new_id = (str(one.execute_command("CLUSTER MYID").decode()) for one in (old, new))
        new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", old_id)
        old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", new_id)
        keys = old.execute_command("CLUSTER GETKEYSINSLOT", slot, 10_000)
        moved = [writer.schema.applied("acme", WORKER), *keys[: len(keys) // 2]]
        old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *dict.fromkeys(moved))
        for worker in WORKER, "0" * 32:
            assert send(writer, 2 if worker == WORKER else 1, worker=worker).outcome in (Outcome.LATER, Outcome.AWAY)
        rest = old.execute_command("CLUSTER GETKEYSINSLOT", slot, 10_000)
        old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *rest)
        for one in new, old:
            one.execute_command("CLUSTER SETSLOT", slot, "NODE", new_id)
    assert send(writer, 2).outcome is Outcome.COUNTED
    assert send(writer, 1, worker="0" * 32).outcome is Outcome.COUNTED
    assert calls(client, writer) == 3
    client.close()
