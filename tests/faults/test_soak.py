"""The soak in its short form; `python3 run soak` is the long one."""

from __future__ import annotations

import pytest

from tests.faults.soak import soak

pytestmark = pytest.mark.slow

REQUESTS = 20_000


def test_a_short_soak() -> None:
    done = soak(REQUESTS, seconds=25, seed=7, calm=0.4)
    assert len(done.ledger) > 1_000
    assert sum(done.faults.values()) > 3
