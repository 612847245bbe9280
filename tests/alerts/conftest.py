"""What tests of alerts have in common; each file makes a `usage` with the plans that it is about."""

from __future__ import annotations

import pytest

from tests.alerts.bench import Bench, Told
from tests.seeds.traffic import Traffic
from tests.support import Clock
from usage_middleware import Usage


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def bench(usage: Usage, told: Told, clock: Clock) -> Bench:
    return Bench(usage, [told], clock)


@pytest.fixture
def traffic(usage: Usage, clock: Clock) -> Traffic:
    found = Traffic(usage, clock)
    found.reach()
    return found
