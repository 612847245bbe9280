"""Short forms of `python3 run nemesis` and `python3 run ends`, and a rolling restart of four servers over HTTP."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.calling import Callers
from tests.faults.ends import end_of, half_dead, silent, slow, well
from tests.faults.ledger import Ledger, assert_within
from tests.faults.nemesis import nemesis
from tests.faults.webserver import EVERY_KIND, Worker, environment
from tests.faults.workplace import Workplace

pytestmark = pytest.mark.slow

#: How long a process of the short form has until SIGKILL, in seconds; its time limits are shorter than those of the long form.
GRACE = 10.0


def test_a_short_nemesis() -> None:
    done = nemesis(seconds=12, seed=11, calm=0.4)
    assert len(done.ledger) > 500
    assert sum(done.faults.values()) > 3


@pytest.mark.parametrize("state", [well, silent, half_dead, slow])
def test_a_process_that_ends_with_a_spool_loses_nothing(state: Callable[[Workplace], None]) -> None:
    end = end_of("uvicorn", state, spool=True, grace=GRACE, patient=False)
    assert (end.lost, end.was_killed) == (0, False)


def test_a_process_that_ends_without_a_spool_loses_only_what_redis_does_not_take() -> None:
    assert end_of("uvicorn", well, spool=False, grace=GRACE, patient=False).lost == 0
    end = end_of("uvicorn", silent, spool=False, grace=GRACE, patient=False)
    assert 0 < end.lost <= end.answered


def test_a_rolling_restart_over_http(place: Workplace, tmp_path: Path) -> None:
    """One server after the other ends and comes back, while callers go on with the others."""
    with ExitStack() as ending:
        variables = environment(place.proxy.url, place.namespace)
        workers = [Worker(kind, tmp_path / kind, variables) for kind in EVERY_KIND]
        for worker in workers:
            worker.start()
            ending.callback(worker.kill)
        unanswered = Ledger()
        with Callers(*(worker.port for worker in workers), ledger=place.ledger, unanswered=unanswered) as callers:
            for worker in workers:
                callers.go_on()
                worker.end(signal.SIGTERM)
                callers.go_on()
                worker.start()
            callers.go_on()
        for worker in workers:
            worker.end(signal.SIGTERM)
    with place.server.client() as client:
        assert_within(client, place.namespace, place.ledger, unanswered)
