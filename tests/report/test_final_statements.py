"""What stays as it was once a statement is final: who carried it, where its period lies; and what is carried of it later."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.seeds.traffic import Traffic, at
from tests.support import Clock
from usage_middleware import KeyInfo, Plan, Price, Usage, Viewer
from usage_middleware.errors import ConfigurationError
from usage_middleware.periods import HOUR, MINUTE
from usage_middleware.plans.billing import Period
from usage_middleware.plans.statement import Holder, Line, Statement
from usage_middleware.plans.statement_record import FinalStatement, decode, decode_head, encode
from usage_middleware.report.statements import MOST_CARRIED

FREE = Plan("free")
PRO = Plan(
    "pro",
    prices=(Price("calls", unit="0.01"), Price("records", of="records", unit="0.10")),
    currency="EUR",
)
OPTIONS: dict[str, Any] = {"plans": (FREE, PRO), "counters": ("records",), "flush_interval": 3600}


@pytest.fixture
def usage(make_usage: Callable[..., Usage], clock: Clock) -> Usage:
    found = make_usage(**OPTIONS)
    # Statements are made when a test asks for them.
    found._alerting._is_on = False
    clock.set(at("2026-09-01T00:00:00Z"))
    for number, team in enumerate(("search", "maps", "tiles"), 1):
        found.keys.put("acme", KeyInfo(f"key_{number}", f"Key {number}", owner=f"owner {number}", labels={"team": team}))
    found.plans.assign("acme", "pro")
    return found


@pytest.fixture
def traffic(usage: Usage, clock: Clock) -> Traffic:
    found = Traffic(usage, clock)
    found.calls("2026-09-10T12:00:00Z", times=100, records=1)
    found.calls("2026-09-10T12:00:00Z", times=50, key="key_2")
    return found


def cost(usage: Usage, period: str = "current", **asked: Any) -> Any:
    return usage.reader.cost(org="acme", period=period, **asked)


def correct(usage: Usage, month: int, calls: int, key: str = "key_1", **more: Any) -> None:
    usage.correct(
        "acme", id=secrets.token_hex(8), at=datetime(2026, month, 10, 12, tzinfo=UTC), key=key, endpoint="GET /v1/items",
        calls=calls, status=200, reason="not theirs", **more,
    )  # fmt: skip


def rows(report: Any) -> dict[str, str]:
    return {row.key_id or row.value: row.amount for row in report.rows}


def carried(report: Any) -> list[tuple[str, int, str]]:
    return [(line.price, line.quantity, line.amount) for line in report.lines if line.carried]


@pytest.mark.parametrize("later", ["2026-10", "2026-12"])
def test_what_moved_from_key_to_key_long_ago_is_carried(usage: Usage, traffic: Traffic, clock: Clock, later: str) -> None:
    """No sum of September has changed. With others in between, there are three final periods after it."""
    clock.set(at(f"{later}-05T00:00:00Z"))
    assert cost(usage).state == "open"
    assert cost(usage, "2026-09").state == "final"
    correct(usage, 9, -30)
    correct(usage, 9, 30, "key_3")
    clock.advance(10)
    assert carried(cost(usage)) == [("calls", 0, "0.00")]
    assert rows(cost(usage)) == {"key_3": "0.30", "key_1": "-0.30"}
    # It is carried once, and so is what moves on.
    clock.set(at("2027-01-05T00:00:00Z"))
    assert cost(usage, later).state == "final"
    assert carried(cost(usage)) == []
    correct(usage, 9, -10, "key_3")
    correct(usage, 9, 10, "key_2")
    clock.advance(10)
    assert rows(cost(usage)) == {"key_2": "0.10", "key_3": "-0.10"}
    assert carried(cost(usage, later)) == [("calls", 0, "0.00")]


def test_those_carry_a_final_statement_who_answered_for_the_keys_then(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    clock.set(at("2026-10-05T00:00:00Z"))
    teams, owners = (cost(usage, "2026-09", by=by) for by in ("label:team", "owner"))
    assert rows(teams) == {"search": "11.00", "maps": "0.50"}
    usage.keys.put("acme", KeyInfo("key_1", "Key 1", owner="somebody else", labels={"team": "maps"}))
    assert usage.keys.remove("acme", "key_2")
    traffic.calls("2026-10-05T12:00:00Z", times=7)
    traffic.calls("2026-10-05T12:00:00Z", times=5, key="key_2")
    clock.advance(10)
    assert cost(usage, "2026-09", by="label:team").rows == teams.rows
    assert cost(usage, "2026-09", by="owner").rows == owners.rows
    own = usage.reader.cost(Viewer.key("acme", "key_1"), period="2026-09", by="owner")
    assert rows(own) == {"owner 1": "11.00"}
    # The period that runs goes by those of now.
    assert rows(cost(usage, by="label:team")) == {"maps": "0.07", "(unallocated)": "0.05"}


def test_short_periods_carry_what_is_older_than_twelve_of_them(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    clock.set(at("2026-10-02T00:10:00Z"))
    for _ in range(20):
        clock.advance(HOUR)
        usage.plans.assign("acme", "pro", now=True)
    clock.set(at("2026-10-05T00:00:00Z"))
    # All before the running one are final then.
    assert carried(cost(usage)) == []
    correct(usage, 9, -30)
    clock.advance(10)
    assert carried(cost(usage)) == [("calls", -30, "-0.30")]
    assert MOST_CARRIED > 20


def test_a_final_period_is_not_moved_from_whatever_time(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    """There may be many short ones since."""
    clock.set(at("2026-10-02T00:10:00Z"))
    for _ in range(40):
        clock.advance(HOUR / 2)
        usage.plans.assign("acme", "pro", now=True)
    clock.set(at("2026-10-05T00:00:00Z"))
    assert cost(usage, "2026-09").state == "final"
    with pytest.raises(ConfigurationError, match="the billing period that began 2026-09-01T00:00:00Z, whose statement"):
        usage.plans.assign("acme", "pro", from_=datetime(2026, 9, 20, tzinfo=UTC), now=True)


def test_the_last_assignment_holds(usage: Usage, traffic: Traffic, clock: Clock) -> None:
    """`now` begins with the half-hour, and so before what was assigned some minutes ago."""
    for minute, plan, now in ((40, "free", False), (45, "pro", True), (50, "free", True), (51, "pro", False)):
        clock.set(at("2026-09-20T13:00:00Z") + minute * MINUTE)
        usage.plans.assign("acme", plan, now=now)
        clock.advance(10)
        assert usage.reader.limits(org="acme").plan == plan
    begins = [(change.at, change.assigned.plan) for change in usage.plans.history("acme")[1:]]
    assert begins == [(at("2026-09-20T13:30:00Z"), "free"), (at("2026-09-20T13:51:00Z"), "pro")]
    assert (cost(usage).period.start, cost(usage).plan) == ("2026-09-20T13:30:00Z", "free")


def test_the_head_of_a_statement_is_read_alone() -> None:
    own = Line("calls", 3, Decimal("1.20"), {"a": Decimal("0.40"), "b": Decimal("0.80")}, {"a": 1, "b": 2}, "EUR")
    holders = {"a": Holder("ada", {"team": "search"}), "b": Holder("ada", {"team": "search"}), "c": Holder(None, {"x": "y"})}
    lines = [own, msgspec.structs.replace(own, origin=-5)]
    final = FinalStatement(Period(0, 10), "pro", PRO.prices, Statement("EUR", lines, holders), 12, {0: 3, -5: 1})
    body = encode(final)
    assert decode(body) == final
    assert decode_head(body) == final.head
    assert (final.head.carries(-5), final.head.carries(0)) == (True, False)
    assert body.count(b"search") == 1
    for was, became in ((b'"1.20"', b'"9.20"'), (b'"quantity":3', b'"quantity":4'), (b'"EUR"', b'"USD"')):
        assert decode_head(body.replace(was, became, 1)) is None
    for was, became in ((b'"0.40"', b'"0.41"'), (b'"b":2', b'"b":3'), (b"search", b"serach"), (b'"c":1', b'"c":7')):
        damaged = body.replace(was, became, 1)
        assert damaged != body
        assert (decode(damaged), decode_head(damaged)) == (None, final.head)
