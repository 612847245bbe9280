"""Backfill: rows of the past are counted as if they had been recorded then, once for each id, in both trees."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.record.test_corrections import OPTIONS, agrees, stored, totals, without_last
from tests.support import START, Clock, ClusterProcess, examples, record_call
from usage_middleware import Usage
from usage_middleware.errors import RowRefused, UsageUnavailable
from usage_middleware.latency import bin_of
from usage_middleware.record import corrections, once
from usage_middleware.record.corrections import Progress
from usage_middleware.store.payload import EncodedChunk, Once
from usage_middleware.store.schema import Schema
from usage_middleware.store.send_result import SendResult
from usage_middleware.store.writer import Writer

MakeUsage = Callable[..., Usage]
DAY = 86_400
ROW: dict[str, Any] = {"org": "acme", "at": START, "key": "key_1", "endpoint": "GET /a", "status": 200, "calls": 1}


@pytest.fixture
def usage(make_usage: MakeUsage) -> Usage:
    return make_usage(**OPTIONS)


def rows(many: int, **alike: Any) -> list[dict[str, Any]]:
    return [{**ROW, "id": f"r{number}", **alike} for number in range(many)]


def test_it_is_as_if_it_had_been_recorded(make_usage: MakeUsage, namespace: str) -> None:
    recorded, filled = make_usage(**OPTIONS), make_usage(namespace=f"{namespace}x", **OPTIONS)
    given_rows = []
    for number in range(40):
        org, key, status = ("acme", "globex")[number % 2], f"key_{number % 3}", (200, 404, 500)[number % 3]
        record_call(recorded.recorder, (org, key), f"GET /{number % 4}", ("search",), status, 1000 + number, number, (number,))
        given_rows.append(
            {
                "org": org, "id": f"r{number}", "at": START, "key": key, "endpoint": f"GET /{number % 4}", "status": status,
                "calls": 1, "counts": {"records": number}, "tags": {"project": "search"}, "bytes": number,
                "latency_ms": (1000 + number) / 1000,
            }
        )  # fmt: skip
    assert recorded.flush()
    assert filled.backfill(given_rows) == Progress(40, 40, 0)
    assert {name.replace(f"{namespace}x", namespace): fields for name, fields in stored(filled).items()} == stored(recorded)


def test_rows_of_many_calls(usage: Usage) -> None:
    found = usage.backfill([{**ROW, "id": "r", "calls": 10, "latency_ms": 123, "bytes": 50, "counts": {"records": 7}}])
    assert found == Progress(1, 10, 0)
    schema = Schema(usage.settings)
    bins = usage.engine.client.zrange(schema.latency_board("acme", "1d", "2026-11-20"), 0, -1, withscores=True)
    assert bins == [(str(bin_of(12_300)).encode(), 10.0)]
    assert usage.reader.summary(org="acme", period="24h").latency_ms.avg == 12.3
    assert agrees(usage)


def test_latency_bins_may_be_given(usage: Usage) -> None:
    usage.backfill([{**ROW, "id": "r", "calls": 10, "latency_ms": 123, "latency_bins": {"73": 9, 97: 1}}])
    schema = Schema(usage.settings)
    bins = usage.engine.client.zrange(schema.latency_board("acme", "1d", "2026-11-20"), 0, -1, withscores=True)
    assert bins == [(b"97", 1.0), (b"73", 9.0)]
    assert agrees(usage)


def test_it_may_be_repeated(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "ROWS_TOGETHER", 7)
    given_rows = [{**row, "at": START - number * 3600} for number, row in enumerate(rows(30))]
    assert usage.backfill(given_rows[:17]) == Progress(17, 17, 0)
    before = stored(usage)
    assert usage.backfill(given_rows[:17]) == Progress(17, 17, 17)
    assert stored(usage) == before
    monkeypatch.setattr(corrections, "ROWS_TOGETHER", 11)
    assert usage.backfill(reversed(given_rows)) == Progress(30, 30, 17)
    assert usage.reader.summary(org="acme", period="7d").total_calls == 30
    assert agrees(usage)


def test_rows_are_read_as_they_are_sent(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "ROWS_TOGETHER", 10)
    read, seen = 0, []

    def stream() -> Iterator[dict[str, Any]]:
        nonlocal read
        for row in rows(25, calls=2):
            read += 1
            yield row

    found = usage.backfill(stream(), progress=lambda done: seen.append((done, read)))
    assert found == Progress(25, 50, 0)
    assert seen == [(Progress(10, 20, 0), 10), (Progress(20, 40, 0), 20), (Progress(25, 50, 0), 25)]


def test_nothing_to_backfill(usage: Usage) -> None:
    assert usage.backfill([]) == Progress(0, 0, 0)


def test_an_id_twice_in_one_backfill(usage: Usage) -> None:
    assert usage.backfill([*rows(3), *rows(3)]) == Progress(6, 3, 3)
    assert totals(usage) == (3, 3)
    with pytest.raises(RowRefused, match="row 4: the id 'x' was used before, with another content"):
        usage.backfill([*rows(3), {**ROW, "id": "x"}, {**ROW, "id": "x", "calls": 2}])
    with pytest.raises(RowRefused, match="row 1: the id 'r2' was used before") as refused:
        usage.backfill([{**ROW, "id": "new"}, {**ROW, "id": "r2", "status": 500}])
    assert (refused.value.code, refused.value.row, refused.value.field) == ("id_used", 1, "id")
    assert totals(usage) == (3, 3)


def test_corrections_have_ids_of_their_own(usage: Usage) -> None:
    usage.backfill([{**ROW, "id": "1"}])
    correction = {name: value for name, value in ROW.items() if name != "org"}
    assert usage.correct("acme", id="1", reason="why", **{**correction, "calls": -1})
    assert totals(usage) == (0, 0)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("calls", {"calls": 0}),
        ("calls", {"calls": -1}),
        ("calls", {"calls": float("nan")}),
        ("bytes", {"bytes": -1}),
        ("latency_ms", {"latency_ms": -0.5}),
        ("latency_ms", {"latency_ms": float("nan")}),
        ("counts", {"counts": {"records": -1}}),
        ("latency_bins", {"latency_bins": {73: 2}}),
        ("latency_bins", {"latency_bins": {73: 2, 74: -1}}),
        ("latency_bins", {"latency_bins": {291: 1}}),
        ("latency_bins", {"latency_bins": {"fast": 1}}),
        ("latency_bins", {"latency_bins": [73]}),
        ("callz", {"callz": 1}),
        ("at", {"at": START + 3600}),
        ("at", {"at": START - 1000 * DAY}),
        ("org", {"org": ""}),
    ],
)
def test_a_wrong_row_is_named(usage: Usage, field: str, change: dict[str, Any]) -> None:
    with pytest.raises(RowRefused, match=f"^row 2: .*{field}") as refused:
        usage.backfill([*rows(2), {**ROW, "id": "wrong", **change}])
    assert (refused.value.row, refused.value.field) == (2, field)


@pytest.mark.parametrize("missing", ["org", "id", "at", "key", "endpoint", "status", "calls"])
def test_a_field_that_is_missing(usage: Usage, missing: str) -> None:
    row: Mapping[str, Any] = {name: value for name, value in {**ROW, "id": "r"}.items() if name != missing}
    with pytest.raises(RowRefused, match=f"row 0: {missing} is missing"):
        usage.backfill([row])
    with pytest.raises(RowRefused, match="row 0: a row is a dict of org, id"):
        usage.backfill([missing])  # type: ignore[list-item]


def test_a_sum_that_no_counter_holds_exactly(usage: Usage) -> None:
    huge = {"calls": 10**9, "latency_ms": 10**11, "bytes": 10**12}
    with pytest.raises(RowRefused, match="a counter can't take it"):
        usage.backfill(rows(200, **huge))
    assert usage.backfill(rows(3, **huge)).calls == 3 * 10**9
    assert agrees(usage)


def test_hundreds_of_rows_in_one_place(usage: Usage) -> None:
    """They share all their counters, and still each id is kept."""
    assert usage.backfill(rows(2500)) == Progress(2500, 2500, 0)
    assert usage.backfill(rows(2500)) == Progress(2500, 2500, 2500)
    assert totals(usage) == (2500, 2500)


def test_a_chunk_is_bounded(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows there are, and whatever they share: Redis works on one for so long at most."""
    sent: list[EncodedChunk] = []
    count_once = Writer.count_once

    def counting(writer: Writer, org: str, once: Once, chunk: EncodedChunk) -> SendResult:
        sent.append(chunk)
        return count_once(writer, org, once, chunk)

    monkeypatch.setattr(Writer, "count_once", counting)
    many = [
        {**row, "at": START - number * 100, "key": f"key_{number % 300}", "endpoint": f"GET /{number % 97}"}
        for number, row in enumerate(rows(1500))
    ]
    assert usage.backfill(many) == Progress(1500, 1500, 0)
    assert max(len(one.data) for one in sent) <= once.MOST_BYTES
    # Rows that have more in common need fewer chunks.
    apart = len(sent)
    sent.clear()
    assert usage.backfill([{**row, "id": f"x{row['id']}"} for row in rows(1500)]) == Progress(1500, 1500, 0)
    assert len(sent) < apart / 3
    assert agrees(usage)


def test_a_key_with_a_great_many_names(make_usage: MakeUsage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lua hands no command more than 8,000 arguments."""
    monkeypatch.setattr(once, "MOST_BYTES", 10**9)
    monkeypatch.setattr(once, "_FIRST", 1000)
    usage = make_usage(dimensions=("project", "feature", "team", "region"))
    names = usage.settings.dimensions
    many = [{**row, "status": 404, "latency_ms": 5, "tags": dict.fromkeys(names, row["id"])} for row in rows(1000)]
    assert usage.backfill(many) == Progress(1000, 1000, 0)
    board = Schema(usage.settings).key_board("acme", "1d", "2026-11-20", "key_1")
    assert len(usage.engine.client.zrange(board, 0, -1)) > 12_000
    assert totals(usage) == (1000, 0)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(make_usage: MakeUsage, namespace: str, order: random.Random) -> None:
    own = secrets.token_hex(4)
    first, second = (make_usage(namespace=f"{namespace}{own}{name}", **OPTIONS) for name in "ab")
    many = [
        {
            **row, "at": START - number % 7 * 9 * 3600 - number % 3 * DAY * 20, "key": f"key_{number % 5}",
            "status": (200, 404, 500)[number % 3], "latency_ms": number, "org": ("acme", "globex")[number % 2],
        }
        for number, row in enumerate(rows(60))
    ]  # fmt: skip
    first.backfill(many)
    order.shuffle(many)
    second.backfill(many)
    one, other = ({name.split(":", 1)[1]: fields for name, fields in stored(usage).items()} for usage in (first, second))
    assert one == other


class Breaking:
    """Commands to a real server, of which one finds the connection broken: before it is sent, or when it is answered."""

    def __init__(self, usage: Usage, at: int, *, answered: bool) -> None:
        self._client, self._at, self._answered = usage.engine.client, at, answered
        self.sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def execute_command(self, *arguments: Any) -> Any:
        self.sent += 1
        if self.sent == self._at and not self._answered:
            raise ConnectionResetError("broken")
        reply = self._client.execute_command(*arguments)
        if self.sent == self._at:
            raise ConnectionResetError("broken")
        return reply


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("at", range(1, 7))
def test_redis_goes_away_halfway(usage: Usage, monkeypatch: pytest.MonkeyPatch, at: int, answered: bool) -> None:
    """Whatever arrived, the same rows again bring both trees to the same numbers."""
    monkeypatch.setattr(corrections, "ROWS_TOGETHER", 5)
    given_rows = [{**row, "org": ("acme", "globex")[number % 2]} for number, row in enumerate(rows(12))]
    assert usage.flush()  # The script is there: each chunk is one command.
    usage.backfill([{**ROW, "id": "first"}])
    breaking = Breaking(usage, at, answered=answered)
    with monkeypatch.context() as broken:
        broken.setattr(corrections_writer(usage), "_client", lambda: breaking)
        with pytest.raises(UsageUnavailable, match=r"Repeat it with the same ids.* The first (0|5|10) rows are counted"):
            usage.backfill(given_rows)
    assert usage.backfill(given_rows).rows == 12
    assert totals(usage) == (13, 13)
    assert totals(usage, org="acme") == (7, 7)
    assert agrees(usage)


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("at", range(1, 5))
def test_redis_goes_away_within_a_correction(usage: Usage, monkeypatch: pytest.MonkeyPatch, at: int, answered: bool) -> None:
    usage.backfill([{**ROW, "id": "first", "calls": 5}])
    correction = {**ROW, "id": "c1", "reason": "why", "calls": -2}
    breaking = Breaking(usage, at, answered=answered)
    with monkeypatch.context() as broken:
        broken.setattr(corrections_writer(usage), "_client", lambda: breaking)
        with pytest.raises(UsageUnavailable, match="Repeat it with the same ids"):
            usage.correct(**correction)
    usage.correct(**correction)
    assert not usage.correct(**correction)
    assert totals(usage) == totals(usage, org="acme") == (3, 3)
    assert agrees(usage)


def corrections_writer(usage: Usage) -> Any:
    return usage.correct.__self__._writer._writer  # type: ignore[attr-defined]


def test_in_a_cluster(cluster: ClusterProcess, namespace: str, clock: Clock) -> None:
    """Organisations and the operator's tree are on different nodes. Each counts once."""
    with Usage(cluster.url, namespace=namespace, clock=clock, **OPTIONS) as usage:
        given_rows = [{**row, "org": f"org{number % 5}"} for number, row in enumerate(rows(60))]
        assert usage.backfill(given_rows) == Progress(60, 60, 0)
        schema = Schema(usage.settings)
        for name in usage.engine.client.scan_iter(f"{namespace}:{{\\*}}:[sb]*:*"):
            usage.engine.client.delete(name)
        usage.engine.client.delete(schema.backfilled("*", "2026-11"))
        # As if it had been killed before it came to the operator's tree.
        assert usage.backfill(given_rows) == Progress(60, 60, 60)
        assert usage.correct("org0", id="c", at=START, reason="r", key="key_1", endpoint="GET /a", status=200, calls=-2)
        assert totals(usage) == (58, 58)
        assert not usage.reconcile("org0").differences


_KEYS, _ENDPOINTS = st.sampled_from(["key_1", "key_2", None]), st.sampled_from(["GET /a", "POST /a/{id}", "GET (other)"])
one_row = st.fixed_dictionaries(
    {
        "org": st.sampled_from(["acme", "globex"]),
        "at": st.integers(0, 3 * DAY).map(lambda age: START - age),
        "key": _KEYS,
        "endpoint": _ENDPOINTS,
        "status": st.sampled_from([200, 204, 301, 404, 500, 700]),
        "calls": st.integers(1, 9),
        "tags": st.sampled_from([{}, {"project": "search"}]),
        "bytes": st.integers(0, 1000),
        "latency_ms": st.floats(0, 5000),
        "counts": st.sampled_from([{}, {"records": 3}]),
    }
)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(one_row, min_size=1, max_size=12),
    st.lists(st.tuples(one_row, st.integers(-9, 9), st.booleans()), max_size=12),
)
def test_every_sum_agrees(make_usage: MakeUsage, filled: list[Any], changes: list[Any]) -> None:
    """After any backfill and any corrections, counted or refused: the counters agree, and say what was counted."""
    usage = make_usage(namespace=f"p{secrets.token_hex(6)}", **OPTIONS)
    given_rows = [{**row, "id": str(number)} for number, row in enumerate(filled)]
    usage.backfill(given_rows)
    calls = {org: sum(row["calls"] for row in filled if row["org"] == org) for org in ("acme", "globex")}
    for number, (row, amount, is_known) in enumerate(changes):
        target = filled[number % len(filled)] if is_known else row
        correction = {**target, "id": str(number), "reason": "why", "calls": amount, "latency_ms": 0, "bytes": amount}
        before = stored(usage)
        refused = refusal_of(usage, {**correction, "counts": {}})
        assert refused in ("", "out_of_range" if amount else "invalid_row")
        if refused:
            assert stored(usage) == before
        else:
            calls[target["org"]] += amount
    start = int(START) // DAY * DAY - 3 * DAY
    for org in (None, "acme", "globex"):
        found = usage.reader.summary(org=org, start=start, end=int(START) + 1)
        assert found.total_calls == (sum(calls.values()) if org is None else calls[org])
        assert not [str(one) for one in usage.reconcile(org, start=start, end=int(START) + 1).differences]
    assert usage.backfill(given_rows).repeated == len(filled)
    assert not [number for fields in without_last(stored(usage)).values() for number in fields.values() if float(number) == 0]


def refusal_of(usage: Usage, correction: dict[str, Any]) -> str:
    """The code of the refusal; empty if it was counted."""
    try:
        assert usage.correct(**correction)
    except RowRefused as refused:
        return refused.code
    return ""
