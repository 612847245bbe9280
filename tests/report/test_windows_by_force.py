"""Random windows in many zones, asked of every view by every viewer: what is answered is what was asked, by brute force."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.test_zones import HALF_HOURS, QUARTER_HOURS
from tests.report.world import Call, World, instant, world
from tests.support import ServerProcess, examples
from usage_middleware import Viewer
from usage_middleware.errors import QueryError
from usage_middleware.periods import bucket_start, rfc3339
from usage_middleware.report.reports import VIEWS
from usage_middleware.report.view import AnyView
from usage_middleware.report.window import WindowReport

MINUTE, HOUR, DAY = 60, 3600, 86_400
NOW = int(instant("2029-12-12T09:47:31Z"))
ZONES = [*HALF_HOURS, *QUARTER_HOURS]
VIEWERS = [Viewer.organization("acme"), Viewer.key("acme", "key_1"), Viewer.operator()]
BY_NAME = {view.name: view for view in VIEWS}
PERIODS = ["1h", "24h", "7d", "30d", "90d", "1y", "all", "month_to_date", "last_month"]
PERIOD_OF = {"summary": "period", "by-key": "period", "series": "period", "by-group": "range", "details": "timeframe"}
CAPPED = ("summary", "by-key")


def calls() -> list[Call]:
    """Calls of 400 days, the more the younger."""
    dice = random.Random(12)
    spans = [2 * HOUR] * 250 + [3 * DAY] * 350 + [40 * DAY] * 500 + [120 * DAY] * 400 + [400 * DAY] * 400
    return [
        Call(
            at=NOW - dice.uniform(0.01, span),
            org=dice.choice(["acme", "acme", "globex"]),
            key=dice.choice(["key_1", "key_2"]),
            endpoint=dice.choice(["GET /a", "GET /b", "POST /a"]),
            project=dice.choice(["search", "billing"]),
            status=dice.choice([200, 200, 404, 500]),
            matches=1,
        )
        for span in spans
    ]


@pytest.fixture(scope="module")
def lived(server: ServerProcess) -> Iterator[World]:
    """More than a year, of which what is old has expired."""
    some = calls()
    with world(server.url, min(call.at for call in some)) as found:
        found.happen(some)
        found.reach(NOW)
        yield found


class Question(NamedTuple):
    """A window that is asked for: by name, or by edges."""

    period: str | None
    start: float | None
    end: float | None
    timezone: str

    def of(self, view: str) -> dict[str, Any]:
        """The parameters of a view."""
        given: dict[str, Any] = {"timezone": self.timezone, "start": self.start, "end": self.end}
        return {**given, **({PERIOD_OF[view]: self.period} if self.period else {})}


def edge(at: int, step: str, zone: str) -> float:
    """A time of some roundness; with milliseconds, as JavaScript's `toISOString` has them."""
    if step == "millisecond":
        return at + at % 1000 / 1000
    steps = {"second": 1, "minute": MINUTE, "half-hour": 30 * MINUTE, "day": DAY}
    return bucket_start(at, "day", ZoneInfo(zone)) if step == "midnight" else at // steps[step] * steps[step]


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Named periods and windows of all ages and lengths."""
    zone = draw(st.sampled_from(ZONES))
    if draw(st.booleans()):
        return Question(draw(st.sampled_from(PERIODS)), None, None, zone)
    spans = st.sampled_from([2 * HOUR, 2 * DAY, 12 * DAY, 45 * DAY, 130 * DAY, 420 * DAY])
    steps = st.sampled_from(["millisecond", "second", "minute", "half-hour", "day", "midnight"])
    start = edge(NOW - draw(spans.flatmap(lambda span: st.integers(MINUTE, span))), draw(steps), zone)
    if draw(st.booleans()):
        return Question(None, start, None, zone)
    end = edge(int(start) + draw(spans.flatmap(lambda span: st.integers(MINUTE, span))), draw(steps), zone)
    return Question(None, start, max(end, start + MINUTE), zone)


def build(lived: World, view: AnyView, viewer: Viewer, asked: dict[str, Any]) -> Any:
    """A report, or the error that refuses it."""
    known = {field.name for field in msgspec.structs.fields(view.asks)}
    if viewer.is_operator and view.name == "by-key":
        asked = {**asked, "org": "acme"}
    try:
        params = msgspec.convert({name: value for name, value in asked.items() if name in known}, view.asks)
        return view.build(lived.context(viewer, NOW), params)
    except msgspec.ValidationError:
        return None
    except QueryError as refused:
        return refused


def window_of(report: Any) -> WindowReport:
    found: WindowReport = report.usage.window if hasattr(report, "usage") else report.window
    return found


def total_of(report: Any) -> int:
    """All calls of a report."""
    if hasattr(report, "usage"):
        return int(report.usage.requests)
    if hasattr(report, "total_calls"):
        return int(report.total_calls)
    if isinstance(report.totals, dict):
        return int(report.totals["calls" if hasattr(report, "series") else "total_requests"])
    return int(report.totals.request_count if hasattr(report, "keys") else report.totals.calls)


def sums_of(report: Any) -> dict[str, int]:
    """What each part adds up to that is not null."""
    parts = {
        "by_endpoint": "calls",
        "by_day": "calls",
        "by_status_class": "calls",
        "time_series": "requests",
        "endpoints": "requests",
        "results": "total_requests",
        "buckets": "calls",
        "keys": "request_count",
    }
    rows = {name: getattr(report, name, None) for name in parts}
    found = {name: sum(getattr(row, parts[name]) for row in some) for name, some in rows.items() if some is not None}
    other = getattr(report, "other", None)
    for name in ("buckets", "keys"):
        if name in found and other is not None:
            found[name] += other.calls if name == "buckets" else other.request_count
    if getattr(report, "series", None) is not None:
        found["series"] = sum(row.total for row in report.series) + report.other.total
        found["points"] = sum(number for row in (*report.series, report.other) for _, number in row.points)
    dimensions = getattr(report, "by_dimension", {})
    return found | {name: sum(calls for _, calls in some) for name, some in dimensions.items() if some is not None}


def happened(lived: World, viewer: Viewer, window: WindowReport, org: str | None = None) -> int:
    """Calls of a window, counted one by one."""
    alike = {"org": viewer.org or org, "key": viewer.key_id}
    return len(lived.inside(window.start, window.end, **{name: value for name, value in alike.items() if value}))


def is_fair(question: Question, window: WindowReport, view: str, align: str) -> bool:
    """Whether a window is the one that was asked for, or says that it is not and is at most a tenth longer."""
    assert question.start is not None
    start, end = question.start, NOW if question.end is None else question.end
    low, high = instant(window.start), instant(window.end)
    if window.requested is None:
        return (low, high) == (start, end)
    if (window.requested.start, window.requested.end) != (rfc3339(start), rfc3339(end)):
        return False
    if view in CAPPED and min(end, NOW) - start > 89 * DAY and low > start:
        # 90 local days before the day of the end, and from there to the UTC day.
        return min(high, NOW) - low <= 92 * DAY
    longer = (start - low) + (high - end)
    if align == "exact" and longer >= 2 * MINUTE:
        return False
    return low <= start and high >= min(end, NOW) and (longer <= (end - start) / 10 or longer < 2 * MINUTE)


REFUSALS = {"not_retained", "unsupported_timezone", "window_too_wide", "invalid_granularity"}
many = settings(max_examples=examples(40), deadline=None)
flags = st.fixed_dictionaries(
    {
        "include_endpoints": st.booleans(),
        "include_latency": st.booleans(),
        "compare": st.just("previous"),
        "align": st.sampled_from(["outward", "outward", "exact"]),
        "granularity": st.sampled_from([None, None, None, "minute", "hour", "day", "week", "month"]),
        "bucketing_size": st.sampled_from(["day", "month", "quarter"]),
    }
)


@many
@given(questions(), st.sampled_from(VIEWERS), flags, st.sampled_from(["key", "endpoint", "status", "project"]))
def test_what_is_answered_is_what_was_asked(
    lived: World, question: Question, viewer: Viewer, flags: dict[str, Any], group: str
) -> None:
    seen: dict[bool, set[tuple[str, str, int]]] = {True: set(), False: set()}
    for name, view in BY_NAME.items():
        if name not in PERIOD_OF and question.period:
            continue
        asked = {**question.of(name), **flags, "group": group if not (viewer.is_operator and group == "key") else "method"}
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
        assert question.period or is_fair(question, window, name, flags["align"])
        assert set(sums_of(report).values()) <= {total}
        if report.previous is not None:
            before = report.previous
            was = next(iter(before.totals.values()))
            assert was == happened(lived, viewer, before.window, org)
            if getattr(before, "points", None) is not None:
                assert sum(number for _, number in before.points) == was
        if org is None:
            seen[name in CAPPED and question.period is None].add((window.start, window.end, total))
    assert all(len(alike) <= 1 for alike in seen.values())
    if question.start is not None and NOW - question.start < 89 * DAY:
        assert len(seen[True] | seen[False]) <= 1


@many
@given(questions(), st.sampled_from(["outward", "exact"]), st.sampled_from([None, 0, 1]), st.sampled_from([1, 20]))
def test_each_organisation_is_compared_with_the_window_before(
    lived: World, question: Question, align: str, offset: int | None, limit: int
) -> None:
    check_each_before(lived, question, {"align": align, "offset": offset, "limit": limit})


def check_each_before(lived: World, question: Question, more: dict[str, Any]) -> bool:
    """The calls of each organisation in the window before are those of the window that the totals are compared with."""
    asked = {**question.of("by-group"), **more, "group": "org", "compare": "previous"}
    report = build(lived, BY_NAME["by-group"], Viewer.operator(), asked)
    if report is None or isinstance(report, QueryError) or report.buckets is None:
        return False
    told = [row.previous for row in report.buckets]
    if told and None in told:
        assert set(told) == {None}
        assert report.previous is None or report.unavailable["buckets.previous"].code == "not_retained"
        return False
    for row in report.buckets:
        assert row.previous == happened(lived, Viewer.organization(row.bucket), report.previous.window)
    return bool(told)


def check_nearest(lived: World, view: AnyView, viewer: Viewer, refused: QueryError, asked: dict[str, Any]) -> None:
    """The windows that an error names can be answered: the same question, asked about them."""
    period = PERIOD_OF.get(view.name)
    for start, end in refused.nearest or ():
        again = {**asked, "start": instant(start), "end": instant(end), "align": "exact"}
        report = build(lived, view, viewer, {name: value for name, value in again.items() if name != period})
        assert not isinstance(report, QueryError), (refused, refused.nearest, report)
        found = window_of(report)
        assert (found.start, found.end, found.requested) == (start, end, None)
