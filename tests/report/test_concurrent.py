"""Reports read while calls are being counted: the parts of one answer always agree."""

from __future__ import annotations

import random
import threading

from tests.report.world import ORGS_KEYS, Call, World, instant, world
from tests.support import ServerProcess, there
from usage_middleware import Viewer

NOW = instant("2030-06-05T12:00:10Z")
VIEWERS = [Viewer.organization("acme"), Viewer.key("acme", "key_1"), Viewer.operator()]


def agree(found: World, viewer: Viewer) -> int:
    """All sums of a summary and of its drill-downs are one number; which."""
    report = found.usage.reader.summary(viewer, period="24h")
    total = report.total_calls
    assert total == sum(row.calls for row in there(report.by_endpoint))
    assert total == sum(row.calls for row in report.by_status_class)
    assert total == sum(row.calls for row in there(report.by_day))
    assert total == sum(calls for _, calls in there(report.by_dimension["project"]))
    assert report.successful_calls == sum(row.successful for row in there(report.by_endpoint))
    details = found.usage.reader.details(viewer, timeframe="1h", granularity="minute")
    assert details.endpoints is not None
    assert details.usage.requests == sum(row.requests for row in details.endpoints)
    assert details.usage.requests == sum(point.requests for point in there(details.time_series))
    groups = found.usage.reader.by_group(viewer, range="1h", group="endpoint", limit=1)
    assert groups.totals.calls == sum(row.calls for row in there(groups.buckets)) + there(groups.other).calls
    return total


def test_sums_agree_at_any_moment(server: ServerProcess) -> None:
    dice = random.Random(7)
    with world(server.url, NOW) as found:
        stop = threading.Event()

        def count() -> None:
            while not stop.is_set():
                for _ in range(20):
                    org, key = dice.choice(ORGS_KEYS)
                    endpoint = f"GET /v1/{dice.randint(1, 9)}"
                    found.record(Call(found.clock.now, org, key, endpoint, dice.choice("abc"), dice.choice([200, 404, 500])))
                assert found.usage.flush()

        worker = threading.Thread(target=count)
        worker.start()
        try:
            totals = [agree(found, viewer) for _ in range(40) for viewer in VIEWERS]
        finally:
            stop.set()
            worker.join()
        assert totals[-1] > totals[2] > 0
        assert agree(found, Viewer.operator()) == len(found.calls)
