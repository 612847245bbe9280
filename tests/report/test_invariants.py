"""Every report against brute force: for one window and one viewer all sums are the same number."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.report.world import Call, World, asked, instant, tally, world
from tests.support import ServerProcess, examples, there
from usage_middleware import Viewer
from usage_middleware.errors import QueryError
from usage_middleware.report import by_group, by_key, details, endpoints, summary
from usage_middleware.report.by_group import ByGroupParameters
from usage_middleware.report.by_key import ByKeyParameters
from usage_middleware.report.details import DetailsParameters
from usage_middleware.report.endpoints_range import EndpointsParameters
from usage_middleware.report.summary import SummaryParameters

MINUTE, HOUR, DAY = 60, 3600, 86_400

ORGS, KEYS = ["acme", "globex"], ["key_1", "key_2", "(anonymous)"]
ENDPOINTS = ["GET /v1/items", "POST /v1/items", "GET /v1/items/{id}", "GET (unmatched)"]
STATUSES = [101, 200, 201, 204, 301, 400, 404, 429, 499, 500, 503, 600, 999]

#: How long before now a call finished: at and around the edges of slots, windows and retentions.
EDGES = [0, MINUTE, 30 * MINUTE, HOUR, 75 * MINUTE, 3 * HOUR, DAY, 49 * HOUR, 7 * DAY, 9 * DAY, 30 * DAY, 90 * DAY]
ages = st.one_of(
    st.builds(lambda edge, shift: max(0.0, edge + shift), st.sampled_from(EDGES), st.floats(-90, 90)),
    st.floats(0, 95 * DAY),
    st.floats(0, 2 * HOUR),
)
#: Moments at which a clock does something: midnight, the ends of hours, months and years, a leap day, clock changes.
MOMENTS = [
    "2027-12-31T23:59:59Z",
    "2028-01-01T00:00:00Z",
    "2028-01-01T00:00:01Z",
    "2028-02-29T00:00:00Z",
    "2028-02-29T23:59:59Z",
    "2028-03-12T06:59:59Z",
    "2028-03-12T07:00:00Z",
    "2028-03-26T01:00:00Z",
    "2028-06-30T23:30:00Z",
    "2028-10-29T01:00:00Z",
    "2028-11-05T06:00:00Z",
    "2029-01-01T00:30:00Z",
    "2029-07-15T12:00:00Z",
    "2029-07-15T12:29:59Z",
]
#: Those, and any second of some years; never before the server's own clock.
nows = st.one_of(
    st.sampled_from(MOMENTS).map(lambda moment: int(instant(moment))),
    st.integers(int(instant("2027-12-28T00:00:00Z")), int(instant("2030-03-02T00:00:00Z"))),
)


def calls(now: int) -> st.SearchStrategy[list[Call]]:
    """Random traffic up to now."""
    one = st.builds(
        Call,
        at=ages.map(lambda age: now - age - 0.001),
        org=st.sampled_from(ORGS),
        key=st.sampled_from(KEYS),
        endpoint=st.sampled_from(ENDPOINTS),
        project=st.sampled_from(["search", "billing", "(none)"]),
        status=st.sampled_from(STATUSES),
        latency_us=st.integers(0, 10**9),
        sent=st.integers(0, 10**7),
        records=st.integers(0, 1000),
        matches=st.integers(0, 10),
    )
    return st.lists(one, min_size=1, max_size=40)


traffic = nows.flatmap(lambda now: st.tuples(st.just(now), calls(now)))
viewers = st.sampled_from([Viewer.organization("acme"), Viewer.key("acme", "key_1"), Viewer.operator()])
many = settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def expected(found: World, window: Any, viewer: Viewer) -> list[Call]:
    """The calls that this viewer's window holds."""
    alike: dict[str, object] = {}
    if viewer.org is not None:
        alike["org"] = viewer.org
    if viewer.key_id is not None:
        alike["key"] = viewer.key_id
    return found.inside(window.start, window.end, **alike)


def lived(server: ServerProcess, now: int, some: list[Call], then: Any) -> None:
    """Let the calls happen, time pass and what is old expire; then look."""
    with world(server.url, min(call.at for call in some)) as found:
        found.happen(some)
        found.reach(now)
        then(found)


@many
@given(traffic, viewers, st.sampled_from(["24h", "7d", "30d", "90d"]))
def test_summary(server: ServerProcess, lives: tuple[int, list[Call]], viewer: Viewer, period: Any) -> None:
    now, some = lives

    def check(found: World) -> None:
        report = summary.build(found.context(viewer, now), SummaryParameters(period=period))
        right = expected(found, report.window, viewer)
        assert report.total_calls == len(right)
        assert report.successful_calls == sum(call.successful for call in right)
        assert report.errors == sum(call.failed for call in right)
        assert report.bytes == sum(call.sent for call in right)
        assert {row.endpoint: row.calls for row in there(report.by_endpoint)} == tally(right, lambda call: call.endpoint)
        assert sum(row.successful for row in there(report.by_endpoint)) == report.successful_calls
        assert dict(there(report.by_dimension["project"])) == tally(right, lambda call: call.project)
        classes = tally(right, lambda call: min(call.status // 100, 5) * 100)
        assert {row.status_class: row.calls for row in report.by_status_class} == classes
        days = tally(right, lambda call: day_of(call.at))
        assert {row.day: row.calls for row in there(report.by_day) if row.calls} == days
        assert sum(row.successful for row in there(report.by_day)) == report.successful_calls
        assert [row.day for row in there(report.by_day)] == sorted({row.day for row in there(report.by_day)})
        if right:
            assert report.latency_ms.avg == pytest.approx(sum(c.latency_us for c in right) / len(right) / 1000, abs=0.001)

    lived(server, now, some, check)


def day_of(at: float) -> str:
    """The UTC date of an instant."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


GROUPS: dict[str, Any] = {
    "endpoint": lambda call: call.endpoint,
    "method": lambda call: call.endpoint.split()[0],
    "status": lambda call: str(call.status),
    "project": lambda call: call.project,
    "key": lambda call: call.key,
    "org": lambda call: call.org,
}


@many
@given(traffic, viewers, st.sampled_from(["1h", "24h", "7d", "30d"]), st.sampled_from(sorted(GROUPS)), st.integers(1, 4))
def test_by_group(
    server: ServerProcess, lives: tuple[int, list[Call]], viewer: Viewer, span: Any, group: str, limit: int
) -> None:
    now, some = lives

    def check(found: World) -> None:
        params = ByGroupParameters(range=span, group=group, limit=limit)
        refusal = {("org", False): "invalid_group", ("key", True): "missing_org"}.get((group, viewer.is_operator))
        if refusal is not None:
            with pytest.raises(QueryError) as refused:
                by_group.build(found.context(viewer, now), params)
            assert refused.value.code == refusal
            return
        report = by_group.build(found.context(viewer, now), params)
        right = expected(found, report.window, viewer)
        groups = tally(right, GROUPS[group])
        assert report.totals.calls == len(right)
        assert report.totals.errors == sum(call.failed for call in right)
        assert report.totals.bytes == sum(call.sent for call in right)
        ranked = sorted(groups.items(), key=lambda row: (-row[1], row[0]))
        assert [(row.bucket, row.calls) for row in there(report.buckets)] == ranked[:limit]
        assert there(report.other).members == max(0, len(groups) - limit)
        assert sum(row.calls for row in there(report.buckets)) + there(report.other).calls == report.totals.calls
        assert sum(row.errors for row in there(report.buckets)) + there(report.other).errors == report.totals.errors

    lived(server, now, some, check)


@many
@given(traffic, st.sampled_from(["24h", "7d", "30d", "90d"]), st.sampled_from([None, 1, 2]))
def test_by_key(server: ServerProcess, lives: tuple[int, list[Call]], period: Any, limit: int | None) -> None:
    now, some = lives

    def check(found: World) -> None:
        viewer = Viewer.organization("acme")
        report = by_key.build(found.context(viewer, now), ByKeyParameters(period=period, limit=limit))
        right = expected(found, report.window, viewer)
        assert report.totals.request_count == len(right)
        rows = {row.key_id: row for row in there(report.keys)}
        keys = tally(right, lambda call: call.key)
        assert {key: row.request_count for key, row in rows.items()}.items() <= keys.items()
        assert sum(row.request_count for row in there(report.keys)) + there(report.other).request_count == len(right)
        failed = sum(call.failed for call in right)
        assert sum(row.error_count for row in there(report.keys)) + there(report.other).error_count == failed
        assert len(rows) + there(report.other).keys == len(keys)
        for key, row in rows.items():
            mine = [call for call in right if call.key == key]
            assert row.endpoint_distribution == tally(mine, lambda call: call.endpoint)
            last = max(call.at for call in found.calls if call.org == "acme" and call.key == key)
            assert row.last_activity is not None
            assert instant(row.last_activity) == pytest.approx(last, abs=0.002)

    lived(server, now, some, check)


@many
@given(
    traffic,
    viewers,
    st.sampled_from(["1h", "24h", "7d", "30d", "90d", "1y", "all"]),
    st.sampled_from([None, "hour", "day", "week", "month"]),
)
def test_details(server: ServerProcess, lives: tuple[int, list[Call]], viewer: Viewer, span: Any, size: Any) -> None:
    now, some = lives

    def check(found: World) -> None:
        params = DetailsParameters(timeframe=span, granularity=size)
        report = asked(lambda: details.build(found.context(viewer, now), params))
        if isinstance(report, str):
            assert (report, size) == ("invalid_granularity", "hour")
            return
        right = expected(found, report.usage.window, viewer)
        assert report.usage.requests == len(right)
        assert report.usage.errors == sum(call.failed for call in right)
        assert sum(point.requests for point in there(report.time_series)) == len(right)
        assert sum(point.bytes for point in there(report.time_series)) == report.usage.bytes == sum(call.sent for call in right)
        starts = [instant(point.timestamp) for point in there(report.time_series)]
        for start, end, point in zip(starts, [*starts[1:], now + 1], there(report.time_series), strict=True):
            assert point.requests == sum(start <= call.at < end for call in right)
        if report.endpoints is not None:
            assert {row.endpoint: row.requests for row in report.endpoints} == tally(right, lambda call: call.endpoint)
            assert sum(row.errors for row in report.endpoints) == report.usage.errors
        assert report.errors is not None
        assert {row.status: row.count for row in report.errors.by_status} == tally(
            [call for call in right if call.failed], lambda call: call.status
        )

    lived(server, now, some, check)


@many
@given(traffic, viewers)
def test_endpoints_without_dates(server: ServerProcess, lives: tuple[int, list[Call]], viewer: Viewer) -> None:
    now, some = lives

    def check(found: World) -> None:
        report = endpoints.build(found.context(viewer, now), EndpointsParameters())
        right = expected(found, report.window, viewer)
        assert {row.endpoint: row.total_requests for row in report.results} == tally(right, lambda call: call.endpoint)
        for row in report.results:
            mine = [call for call in right if call.endpoint == row.endpoint]
            assert row.buckets is None
            if viewer.key_id is None:
                assert row.counts == {"records": sum(c.records for c in mine), "matches": sum(c.matches for c in mine)}
                assert row.last_requested_at is not None
                assert instant(row.last_requested_at) == pytest.approx(max(call.at for call in mine), abs=0.002)

    lived(server, now, some, check)
