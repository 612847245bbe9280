"""SIGTERM to every process of a server at once, as systemd sends it, also while calls are being saved: none is lost."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.faults.calling import Callers
from tests.faults.ledger import Ledger, assert_within
from tests.faults.test_ends import is_later_than, sent_by_the_next_process
from tests.faults.webserver import EVERY_KIND, Worker, environment
from tests.faults.workplace import Workplace
from tests.support import eventually

pytestmark = pytest.mark.slow


def signalled(group: int, number: int = signal.SIGTERM) -> bool:
    """Send a signal to a process group; False if it has no process any more."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_sigterm_reaches_every_process_while_redis_is_silent(
    place: Workplace, tmp_path: Path, kind: str, times: int, request: pytest.FixtureRequest
) -> None:
    if (kind, times) == ("hypercorn", 3):
        reason = "known defect: now and then a call is answered with 500 at the second signal; the cause is not found yet"
        request.applymarker(pytest.mark.xfail(strict=False, reason=reason))
    spool, unanswered = str(tmp_path / "spool"), Ledger()
    variables = environment(place.proxy.url, place.namespace, spool=spool, shutdown_timeout=1.0)
    worker = Worker(kind, tmp_path / "log", variables, "--workers", "2")
    worker.start()
    try:
        with Callers(worker.port, ledger=place.ledger, unanswered=unanswered) as callers:
            callers.go_on()
            place.server.pause()
            callers.go_on()
            for _ in range(times):
                signalled(worker.process.pid)
                eventually(partial(is_later_than, time.monotonic() + 0.1))
            worker.process.wait(60)
            eventually(lambda: not signalled(worker.process.pid, 0), 60)
    finally:
        worker.kill()
    place.server.resume()
    sent_by_the_next_process(place.server.url, place.namespace, spool)
    with place.server.client() as client:
        assert_within(client, place.namespace, place.ledger, unanswered)
