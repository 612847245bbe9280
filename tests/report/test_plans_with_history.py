"""What plans say of the last months is the same before and after their days are packed, with corrections between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.report.world import Call, World, world
from usage_middleware import KeyInfo, Plan, Price, Quota
from usage_middleware.periods import DAY, rfc3339

#: 2029-12-12T09:47:31Z
NOW = 1_891_763_251
SPAN = 170 * DAY
PERIODS = 5
LONG = {"minute": timedelta(days=3), "middle": timedelta(days=800), "day": timedelta(days=800)}
#: Everything is kept as it was counted.
LIVE = {"history": False, "retention": dict.fromkeys(("series", "endpoint", "key", "board", "key_board"), LONG)}
PLANS = (
    Plan(
        "old",
        Quota("calls", 60),
        prices=(Price("base", flat="9.99"), Price("calls", graduated=((20, "0"), (None, "0.013")))),
        currency="EUR",
    ),
    Plan(
        "new",
        Quota("calls", 10),
        Quota("good", 200, billable="successful", per="year"),
        Quota("records", 300, of="records", per="year"),
        Quota("own", 5, by="key"),
        Quota("own-records", 90, by="key", of="records"),
        prices=(
            Price("good", billable="successful", volume=((30, "0.02"), (None, "0.01"))),
            Price("records", of="records", package=(10, "0.25")),
        ),
        currency="EUR",
    ),
)
CASES = {
    "UTC": (date(2029, 1, 1), "UTC"),
    "Kolkata": (date(2029, 1, 15), "Asia/Kolkata"),
    "New York": (date(2029, 1, 31), "America/New_York"),
}


def some_calls(dice: random.Random) -> list[Call]:
    return [
        Call(
            at=NOW - dice.uniform(1, SPAN),
            org=dice.choice(["acme", "acme", "acme", "globex"]),
            key=f"key_{dice.randrange(1, 5)}",
            endpoint=dice.choice(["GET /a", "POST /b"]),
            status=dice.choice([200, 200, 200, 201, 404, 429]),
            records=dice.randrange(9),
        )
        for _ in range(90)
    ]


@contextmanager
def lived(url: str, case: str, **options: Any) -> Iterator[World]:
    """The calls of some months, and a plan that changed in their midst."""
    anchor, zone = CASES[case]
    calls = some_calls(random.Random(case))
    with world(url, NOW - SPAN - DAY, plans=PLANS, **options) as found:
        usage = found.usage
        # Statements are made when the test asks for them.
        usage._alerting._is_on = False
        for number in range(1, 5):
            labels = {"team": "maps" if number > 2 else "search"}
            usage.keys.put("acme", KeyInfo(f"key_{number}", f"Key {number}", labels=labels))
        usage.plans.assign("acme", "old", anchor=anchor, timezone=zone)
        found.happen(calls)
        found.reach(NOW)
        since = datetime.fromtimestamp(NOW - 100 * DAY, UTC)
        usage.plans.assign("acme", "new", from_=since, overrides={"calls": 12})
        yield found


@pytest.fixture(params=list(CASES))
def worlds(redis_url: str, request: pytest.FixtureRequest) -> Iterator[tuple[World, World]]:
    """The same calls: with history, and kept as they were counted."""
    with ExitStack() as stack:
        packed, live = (stack.enter_context(lived(redis_url, request.param, **how)) for how in ({"history": True}, LIVE))
        yield packed, live


def answers(found: World) -> dict[str, Any]:
    """All that plans say, of the running period and of those before it."""
    reader, clock = found.usage.reader, found.clock
    history = reader.plans.of("acme").history
    running = history.period(int(clock()))
    said: dict[str, Any] = {}
    for period in [*reversed(history.before(running, PERIODS)), running]:
        for by in ("key", "label:team"):
            said[f"cost {rfc3339(period.start)} by {by}"] = reader.cost(org="acme", period=rfc3339(period.start), by=by)
    said["limits"] = reader.limits(org="acme")
    for key in ("key_1", "key_2"):
        said[f"limits of {key}"] = reader.limits(org="acme", key_id=key)
    group = reader.by_group(org="acme")
    said["quota"], said["over"] = group.quota, group.over_quota
    said["keys"] = {
        f"{row.key_id} {name}": (row.cost, row.share)
        for name in ("current", "previous")
        for row in reader.by_key(org="acme", period=name).keys or []
    }
    return {name: _lasting(msgspec.to_builtins(one)) for name, one in said.items()}


def _lasting(said: Any) -> Any:
    """What does not depend on when it was asked."""
    if not isinstance(said, dict):
        return said
    return {name: one for name, one in said.items() if name not in ("generated_at", "complete_through")}


def correct(found: World, number: int) -> None:
    """Some calls of each month are taken away, and some are added."""
    some = random.Random(0).sample([one for one in found.calls if one.org == "acme"], 24)
    for place, call in enumerate(some[number::2]):
        found.usage.correct(
            "acme",
            id=f"ticket-{number}-{place}",
            at=datetime.fromtimestamp(call.at, UTC),
            key=call.key,
            endpoint=call.endpoint,
            status=call.status,
            calls=1 if place % 3 == 0 else -1,
            counts={"records": 2 if place % 3 == 0 else -min(call.records, 2)},
            tags={"project": "search"},
            reason="not theirs",
        )
    found.clock.advance(10)


def pack(found: World) -> int:
    days = found.usage.pack_history()
    found.clock.advance(10)
    return days


def test_packed_periods_cost_what_they_did(worlds: tuple[World, World]) -> None:
    """Statements of packed periods are those that live counters make; so is what is carried of them.

    It is asked before anything is packed, too, and after each step of packing.
    """
    packed, live = worlds
    first = answers(packed)
    assert pack(packed) > 50
    live.clock.set(packed.clock())
    assert answers(packed) == first
    packed.usage.reader.plans.used.clear()
    assert answers(packed) == first == answers(live)
    assert {one["state"] for name, one in first.items() if name.startswith("cost")} == {"final", "open"}
    _check_calls(packed, first)
    for number in range(2):
        for found in worlds:
            correct(found, number)
        then = answers(packed)
        assert then == answers(live)
        assert then != first
        pack(packed)
        live.clock.set(packed.clock())
        assert answers(packed) == answers(live) == then


def _check_calls(found: World, said: dict[str, Any]) -> None:
    """The quantity of calls is what was called in the period."""
    for cost in (one for name, one in said.items() if name.startswith("cost") and name.endswith("by key")):
        inside = found.inside(cost["period"]["start"], cost["period"]["end"], org="acme")
        expected = {
            "base": len(inside),
            "calls": len(inside),
            "good": sum(call.successful for call in inside),
            "records": sum(call.records for call in inside),
        }
        assert {line["price"]: line["quantity"] for line in cost["lines"]} == {
            line["price"]: expected[line["price"]] for line in cost["lines"]
        }
        assert cost["lines"]
