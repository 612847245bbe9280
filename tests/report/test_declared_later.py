"""A dimension that was declared after the counters began: calls from before have no value in it, and sums still agree."""

from __future__ import annotations

import pytest

from tests.report.world import OPTIONS, Call, World
from tests.support import START, Clock, record_call, there
from usage_middleware import Usage, Viewer


@pytest.mark.parametrize("viewer", [Viewer.organization("acme"), Viewer.key("acme", "key_1"), Viewer.operator()])
def test_calls_from_before_a_dimension_was_declared_are_without_a_value(redis_url: str, namespace: str, viewer: Viewer) -> None:
    clock = Clock(START - 7200)
    with Usage(
        redis_url, namespace=namespace, clock=clock, flush_interval=3600, counters=OPTIONS["counters"], history=False
    ) as before:
        for status in (200, 200, 404):
            record_call(before.recorder, ("acme", "key_1"), "GET /v1/items", (), status, 10_000, 1, (0, 0))
        assert before.flush()
    clock.set(START - 60)
    with Usage(redis_url, namespace=namespace, clock=clock, flush_interval=3600, **OPTIONS) as after:
        World(after, clock).happen([Call(START - 30), Call(START - 20, project="(none)", status=500)])
        clock.set(START)
        summary = after.reader.summary(viewer, period="24h")
        assert summary.by_dimension == {"project": [("(none)", 4), ("search", 1)]}
        assert summary.total_calls == 5
        groups = after.reader.by_group(viewer, group="project")
        assert [(row.bucket, row.calls, row.errors) for row in there(groups.buckets)] == [("(none)", 4, 2), ("search", 1, 0)]
        assert there(groups.buckets)[0].avg_ms == pytest.approx((3 * 10 + 12) / 4)
        over_time = after.reader.series(viewer, group="project", measure="errors", period="24h")
        assert [(row.name, row.total) for row in there(over_time.series)] == [("(none)", 2), ("search", 0)]
        assert [number for _, number in there(over_time.series)[0].points if number] == [1, 1]
        average = after.reader.series(viewer, group="project", measure="latency_ms", period="24h").series
        assert [(row.name, row.total) for row in there(average)] == [("search", 12.0), ("(none)", pytest.approx(10.5))]
        recent = after.reader.by_group(viewer, group="project", range="1h")
        assert [(row.bucket, row.calls) for row in there(recent.buckets)] == [("(none)", 1), ("search", 1)]
