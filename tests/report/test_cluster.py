"""The same reports from a real cluster of three primaries, organisations spread over them."""

from __future__ import annotations

from tests.report.world import OPTIONS, Call, World
from tests.support import START, Clock, ClusterProcess, there
from usage_middleware import Usage, Viewer


def test_every_view_on_a_cluster(cluster: ClusterProcess, namespace: str) -> None:
    clock = Clock()
    with Usage(cluster.url, namespace=namespace, clock=clock, flush_interval=3600, **OPTIONS) as usage:
        world = World(usage, clock)
        orgs = [f"org_{number}" for number in range(12)]
        ages = (0, 50, 2_000, 90_000, 600_000, 3_000_000)
        world.happen(Call(at=START - age, org=org, status=200 + 304 * (age == 50)) for org in orgs for age in ages)
        clock.set(START + 1)
        for org in orgs:
            viewer = Viewer.organization(org)
            assert usage.reader.summary(viewer, period="90d").total_calls == len(ages)
            assert usage.reader.details(viewer, timeframe="90d").usage.errors == 1
            assert there(usage.reader.by_group(viewer, range="30d", group="endpoint").buckets)[0].calls == len(ages) - 1
            assert there(usage.reader.by_key(viewer, period="90d").keys)[0].request_count == len(ages)
            assert usage.reader.endpoints(viewer).results[0].total_requests == len(ages)
            for group in ("endpoint", "key", "project", "status"):
                over_time = usage.reader.series(viewer, period="90d", group=group, limit=1)
                assert over_time.totals == {"calls": len(ages)}
                assert there(over_time.series)[0].total == len(ages) - (group == "status")
        assert usage.reader.summary(period="90d").total_calls == len(orgs) * len(ages)
        assert usage.reader.by_group(range="7d", group="org").totals.calls == len(orgs) * 5
        over_time = usage.reader.series(period="90d", group="org", limit=10)
        assert [row.total for row in there(over_time.series)] == [len(ages)] * 10
        assert over_time.other is not None
        assert (over_time.other.members, over_time.other.total) == (2, 2 * len(ages))
