"""Any window that is answered is exact, before, while and after what it holds is packed, and with calls that come late.

The questions are those of `test_windows_by_force`, over two years.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.report.test_windows_by_force import (
    DAY,
    NOW,
    PERIOD_OF,
    VIEWERS,
    Question,
    build,
    check_each_before,
    check_nearest,
    happened,
    is_fair,
    questions,
    sums_of,
    total_of,
    window_of,
)
from tests.report.world import Call, World, world
from tests.support import ServerProcess, examples
from usage_middleware import Viewer
from usage_middleware.errors import QueryError
from usage_middleware.report.named_periods import days_before
from usage_middleware.report.reports import VIEWS
from usage_middleware.store.history.rounds import Rounds
from usage_middleware.store.schema import Schema

BY_NAME = {view.name: view for view in VIEWS}
REFUSALS = {"not_retained", "unsupported_timezone", "window_too_wide"}
#: No hour of this zone begins in the nearest window that can be answered, and one does in the window before it.
NO_SLOT_BEFORE = Question(None, 1_882_103_400, 1_882_106_100, "Australia/Eucla")
many = settings(max_examples=examples(25), deadline=None)


def calls(dice: random.Random) -> list[Call]:
    """Calls of two years, the more the younger."""
    spans = [3 * DAY] * 100 + [40 * DAY] * 200 + [120 * DAY] * 150 + [400 * DAY] * 150 + [760 * DAY] * 150
    return [a_call(dice, span) for span in spans]


def a_call(dice: random.Random, span: int) -> Call:
    """A call of the last seconds before now."""
    return Call(
        at=NOW - dice.uniform(0.01, span),
        org=dice.choice(["acme", "acme", "globex"]),
        key=dice.choice(["key_1", "key_2"]),
        endpoint=dice.choice(["GET /a", "GET /b", "POST /a"]),
        project=dice.choice(["search", "billing"]),
        status=dice.choice([200, 200, 404, 500]),
        matches=1,
    )


def steps_of(lived: World) -> Iterator[None]:
    """A round of packing, step by step."""
    usage = lived.usage
    return Rounds(lambda: usage.engine.client, Schema(usage.settings), lived.clock, usage.engine.damage).round()


#: To make two years takes a quarter of a minute each: all of them where more examples are asked for.
HOW = ["in between", "packed, and late calls", *(["live", "packed"] if "USAGE_EXAMPLES" in os.environ else [])]


@pytest.fixture(scope="module", params=HOW)
def lived(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[World]:
    """Two years, of which some is packed: of half-hours, or of quarter-hours."""
    dice = random.Random(13)
    some, slot_minutes = calls(dice), 15 if request.param == "packed" else 30
    with world(server.url, min(call.at for call in some), history=True, slot_minutes=slot_minutes) as found:
        found.happen(some)
        found.reach(NOW)
        pack(found, request.param, dice)
        yield found


def pack(lived: World, how: str, dice: random.Random) -> None:
    """Pack nothing, some or all; then let calls come late."""
    if how == "in between":
        steps = steps_of(lived)
        for _ in range(4_000):
            next(steps, None)
    elif how != "live":
        assert lived.usage.pack_history() > 1_000
    if how.endswith("late calls"):
        come_late(lived, dice)


def come_late(lived: World, dice: random.Random) -> None:
    """Calls of packed days are delivered now."""
    for call in sorted(a_call(dice, 500 * DAY) for _ in range(40)):
        lived.clock.set(call.at)
        lived.record(call)
    lived.clock.set(NOW)
    assert lived.usage.flush()


@many
@given(questions(), st.sampled_from(VIEWERS), st.sampled_from(["key", "endpoint", "status", "project"]))
@example(NO_SLOT_BEFORE, Viewer.operator(), "status")
def test_what_is_answered_is_what_was_asked(lived: World, question: Question, viewer: Viewer, group: str) -> None:
    for name, view in BY_NAME.items():
        if name not in PERIOD_OF and question.period:
            continue
        asked: dict[str, Any] = {**question.of(name), "compare": "previous"}
        asked["group"] = group if not (viewer.is_operator and group == "key") else "method"
        report = build(lived, view, viewer, asked)
        if report is None:
            continue
        if isinstance(report, QueryError):
            assert report.code in REFUSALS
            check_nearest(lived, view, viewer, report, asked)
            continue
        org = "acme" if viewer.is_operator and name == "by-key" else None
        window, total = window_of(report), total_of(report)
        assert total == happened(lived, viewer, window, org)
        assert question.period or is_fair(question, window, name, "outward")
        assert set(sums_of(report).values()) <= {total}
        if report.previous is not None:
            assert next(iter(report.previous.totals.values())) == happened(lived, viewer, report.previous.window, org)


@many
@given(questions(), st.sampled_from([1, 20]))
@example(Question("30d", None, None, "Europe/Berlin"), 20)
def test_each_organisation_is_compared_with_the_window_before(lived: World, question: Question, limit: int) -> None:
    is_told = check_each_before(lived, question, {"limit": limit})
    assert is_told or question.period != "30d"


@many
@given(
    st.integers(40, 700), st.integers(1, 300), st.sampled_from(VIEWERS), st.sampled_from(["America/New_York", "Asia/Kolkata"])
)
def test_days_of_any_zone_reach_back_to_where_history_ends(
    lived: World, back: int, length: int, viewer: Viewer, zone: str
) -> None:
    question = Question(None, local_midnight(back, zone), local_midnight(max(back - length, 1), zone), zone)
    for name in ("summary", "details", "series", "by-key") if not viewer.is_operator else ("summary", "details", "series"):
        report = build(lived, BY_NAME[name], viewer, {**question.of(name), "granularity": "day", "align": "exact"})
        assert not isinstance(report, QueryError), report
        window = window_of(report)
        assert total_of(report) == happened(lived, viewer, window)
        parts = sums_of(report)
        assert parts
        assert set(parts.values()) == {total_of(report)}


def local_midnight(days: int, zone: str) -> int:
    """The midnight of a zone so many days before now."""
    return days_before(NOW, days, ZoneInfo(zone))
