"""Corrections: every number that calls are in changes, once for each id, and none falls below 0."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support import START, Clock, record_call
from usage_middleware import KeyInfo, Usage
from usage_middleware.errors import ConfigurationError, RowRefused, UsageUnavailable
from usage_middleware.record import once
from usage_middleware.report.key_rows import KeyUsage
from usage_middleware.store.schema import Schema

MakeUsage = Callable[..., Usage]
OPTIONS: dict[str, Any] = {"dimensions": ("project",), "counters": ("records",)}
CALL: dict[str, Any] = {
    "id": "c1", "at": START, "reason": "a loop of ours", "key": "key_1", "endpoint": "GET /a", "status": 200, "calls": -1
}  # fmt: skip


@pytest.fixture
def usage(make_usage: MakeUsage) -> Usage:
    made = make_usage(**OPTIONS)
    for status in (200, 200, 404):
        record_call(made.recorder, ("acme", "key_1"), "GET /a", ("search",), status, 1000, 50, (3,))
    assert made.flush()
    return made


def correct(usage: Usage, org: str = "acme", **changes: Any) -> bool:
    return usage.correct(org, **{**CALL, "tags": {"project": "search"}, **changes})


def stored(usage: Usage) -> dict[str, dict[bytes, Any]]:
    """All series, boards and registries of the namespace."""
    client, found = usage.engine.client, {}
    for name in client.scan_iter(f"{usage.settings.namespace}:*", count=10_000):
        kind = name.split(b"}:", 1)[1].split(b":")[0]
        if kind == b"series":
            found[name.decode()] = client.hgetall(name)
        elif kind in (b"board", b"seen"):
            found[name.decode()] = dict(client.zrange(name, 0, -1, withscores=True))
    return found


def agrees(usage: Usage) -> bool:
    differences = [one for org in (None, "acme", "globex") for one in usage.reconcile(org).differences]
    assert not differences, [str(one) for one in differences]
    return True


def keys_of(usage: Usage) -> list[KeyUsage]:
    found = usage.reader.by_key(org="acme").keys
    assert found is not None
    return found


def totals(usage: Usage, **asked: Any) -> tuple[int, int]:
    found = usage.reader.summary(period="24h", **asked)
    return found.total_calls, found.successful_calls


def test_calls_are_taken_away_everywhere(usage: Usage) -> None:
    assert correct(usage, bytes=-50, counts={"records": -3}, latency_ms=-1)
    assert totals(usage) == totals(usage, org="acme") == (2, 1)
    by_key = keys_of(usage)
    assert [(key.key_id, key.request_count, key.error_count) for key in by_key] == [("key_1", 2, 1)]
    (endpoint,) = usage.reader.endpoints(org="acme").results
    assert (endpoint.total_requests, endpoint.counts["records"]) == (2, 6)
    assert usage.reader.summary(org="acme").by_dimension["project"] == [("search", 2)]
    assert agrees(usage)


def test_calls_are_moved_to_another_key(usage: Usage) -> None:
    """What a wrong key brought about: one correction takes away, another adds."""
    for status, calls in ((200, 2), (404, 1)):
        assert correct(usage, id=f"from {status}", status=status, calls=-calls)
        assert correct(usage, id=f"to {status}", status=status, calls=calls, key="key_2")
    by_key = keys_of(usage)
    assert [(key.key_id, key.request_count, key.error_count) for key in by_key] == [("key_2", 3, 1)]
    assert totals(usage, org="acme") == (3, 2)
    assert agrees(usage)


def test_there_and_back_leaves_nothing(usage: Usage) -> None:
    before = stored(usage)
    more: dict[str, Any] = {"bytes": 7, "counts": {"records": 9}, "latency_ms": 1.5}
    fewer: dict[str, Any] = {"bytes": -7, "counts": {"records": -9}, "latency_ms": -1.5}
    assert correct(usage, id="there", status=500, calls=5, **more)
    assert correct(usage, id="back", status=500, calls=-5, **fewer)
    after = stored(usage)
    assert without_last(after) == without_last(before)


def without_last(found: dict[str, dict[bytes, Any]]) -> dict[str, dict[bytes, Any]]:
    """Without the times of the last calls, which never go back."""
    return {
        name: {field: number for field, number in fields.items() if not field.endswith(b" last_ms")}
        for name, fields in found.items()
        if ":seen:" not in name
    }


def test_the_same_id_counts_once(usage: Usage) -> None:
    assert [correct(usage) for _ in range(3)] == [True, False, False]
    assert totals(usage, org="acme") == (2, 1)


@pytest.mark.parametrize(
    "changes",
    [{"calls": -2}, {"reason": "another"}, {"at": START - 86_400}, {"at": START - 40 * 86_400}, {"key": None}, {"tags": {}}],
)
def test_the_same_id_with_another_content_is_refused(usage: Usage, changes: dict[str, Any]) -> None:
    correct(usage, calls=1)
    before = stored(usage)
    with pytest.raises(RowRefused, match="'c1' was used before, with another content") as refused:
        correct(usage, **{"calls": 1, **changes})
    assert (refused.value.code, refused.value.field, refused.value.row) == ("id_used", "id", None)
    assert stored(usage) == before


def test_ids_are_an_organisations_own(usage: Usage) -> None:
    assert correct(usage, calls=1)
    assert correct(usage, "globex", calls=2)
    assert correct(usage, "a:c1", id="x", calls=1)
    assert correct(usage, "a", id="c1:x", calls=1)
    assert totals(usage) == (8, 7)
    assert agrees(usage)


@pytest.mark.parametrize(
    ("changes", "cell"),
    [
        ({"calls": -4}, "calls"),
        ({"status": 404, "calls": -2}, "s404"),
        ({"status": 500}, "s500"),
        ({"key": "key_2"}, "calls"),
        ({"endpoint": "POST /a"}, "calls"),
        ({"tags": {}}, "none"),
        ({"bytes": -151}, "bytes"),
        ({"latency_ms": -3.001}, "latency_us"),
        ({"counts": {"records": -10}}, "records"),
        ({"at": START - 600}, "calls"),
        ({"at": START - 600, "calls": 0, "bytes": -1}, "bytes"),
    ],
)
def test_nothing_falls_below_0(usage: Usage, changes: dict[str, Any], cell: str) -> None:
    """Where one number would, none is changed, in neither tree."""
    before = stored(usage)
    with pytest.raises(RowRefused, match="would be -") as refused:
        correct(usage, **changes)
    assert refused.value.code == "out_of_range"
    assert cell in refused.value.message
    assert stored(usage) == before
    assert correct(usage)


def test_the_operators_counters_are_asked_before_anything_is_written(usage: Usage) -> None:
    """They are written after the organisation's, and may lack calls that are on their way."""
    schema = Schema(usage.settings)
    board = schema.board("*", "1d", "2026-11-20", "org", "calls")
    usage.engine.client.zadd(board, {"acme": 0})
    before = stored(usage)
    with pytest.raises(RowRefused, match="would be -1"):
        correct(usage)
    assert stored(usage) == before
    usage.engine.client.zadd(board, {"acme": 3})
    assert correct(usage)
    assert agrees(usage)


def test_percentiles_stay_as_they_are(usage: Usage) -> None:
    before = usage.reader.summary(org="acme", period="24h").latency_ms
    correct(usage, latency_ms=-1)
    after = usage.reader.summary(org="acme", period="24h").latency_ms
    assert (after.p50, after.p99) == (before.p50, before.p99)
    assert after.avg == 1.0


def test_a_correction_of_counters_alone(usage: Usage) -> None:
    assert correct(usage, calls=0, counts={"records": -4}, bytes=10)
    (endpoint,) = usage.reader.endpoints(org="acme").results
    assert (endpoint.total_requests, endpoint.counts["records"]) == (3, 5)
    assert not [field for fields in stored(usage).values() for field, number in fields.items() if not number]
    assert agrees(usage)


def test_what_is_kept_of_the_past_is_corrected(usage: Usage, clock: Clock) -> None:
    """Forty days later the days are left, and the half-hours of some."""
    clock.advance(40 * 86_400)
    assert correct(usage)
    found = usage.reader.summary(org="acme", start=int(START) // 86_400 * 86_400, end=int(START) // 86_400 * 86_400 + 86_400)
    assert found.total_calls == 2
    assert agrees(usage)
    assert not usage.reconcile("acme", start=datetime.fromtimestamp(START, UTC), end=int(START) + 1).differences


def test_last_activity_is_that_of_added_calls(usage: Usage, clock: Clock) -> None:
    clock.advance(7200)
    correct(usage, id="fewer", calls=-1)
    correct(usage, id="more", calls=1, key="key_2", at=START + 3600)
    last = {key.key_id: key.last_activity for key in keys_of(usage)}
    assert last == {"key_1": "2026-11-20T13:45:20Z", "key_2": "2026-11-20T14:45:20Z"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""), ("id", " "), ("id", 7), ("id", "x" * 129), ("id", "\ud800"),
        ("reason", ""), ("reason", None), ("reason", "x" * 1001),
        ("at", float("nan")), ("at", float("inf")), ("at", True), ("at", None), ("at", "yesterday"), ("at", -1),
        ("at", datetime(2026, 11, 20)), ("at", "2026-11-20T13:45:00"), ("at", START + 60), ("at", 10**20),  # noqa: DTZ001
        ("at", datetime(1, 1, 1, tzinfo=UTC)), pytest.param("at", 10**5000, id="at huge"), ("at", 10**400),
        ("key", ""), ("key", 7), ("endpoint", "/a"), ("endpoint", "GET"), ("endpoint", "BREW /a"), ("endpoint", None),
        ("status", 99), ("status", 1000), ("status", "200"), ("status", 200.0), ("status", True),
        ("calls", 0), ("calls", 1.0), ("calls", float("nan")), ("calls", True), ("calls", 10**10), ("calls", "1"),
        ("counts", {"matches": 1}), ("counts", {"records": 0.5}), ("counts", [("records", 1)]), ("counts", {"records": 10**13}),
        ("tags", {"team": "x"}), ("tags", {"project": 7}), ("tags", "search"),
        ("bytes", 10**13), ("bytes", 0.5), ("latency_ms", float("nan")), ("latency_ms", float("-inf")), ("latency_ms", "1"),
        ("latency_ms", 1e12), ("latency_ms", 10**400), pytest.param("calls", 10**5000, id="calls huge"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(usage: Usage, field: str, value: Any) -> None:
    before = stored(usage)
    with pytest.raises(RowRefused) as refused:
        correct(usage, **{field: value})
    assert (refused.value.code, refused.value.field) == ("invalid_row", field)
    assert field in refused.value.message
    assert len(refused.value.message) < 300
    assert stored(usage) == before


@pytest.mark.parametrize("org", ["", None, 7])
def test_a_wrong_organisation(usage: Usage, org: Any) -> None:
    with pytest.raises(RowRefused, match="org must be the name"):
        correct(usage, org)


def test_what_is_not_kept_any_more_is_refused(usage: Usage) -> None:
    with pytest.raises(RowRefused, match="so long ago") as refused:
        correct(usage, at=START - 900 * 86_400, calls=1)
    assert (refused.value.code, refused.value.field) == ("not_kept", "at")


@pytest.mark.parametrize(
    ("org", "key", "stored_org", "stored_key"),
    [
        ("*", "a:b", "%2A", "a:b"),
        ("acme", None, "acme", "(anonymous)"),
        ("acme", "(other)", "acme", "(other)"),
        ("acme", "k" * 500, "acme", "k" * 96),
        ("default", "calls", "default", "calls"),
    ],
)
def test_names_are_those_that_answers_list(usage: Usage, org: str, key: str, stored_org: str, stored_key: str) -> None:
    assert correct(usage, org, key=key, calls=1)
    client, schema = usage.engine.client, Schema(usage.settings)
    found = client.zrange(schema.board(stored_org, "1d", "2026-11-20", "key", "calls"), 0, -1)
    assert any(name.decode().startswith(stored_key) for name in found)
    assert agrees(usage)


def test_members_over_the_cap_are_others(make_usage: MakeUsage) -> None:
    """As calls are: a correction of a key that got no name of its own is one of `(other)`."""
    usage = make_usage(max_members={"key": 2, "endpoint": 1})
    usage.keys.put("acme", KeyInfo(id="named", name="Named"), secret="s")
    for key in ("key_1", "key_2", "key_3"):
        record_call(usage.recorder, ("acme", key), "GET /a")
    assert usage.flush()
    plain = {**CALL, "tags": {}}
    assert usage.correct("acme", **{**plain, "key": "key_3"})
    assert usage.correct("acme", **{**plain, "id": "c2", "key": "named", "calls": 2, "endpoint": "GET /b"})
    counts = {key.key_id: key.request_count for key in keys_of(usage)}
    assert counts == {"key_1": 1, "key_2": 1, "named": 2}
    assert {one.endpoint: one.total_requests for one in usage.reader.endpoints(org="acme").results} == {
        "GET /a": 2,
        "GET (other)": 2,
    }
    assert agrees(usage)


def test_calls_from_before_a_dimension_was_declared(make_usage: MakeUsage, clock: Clock) -> None:
    """They are on no board of it, and show as `(none)`. So does what is corrected or backfilled of that time."""
    before = make_usage()
    for _ in range(3):
        record_call(before.recorder, ("acme", "key_1"), "GET /a")
    assert before.flush()
    clock.advance(3600)
    usage = make_usage(dimensions=("project",))
    call = {**CALL, "tags": {}}
    assert usage.correct("acme", **{**call, "calls": -2, "latency_ms": -3})
    with pytest.raises(RowRefused, match="would be -1"):
        usage.correct("acme", **{**call, "id": "tagged", "tags": {"project": "search"}})
    row = {name: value for name, value in call.items() if name != "reason"}
    usage.backfill(
        [{**row, "org": "acme", "id": "1", "calls": 4}, {**row, "org": "acme", "id": "2", "tags": {"project": "x"}, "calls": 5}]
    )
    assert usage.correct("acme", **{**call, "id": "c2", "calls": -5})
    assert usage.reader.summary(org="acme", period="24h").by_dimension["project"] == [("x", 5)]
    assert totals(usage, org="acme") == (5, 5)
    assert agrees(usage)


def test_every_key_has_an_end(usage: Usage) -> None:
    correct(usage)
    client = usage.engine.client
    names = list(client.scan_iter(f"{usage.settings.namespace}:*", count=10_000))
    ids = [name for name in names if b":corrections:" in name]
    assert len(ids) == 2
    forever = (b":meta", b":routes")
    assert not [name for name in names if client.ttl(name) < 0 and not name.endswith(forever)]
    # November ends in 10 days and some hours, and its days are kept for 800.
    assert [client.ttl(name) // 86_400 for name in ids] == [810, 810]


def test_a_month_has_room_for_so_many(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "MOST_CORRECTIONS", 2)
    assert correct(usage, id="1")
    assert correct(usage, id="2")
    with pytest.raises(RowRefused, match="2 corrections in a month") as refused:
        correct(usage, id="3", status=404)
    assert refused.value.code == "too_many"
    assert correct(usage, id="3", at=START - 40 * 86_400, calls=1)
    assert not correct(usage, id="1")


def test_without_the_operators_tree(make_usage: MakeUsage) -> None:
    usage = make_usage(operator_tree=False, **OPTIONS)
    assert usage.correct("acme", **{**CALL, "calls": 2})
    assert usage.reader.summary(org="acme", period="24h").total_calls == 2
    assert not [name for name in stored(usage) if "{*}" in name]


def test_other_options_are_refused(usage: Usage, make_usage: MakeUsage) -> None:
    with pytest.raises(ConfigurationError, match="slot_minutes"):
        correct(make_usage(slot_minutes=15, **OPTIONS))


def test_a_key_of_another_type_refuses_it_whole(usage: Usage) -> None:
    client, schema = usage.engine.client, Schema(usage.settings)
    client.set(schema.board("acme", "1d", "2026-11-20", "project", "5xx"), "x")
    before = without_strings(usage)
    with pytest.raises(UsageUnavailable, match="WRONGTYPE"):
        correct(usage, status=500, calls=1)
    assert without_strings(usage) == before


def without_strings(usage: Usage) -> dict[str, dict[bytes, Any]]:
    name = Schema(usage.settings).board("acme", "1d", "2026-11-20", "project", "5xx")
    text = usage.engine.client.getdel(name)
    found = stored(usage)
    usage.engine.client.set(name, text)
    return found


def test_redis_is_away(clock: Clock) -> None:
    with Usage("redis://127.0.0.1:1/0", clock=clock) as usage, pytest.raises(UsageUnavailable, match="can't connect"):
        usage.correct("acme", **{**CALL, "calls": 1})


@pytest.mark.parametrize(
    "change", [{"calls": -2}, {"calls": 0, "endpoint": "GET /b", "key": "key_2", "counts": {"records": 6}}]
)
def test_counters_without_calls_are_in_every_view(usage: Usage, change: dict[str, Any]) -> None:
    """Of calls that were taken away without their counters, or of counters that were added without calls."""
    at = START - 3600 if change["calls"] == 0 else START
    assert correct(usage, id="404", status=404, calls=-1, counts={"records": -3})
    assert correct(usage, at=at, **change)
    window: dict[str, Any] = {"org": "acme", "start": int(at) // 1800 * 1800, "end": int(at) // 1800 * 1800 + 1800}
    found = usage.reader.endpoints(**window)
    assert found.totals == {"total_requests": 0, "num_records": 6}
    assert [(row.total_requests, row.counts["records"]) for row in found.results] == [(0, 6)]
    for group in ("endpoint", "key", "method"):
        series = usage.reader.series(**window, measure="c.records", group=group)
        assert series.series is not None
        assert (series.totals, [row.total for row in series.series]) == ({"c.records": 6}, [6])
        assert series.other is not None
        assert (series.other.members, series.other.total) == (0, 0)
    assert agrees(usage)
