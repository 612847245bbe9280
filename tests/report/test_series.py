"""The series view against brute force: every point, total and rest, of any measure by any group, for every viewer."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.report.test_invariants import DAY, ENDPOINTS, MINUTE, expected, lived, traffic, viewers
from tests.report.world import OPTIONS, Call, World, asked, instant
from tests.support import START, Clock, ServerProcess, examples, there
from usage_middleware import Usage, Viewer
from usage_middleware.errors import QueryError
from usage_middleware.report import series
from usage_middleware.report.series import Series, SeriesParameters

ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"]
GROUPS: dict[str, Callable[[Call], str]] = {
    "none": lambda _: "(all)",
    "endpoint": lambda call: call.endpoint,
    "key": lambda call: call.key,
    "status": lambda call: str(call.status),
    "method": lambda call: call.endpoint.split()[0],
    "org": lambda call: call.org,
    "project": lambda call: call.project,
}
PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}
SUMS: dict[str, Callable[[Call], int]] = {
    "calls": lambda _: 1,
    "errors": lambda call: int(call.failed),
    "bytes": lambda call: call.sent,
    "c.records": lambda call: call.records,
    "c.matches": lambda call: call.matches,
}
MEASURES = [*SUMS, "latency_ms", *PERCENTILES]
KEPT_OF_ALL = ["calls", "errors", "latency_ms"]


def right_number(some: Sequence[Call], measure: str) -> Any:
    """What a measure of these calls is, or nearly."""
    if measure in SUMS:
        return sum(map(SUMS[measure], some))
    if not some:
        return None
    millis = sorted(call.latency_us / 1000 for call in some)
    if measure == "latency_ms":
        return pytest.approx(sum(millis) / len(millis), abs=0.001)
    return pytest.approx(millis[math.ceil(len(millis) * PERCENTILES[measure] / 100) - 1], rel=0.05, abs=0.002)


def works(params: SeriesParameters, viewer: Viewer) -> list[str]:
    """The measures that are kept of a group: the table of the documentation, written once more."""
    of_key, of_endpoint = viewer.key_id is not None or params.key_id is not None, params.endpoint is not None
    if params.group == "status":
        return [] if of_key and of_endpoint else ["calls"]
    if params.group == "project" or (params.group == "org" and params.org is None):
        return [] if of_endpoint else KEPT_OF_ALL
    if params.group == "org":
        return KEPT_OF_ALL
    within_key = of_key or params.group == "key"
    return KEPT_OF_ALL if within_key and (of_endpoint or params.group in ("endpoint", "method")) else MEASURES


def refusal(params: SeriesParameters, viewer: Viewer) -> str | None:
    """The code that a question has to be refused with, whatever is kept."""
    if viewer.is_operator and params.org is None and params.key_id is not None:
        return "missing_org"
    if params.group == "org" and not viewer.is_operator:
        return "invalid_group"
    if params.group == "key" and viewer.is_operator and params.org is None:
        return "missing_org"
    return None if params.measure in works(params, viewer) else "unsupported_measure"


def check_series(report: Series, params: SeriesParameters, right: list[Call], limit: int, now: int) -> None:
    """Everything that an answer says of the calls that it is about."""
    of, measure = GROUPS[params.group], params.measure
    rows: dict[str, list[Call]] = {} if params.group != "none" else {"(all)": []}
    for call in right:
        rows.setdefault(of(call), []).append(call)
    assert report.totals == {measure: right_number(right, measure)}
    if report.series is None:
        assert "series" in report.unavailable
        assert report.other is None
        return
    assert len(report.series) == min(limit, len(rows))
    totals = [row.total for row in report.series]
    assert totals == sorted(totals, key=lambda total: (total is None, -(total or 0)))
    for row in report.series:
        assert row.total == right_number(rows[row.name], measure)
        check_points(row.points, rows[row.name], measure, now)
    if measure not in SUMS:
        assert report.other is None
        return
    listed = {row.name for row in report.series}
    rest = [call for call in right if of(call) not in listed]
    assert report.other is not None
    assert (report.other.members, report.other.total) == (len(rows) - len(listed), right_number(rest, measure))
    check_points(report.other.points, rest, measure, now)
    ranked = sorted(rows, key=lambda name: (-right_number(rows[name], measure), name))
    assert [row.name for row in report.series] == ranked[:limit]


def check_points(points: Any, mine: list[Call], measure: str, now: int) -> None:
    """Every bucket of one row."""
    starts = [instant(stamp) for stamp, _ in points]
    assert starts == sorted(set(starts))
    ordered = sorted(mine)
    times = [call.at for call in ordered]
    for start, end, (_, number) in zip(starts, [*starts[1:], now + 1], points, strict=True):
        assert number == right_number(ordered[bisect_left(times, start) : bisect_left(times, end)], measure)
    if measure in SUMS:
        assert sum(number for _, number in points) == right_number(mine, measure)


questions = st.builds(
    SeriesParameters,
    group=st.sampled_from(list(GROUPS)),
    measure=st.sampled_from([*MEASURES, *3 * KEPT_OF_ALL]),
    period=st.sampled_from(["24h", "7d", "30d", "90d"]),
    granularity=st.sampled_from([None, None, "minute", "hour", "day", "week", "month"]),
    timezone=st.sampled_from(ZONES),
    limit=st.sampled_from([1, 2, 5]),
    key_id=st.sampled_from([None, None, None, "key_1", "key_9"]),
    endpoint=st.sampled_from([None, None, None, ENDPOINTS[0], "GET /never"]),
)
windows = st.none() | st.tuples(st.integers(MINUTE, 95 * DAY), st.integers(MINUTE, 40 * DAY))


@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(traffic, viewers, questions, windows, st.booleans())
def test_any_measure_by_any_group(
    server: ServerProcess,
    lives: tuple[int, list[Call]],
    viewer: Viewer,
    params: SeriesParameters,
    custom: tuple[int, int] | None,
    in_one_organisation: bool,
) -> None:
    now, some = lives
    changes: dict[str, Any] = {"org": "acme"} if viewer.is_operator and in_one_organisation else {}
    if custom is not None:
        changes |= {"start": now - custom[0], "end": min(now, now - custom[0] + custom[1])}
    asks = SeriesParameters(**{name: getattr(params, name) for name in params.__struct_fields__} | changes)

    def check(found: World) -> None:
        report = asked(lambda: series.build(found.context(viewer, now), asks))
        event(report if isinstance(report, str) else "answered")
        must = refusal(asks, viewer)
        if isinstance(report, str):
            allowed = ("not_retained", "invalid_granularity", "unsupported_timezone", "window_too_wide")
            assert report == must if must else report in allowed
            return
        assert must is None
        right = [call for call in expected(found, report.window, viewer) if is_asked(call, asks)]
        if viewer.key_id is not None and asks.key_id not in (None, viewer.key_id):
            right = []
        check_series(report, asks, right, asks.limit, now)

    lived(server, now, some, check)


def is_asked(call: Call, params: SeriesParameters) -> bool:
    """Whether a question is about this call."""
    return params.org in (None, call.org) and params.key_id in (None, call.key) and params.endpoint in (None, call.endpoint)


@pytest.fixture
def labelled(make_usage: Callable[..., Usage], clock: Clock) -> World:
    """Two endpoints under one label, one under another; two keys."""
    usage = make_usage(**OPTIONS, endpoint_label=lambda _, template: template.split("/")[1])
    found = World(usage, clock)
    clock.set(START - 2 * DAY)
    names = ["GET /items/{id}", "POST /items", "GET /orders"]
    found.happen(
        Call(
            START - 2 * DAY + 60 * minute,
            key=f"key_{minute % 2}",
            endpoint=names[minute % 3],
            status=200 + 204 * (minute % 5 == 0),
        )
        for minute in range(60)
    )
    clock.set(START)
    return found


ACME, KEY_1 = Viewer.organization("acme"), Viewer.key("acme", "key_1")


@pytest.mark.parametrize("viewer", [ACME, KEY_1, Viewer.operator()])
def test_endpoints_stand_under_their_labels(labelled: World, viewer: Viewer) -> None:
    mine = [call for call in labelled.calls if viewer.key_id in (None, call.key)]
    report = labelled.usage.reader.series(viewer, group="endpoint")
    items = sum("items" in call.endpoint for call in mine)
    assert [(row.name, row.total) for row in there(report.series)] == [("items", items), ("orders", len(mine) - items)]
    assert labelled.usage.reader.series(viewer, endpoint="items").totals == {"calls": items}
    assert labelled.usage.reader.series(viewer, endpoint="POST /items", group="method").totals == {
        "calls": sum(call.endpoint == "POST /items" for call in mine)
    }
    methods = labelled.usage.reader.series(viewer, endpoint="items", group="method")
    assert {row.name: row.total for row in there(methods.series)} == {
        method: sum(call.endpoint.startswith(method) and "items" in call.endpoint for call in mine)
        for method in ("GET", "POST")
    }


def test_what_a_label_hides_is_ranked_by_its_sum_where_boards_do_not_tell(labelled: World) -> None:
    report = labelled.usage.reader.series(ACME, group="endpoint", measure="bytes", limit=1)
    assert [(row.name, row.total) for row in there(report.series)] == [("items", 4000)]
    assert report.other is not None
    assert (report.other.members, report.other.total) == (1, 2000)


@pytest.mark.parametrize(
    ("asks", "message"),
    [
        ({"measure": "c.nothing"}, "measure must be one of calls, errors, bytes, latency_ms, p50, p90, p95, p99, c.records, "),
        ({"measure": "errors", "group": "status"}, "measure=errors is not kept for group=status; what works is calls"),
        (
            {"measure": "bytes", "group": "project"},
            "measure=bytes is not kept for group=project; what works is calls, errors, latency_ms",
        ),
        (
            {"measure": "p95", "key_id": "key_1", "endpoint": "items"},
            "measure=p95 is not kept for group=none of one endpoint of one key; what works is calls, errors, latency_ms",
        ),
        (
            {"group": "project", "endpoint": "items"},
            "measure=calls is not kept for group=project of one endpoint; no measure is, so ask for another group",
        ),
    ],
)
def test_what_is_not_kept_is_refused_with_what_works(labelled: World, asks: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError) as refused:
        labelled.usage.reader.series(ACME, **asks)
    assert (refused.value.code, refused.value.param) == ("unsupported_measure", "measure")
    assert refused.value.message.startswith(message)


def test_points_of_a_zone_stand_at_its_own_midnight(labelled: World) -> None:
    report = labelled.usage.reader.series(ACME, timezone="America/New_York", granularity="day", period="7d")
    assert [stamp for stamp, _ in there(report.series)[0].points][-2:] == [
        "2026-11-19T00:00:00-05:00",
        "2026-11-20T00:00:00-05:00",
    ]
    assert report.totals == {"calls": 60}


def test_no_calls_are_zeros_and_averages_of_none_are_null(labelled: World) -> None:
    nothing = {"key_id": "key_9", "period": "24h", "granularity": "day"}
    calls = labelled.usage.reader.series(ACME, **nothing)
    assert calls.totals == {"calls": 0}
    assert [number for _, number in there(calls.series)[0].points] == [0, 0]
    average = labelled.usage.reader.series(ACME, measure="latency_ms", **nothing)
    assert (average.totals, average.other) == ({"latency_ms": None}, None)
    assert [number for _, number in there(average.series)[0].points] == [None, None]
    assert labelled.usage.reader.series(ACME, group="endpoint", **nothing).series == []


@pytest.mark.parametrize(
    "limits", [{"report.series_reads.MOST_POINTS": 100}, {"report.cells.MOST_KEYS": 30}], ids=["points", "counters"]
)
def test_what_would_take_too_long_is_refused(labelled: World, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in limits.items():
        monkeypatch.setattr(f"usage_middleware.{name}", most)
    with pytest.raises(QueryError) as refused:
        labelled.usage.reader.series(ACME, group="endpoint", measure="p95")
    assert refused.value.code == "window_too_wide"
    assert labelled.usage.reader.series(ACME, granularity="day").totals == {"calls": 60}


def test_as_a_table(labelled: World) -> None:
    report = labelled.usage.reader.series(ACME, group="endpoint", period="7d", granularity="day")
    assert len(there(report.series)) == 2
    header, rows = series.VIEW.tables["series"](report)
    assert header == ["name", "timestamp", "calls"]
    assert list(rows) == [(row.name, stamp, number) for row in there(report.series) for stamp, number in row.points]


@pytest.fixture
def aged(make_usage: Callable[..., Usage], clock: Clock) -> World:
    """A call every 5 hours of 60 days."""
    found = World(make_usage(**OPTIONS), clock)
    times = [START - 5 * 3600 * step for step in range(60 * 24 // 5, 0, -1)]
    clock.set(times[0])
    found.happen(Call(at, key=f"key_{step % 2}", endpoint=ENDPOINTS[step % 2]) for step, at in enumerate(times))
    found.reach(START)
    return found


OLD = {"start": date(2026, 10, 1), "end": date(2026, 11, 1), "timezone": "America/New_York"}


def test_a_group_that_is_gone_is_null_beside_the_total(aged: World) -> None:
    report = aged.usage.reader.series(ACME, group="project", granularity="day", **OLD)
    whole = aged.usage.reader.series(ACME, granularity="day", **OLD)
    assert report.totals == whole.totals == {"calls": len(aged.inside(whole.window.start, whole.window.end))}
    assert (report.series, report.other) == (None, None)
    assert set(report.unavailable) == {"series", "other"}
    assert report.unavailable["series"].since == "2026-11-11T13:30:00Z"
    with pytest.raises(QueryError) as refused:
        series.VIEW.tables["series"](report)
    assert refused.value.code == "unavailable"
    by_endpoint = aged.usage.reader.series(ACME, group="endpoint", **OLD)
    assert sum(row.total or 0 for row in there(by_endpoint.series)) == whole.totals["calls"]


def test_a_total_that_is_gone_is_refused_with_the_nearest(aged: World) -> None:
    with pytest.raises(QueryError) as refused:
        aged.usage.reader.series(ACME, measure="p95", **OLD)
    assert refused.value.code == "not_retained"
    assert refused.value.nearest == [
        ("2026-10-02T00:00:00Z", "2026-11-01T00:00:00Z"),
        ("2026-10-01T00:00:00Z", "2026-11-02T00:00:00Z"),
    ]
    for start, end in refused.value.nearest:
        window = {"start": datetime.fromisoformat(start), "end": datetime.fromisoformat(end), "align": "exact"}
        assert aged.usage.reader.series(ACME, measure="p95", **window).window.requested is None


def test_days_that_are_gone_are_null_beside_the_total(aged: World) -> None:
    report = aged.usage.reader.series(KEY_1, period="90d", timezone="America/New_York")
    assert (report.granularity, report.series) == (None, None)
    assert report.totals == {"calls": sum(call.key == "key_1" for call in aged.calls)}
    assert set(report.unavailable) == {"series", "other"}


@pytest.mark.parametrize("group", ["none", "endpoint", "key", "project"])
@pytest.mark.parametrize("asks", [{"period": "7d"}, {"period": "month_to_date"}, {"start": date(2026, 11, 3)}])
def test_the_points_before_lie_under_those_of_now(aged: World, group: str, asks: dict[str, Any]) -> None:
    report = aged.usage.reader.series(ACME, group=group, granularity="day", compare="previous", **asks)
    before = report.previous
    assert isinstance(before, series.PreviousSeries)
    window = {"start": datetime.fromisoformat(before.window.start), "end": datetime.fromisoformat(before.window.end)}
    again = aged.usage.reader.series(ACME, granularity="day", **window)
    assert (before.totals, before.points) == (again.totals, there(again.series)[0].points)
    assert len(there(before.points)) == len(there(report.series)[0].points)
    now, was = report.totals["calls"], before.totals["calls"]
    assert before.change == {"calls": pytest.approx(there(now) / there(was) - 1)}


def test_points_before_that_are_gone_are_null(aged: World) -> None:
    window = {"start": datetime(2026, 11, 20, 11, 30, tzinfo=UTC), "end": datetime(2026, 11, 20, 13, tzinfo=UTC)}
    asks = {**window, "granularity": "minute", "compare": "previous"}
    before = aged.usage.reader.series(KEY_1, **asks).previous
    assert isinstance(before, series.PreviousSeries)
    assert before.points is None
    assert aged.usage.reader.series(KEY_1, **asks).unavailable.keys() == {"previous.points"}


def test_points_before_that_no_slots_tell_apart_are_null(aged: World) -> None:
    # No hour of this zone begins in the window, and one does in the window before: at 20:15 UTC.
    window = {"start": datetime(2026, 11, 4, 20, 30, tzinfo=UTC), "end": datetime(2026, 11, 4, 21, tzinfo=UTC)}
    report = aged.usage.reader.series(ACME, timezone="Australia/Eucla", compare="previous", **window)
    before = report.previous
    assert isinstance(before, series.PreviousSeries)
    assert before.window.start == "2026-11-04T20:00:00Z"
    assert before.totals == {"calls": len(aged.inside(before.window.start, before.window.end))}
    assert before.points is None
    assert report.unavailable["previous.points"].since == "2026-11-18T14:00:00Z"
