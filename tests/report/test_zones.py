"""Two years of calls, seen in many zones, against brute force: every bucket, total, counter, rate and last use."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.report.test_series import check_series
from tests.report.world import Call, World, asked, instant, world
from tests.support import ServerProcess, examples, there
from usage_middleware import Viewer
from usage_middleware.errors import QueryError
from usage_middleware.report import details, endpoints, series
from usage_middleware.report.details import DetailsParameters
from usage_middleware.report.endpoints_range import EndpointsParameters
from usage_middleware.report.series import SeriesParameters

HALF_HOURS = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Asia/Kolkata",
    "America/St_Johns",
    "Australia/Adelaide",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Tehran",
    "Pacific/Kiritimati",
    "Africa/Casablanca",
    "Pacific/Pago_Pago",
    "America/Santiago",
    "Africa/Cairo",
]
QUARTER_HOURS = ["Asia/Kathmandu", "Pacific/Chatham", "Australia/Eucla"]

BEGIN, NOW = "2027-12-15T00:00:00Z", "2030-01-09T10:20:30Z"
FIRST, LAST = date(2027, 12, 20), date(2030, 1, 20)
LONG = {kind: {"middle": timedelta(days=900), "day": timedelta(days=1500)} for kind in ("series", "endpoint", "board")}
RATES = {"match_rate": ("matches", "records")}
NAMES = ["GET /v1/items", "POST /v1/items"]


def two_years() -> list[Call]:
    """Calls at random, and a few at every clock change and around every midnight that a zone may have."""
    dice = random.Random(20280229)
    begin, now = instant(BEGIN), instant(NOW)
    times = [dice.uniform(begin, now) for _ in range(1500)]
    for tz in map(ZoneInfo, HALF_HOURS + QUARTER_HOURS):
        times += [change + shift for change in _changes(tz, begin, now) for shift in (-1800.5, -0.5, 0.5, 1800.5)]
    times += [begin + day * 86_400 + shift for day in range(20, 750, 31) for shift in (-900.5, -0.5, 0.0, 0.5, 899.5)]
    return [
        Call(at=at, key=dice.choice(["key_1", "key_2"]), endpoint=dice.choice(NAMES), records=dice.randint(0, 9), matches=1)
        for at in times
    ]


def _changes(tz: ZoneInfo, begin: float, end: float) -> Iterator[float]:
    for hour in range(int(begin), int(end), 3600):
        if _offset(tz, hour) != _offset(tz, hour - 3600):
            yield float(hour)


def _offset(tz: ZoneInfo, at: float) -> timedelta:
    return datetime.fromtimestamp(at, tz).utcoffset() or timedelta()


@pytest.fixture(scope="module", params=[30, 15])
def lived(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[World]:
    """Two years, with slots of 30 and of 15 minutes."""
    options = {"retention": LONG, "slot_minutes": request.param, "rates": RATES, "rank_by": "matches"}
    with world(server.url, instant(BEGIN), **options) as found:
        found.happen(two_years())
        found.clock.set(instant(NOW))
        yield found


def zones(found: World) -> list[str]:
    """The zones that these slots can represent."""
    return HALF_HOURS if found.usage.settings.slot_minutes == 30 else HALF_HOURS + QUARTER_HOURS


def period(day: date, size: str) -> date:
    """The first day of the calendar period that holds a day: written once more, otherwise."""
    if size == "week":
        return date.fromisocalendar(*day.isocalendar()[:2], 1)
    if size == "month":
        return date(day.year, day.month, 1)
    if size == "quarter":
        return date(day.year, (day.month - 1) // 3 * 3 + 1, 1)
    return date(day.year, 1, 1) if size == "year" else day


ranges = st.tuples(st.integers(0, (LAST - FIRST).days), st.one_of(st.integers(0, 9), st.integers(0, 500))).map(
    lambda pair: (FIRST + timedelta(pair[0]), min(LAST, FIRST + timedelta(pair[0] + pair[1])))
)


@settings(max_examples=examples(60), deadline=None)
@given(st.data(), ranges, st.sampled_from(["hour", "day", "week", "month", "quarter", "year"]))
def test_endpoints(lived: World, data: st.DataObject, dates: tuple[date, date], size: Any) -> None:
    name = data.draw(st.sampled_from(zones(lived)))
    assume(size != "hour" or (dates[1] - dates[0]).days < 40)
    tz, now = ZoneInfo(name), int(instant(NOW)) + 1
    params = EndpointsParameters(start_date=dates[0], end_date=dates[1], bucketing_size=size, timezone=name)
    report = endpoints.build(lived.context(Viewer.organization("acme"), now), params)
    right = [call for call in lived.calls if dates[0] <= datetime.fromtimestamp(call.at, tz).date() <= dates[1]]
    assert {row.endpoint for row in report.results} == {call.endpoint for call in right}
    for row in report.results:
        mine = [call for call in right if call.endpoint == row.endpoint]
        check_row(row, mine, tz, size, dates)


def check_row(row: endpoints.EndpointUsage, mine: list[Call], tz: ZoneInfo, size: str, dates: tuple[date, date]) -> None:
    """One endpoint's totals, rate, last use and buckets."""
    records, matches = sum(call.records for call in mine), sum(call.matches for call in mine)
    assert row.total_requests == len(mine)
    assert row.counts == {"records": records, "matches": matches}
    assert row.rates == {"match_rate": matches / records if records else 0.0}
    assert row.last_requested_at is not None
    assert instant(row.last_requested_at) == pytest.approx(max(call.at for call in mine), abs=0.002)
    assert row.buckets is not None
    assert sum(bucket.total_requests for bucket in row.buckets) == row.total_requests
    starts = [instant(bucket.bucket_start) for bucket in row.buckets]
    ends = [*starts[1:], starts[-1] + 400 * 86_400]
    for start, end, bucket in zip(starts, ends, row.buckets, strict=True):
        inside = [call for call in mine if start <= call.at < end]
        assert (bucket.total_requests, bucket.counts["records"]) == (len(inside), sum(call.records for call in inside))
    if size != "hour":
        days = [dates[0] + timedelta(day) for day in range((dates[1] - dates[0]).days + 1)]
        assert [instant_date(start, tz) for start in starts] == sorted({period(day, size) for day in days})


def instant_date(at: float, tz: ZoneInfo) -> date:
    """The date in a zone."""
    return datetime.fromtimestamp(at, tz).date()


@settings(max_examples=examples(40), deadline=None)
@given(st.data(), ranges, st.sampled_from(["hour", "day", "week", "month"]), st.sampled_from([None, "key_1"]))
def test_details(lived: World, data: st.DataObject, dates: tuple[date, date], size: Any, key: str | None) -> None:
    name = data.draw(st.sampled_from(zones(lived)))
    now = int(instant(NOW)) + 1
    start, end = (int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) for day in dates)
    params = DetailsParameters(
        start=start,
        end=end + 86_400,
        granularity=size,
        timezone=name,
        key_id=key,
        include_endpoints=False,
        include_latency=False,
    )
    report = asked(lambda: details.build(lived.context(Viewer.organization("acme"), now), params))
    if isinstance(report, str):
        assert report in (("invalid_granularity", "not_retained", "window_too_wide") if key else ("window_too_wide",))
        return
    right = lived.inside(report.usage.window.start, report.usage.window.end, **({"key": key} if key else {}))
    assert report.usage.requests == len(right)
    starts = [instant(point.timestamp) for point in there(report.time_series)]
    for begin, finish, point in zip(starts, [*starts[1:], now + 1], there(report.time_series), strict=True):
        assert point.requests == sum(begin <= call.at < finish for call in right)


@settings(max_examples=examples(60), deadline=None)
@given(
    st.data(),
    ranges,
    st.sampled_from(["hour", "day", "week", "month"]),
    st.sampled_from(["none", "endpoint", "method", "status", "project"]),
    st.sampled_from(["calls", "bytes", "c.records", "latency_ms", "p95"]),
)
def test_series(lived: World, data: st.DataObject, dates: tuple[date, date], size: Any, group: str, measure: str) -> None:
    tz, now = ZoneInfo(data.draw(st.sampled_from(zones(lived)))), int(instant(NOW)) + 1
    start, end = (midnight(day, tz) for day in (dates[0], dates[1] + timedelta(1)))
    params = SeriesParameters(start=start, end=end, granularity=size, timezone=tz.key, group=group, measure=measure, limit=1)
    report = asked(lambda: series.build(lived.context(Viewer.organization("acme"), now), params))
    if isinstance(report, str):
        assert report in ("window_too_wide", "unsupported_measure")
        return
    assert instant(report.window.start) == start
    check_series(report, params, lived.inside(report.window.start, report.window.end), 1, max(now, end))


def midnight(day: date, tz: ZoneInfo) -> int:
    """The instant at which a day begins in a zone."""
    return int(datetime(day.year, day.month, day.day, tzinfo=tz).timestamp())


@pytest.mark.parametrize("name", QUARTER_HOURS)
def test_a_zone_that_half_hours_cannot_represent_is_refused_with_what_to_set(server: ServerProcess, name: str) -> None:
    with world(server.url, instant(NOW)) as found:
        params = EndpointsParameters(start_date=date(2030, 1, 1), end_date=date(2030, 1, 2), timezone=name)
        with pytest.raises(QueryError, match="slot_minutes=15") as refused:
            endpoints.build(found.context(Viewer.organization("acme"), int(instant(NOW))), params)
    assert refused.value.code == "unsupported_timezone"
