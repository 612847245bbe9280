"""While Redis is away, requests keep their speed: no call to Redis is on their way."""

from __future__ import annotations

from statistics import median

import pytest

from tests.faults.conftest import MakeWorld
from tests.faults.harness import ServerWorld

CALLS = 1500


def speed(world: ServerWorld) -> list[float]:
    """How long each of the next requests took, seconds."""
    start = len(world.traffic.latencies)
    world.traffic.go_on(CALLS)
    return world.traffic.latencies[start:]


@pytest.mark.parametrize("outage", ["refused", "silent"])
def test_requests_are_as_quick_as_with_redis(make_world: MakeWorld, outage: str) -> None:
    world = make_world()
    world.traffic.pause = 0.0
    usual = speed(world)
    if outage == "refused":
        world.proxy.refuse()
    else:
        world.server.pause()
    world.is_away()
    during = speed(world)
    if outage == "refused":
        world.proxy.accept()
    else:
        world.server.resume()
    # Loose, as other programs run beside this one: what would be on the way is a connection or a time limit, 300 ms.
    assert median(during) < 3 * median(usual) + 0.001
    assert max(during) < max(usual) + 0.2
    world.check()


def test_one_line_when_redis_goes_and_one_when_it_returns(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world()
    caplog.clear()
    world.proxy.refuse()
    world.is_away()
    world.traffic.go_on_for(1)
    world.proxy.accept()
    world.is_back()
    world.check()
    told = [record.getMessage() for record in caplog.records if record.name == "usage_middleware"]
    assert ["is written again" in line for line in told] == [False, True]
