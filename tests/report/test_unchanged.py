"""What a process remembers of closed slots is what is there: with calls that come late, and corrections that add up to 0."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.seeds.traffic import at
from tests.support import Clock, examples
from usage_middleware import Limit, Plan, Price, Quota, Usage
from usage_middleware.errors import UsageUnavailable
from usage_middleware.periods import Slot
from usage_middleware.report import keys_used
from usage_middleware.report.keys_used import KeysUsed

NOW = int(at("2026-11-20T13:45:20Z"))
PLAN = Plan(
    "free",
    Limit("requests", 5),
    Limit("own", 3, by="key"),
    Quota("calls", 100),
    Quota("each", 10, by="key"),
    prices=(
        Price("good", billable="successful", unit="1"),
        Price("served", billable="not_refused", unit="1"),
        Price("records", of="records", unit="1"),
    ),
    currency="EUR",
)
#: Minutes before now: in this half-hour, in one that is closed, and in other days.
minutes = st.sampled_from([0, 1, 16, 20, 44, 45, 46, 200, 201, 47 * 60, 3 * 24 * 60, 10 * 24 * 60])
keys = st.sampled_from(["key_1", "key_2"])
steps = st.one_of(
    st.tuples(st.just("late"), keys, minutes, st.integers(1, 9)),
    st.tuples(st.just("move"), keys, minutes, minutes),
    st.tuples(st.just("time"), st.integers(1, 90)),
)
#: From one minute of a closed half-hour to the next, and from one key to the other: no sum changes.
MOVES = [("late", "key_1", 200, 9), ("move", "key_1", 200, 201), ("move", "key_2", 200, 201)]


@settings(deadline=None, max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, min_size=2, max_size=7))
@example(MOVES)
def test_what_is_remembered_is_what_is_there(make_usage: Callable[..., Usage], script: Sequence[Any]) -> None:
    clock = Clock(NOW)
    options: dict[str, Any] = {"plans": (PLAN,), "default_plan": "free", "flush_interval": 3600, "clock": clock}
    options |= {"namespace": f"t{secrets.token_hex(6)}", "counters": ("records",)}
    asking = make_usage(**options)
    counted: dict[tuple[str, int], int] = {}
    for step in script:
        shown(asking)
        _do(asking, clock, counted, step)
        clock.advance(10)
        other = make_usage(**options)
        assert shown(asking) == shown(other)
        other.close()
    asking.close()


def shown(usage: Usage) -> list[Any]:
    bill = usage.reader.cost(org="acme")
    return [msgspec.to_builtins(row) for row in (*usage.reader.limits(org="acme").limits, *bill.lines, *bill.rows)]


def _do(usage: Usage, clock: Clock, counted: dict[tuple[str, int], int], step: Any) -> None:
    kind, *how = step
    if kind == "time":
        clock.advance(how[0] * 60)
    elif kind == "late":
        key, back, calls = how
        _backfill(usage, key, NOW - back * 60, calls)
        counted[key, back] = counted.get((key, back), 0) + calls
    else:
        key, back, to = how
        source = next((one for one in counted if one[1] == back and counted[one]), None)
        if source is not None:
            _correct(usage, source[0], NOW - back * 60, -1)
            _correct(usage, key, NOW - to * 60, 1)
            counted[source] -= 1
            counted[key, to] = counted.get((key, to), 0) + 1


def _backfill(usage: Usage, key: str, when: int, calls: int) -> None:
    row = {"org": "acme", "key": key, "endpoint": "GET /a", "at": datetime.fromtimestamp(when, UTC)}
    answered = {200: calls, 429: 1}
    usage.backfill(
        {**row, "id": secrets.token_hex(8), "status": status, "calls": times, "counts": {"records": times}}
        for status, times in answered.items()
    )


def _correct(usage: Usage, key: str, when: int, calls: int) -> None:
    usage.correct(
        "acme", id=secrets.token_hex(8), at=datetime.fromtimestamp(when, UTC), key=key, endpoint="GET /a", status=200,
        calls=calls, counts={"records": calls}, reason="it was another's",
    )  # fmt: skip


def test_a_question_that_came_to_no_end_is_gone_on_with(
    make_usage: Callable[..., Usage], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read of each key is not read again, unless it has changed."""
    usage = make_usage(plans=(PLAN,), default_plan="free", flush_interval=3600, counters=("records",))
    for number in range(5):
        _backfill(usage, f"key_{number}", NOW - 3 * 86_400, number + 1)
    clock.advance(10)
    read, ask, most = list[str](), KeysUsed._read, [4]

    def limited(self: KeysUsed, slots: Sequence[Slot], keys: Sequence[str]) -> Any:
        if len(read) + len(keys) > most[0]:
            raise TimeoutError("the time of this question is over")
        read.extend(keys)
        return ask(self, slots, keys)

    monkeypatch.setattr(KeysUsed, "_read", limited)
    monkeypatch.setattr(keys_used, "KEYS_AT_ONCE", 2)
    with pytest.raises(UsageUnavailable):
        usage.reader.cost(org="acme")
    most[0] = 5
    assert usage.reader.cost(org="acme").total == str(3 * 15 + 5) + ".00"
    assert usage.reader.cost(org="acme").total == "50.00"
    assert sorted(read) == [f"key_{number}" for number in range(5)]
    _backfill(usage, "key_0", NOW - 3 * 86_400, 1)
    most[0] = 10
    clock.advance(10)
    assert usage.reader.cost(org="acme").total == "54.00"
    assert len(read) == 10
