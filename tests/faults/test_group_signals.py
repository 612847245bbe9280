"""SIGTERM to every process of a server at once, as systemd sends it, also while calls are being saved: none is lost."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.faults.calling import Callers, slow_requests
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
def test_sigterm_reaches_every_process_while_redis_is_silent(place: Workplace, tmp_path: Path, kind: str, times: int) -> None:
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


@pytest.mark.parametrize("times", [1, 3])
def test_a_server_without_a_handler_of_its_own_answers_nothing_at_sigterm(place: Workplace, tmp_path: Path, times: int) -> None:
    """That is, workers of hypercorn. Requests that are being answered are cut off, as without the middleware: no 500."""
    unanswered = Ledger()
    variables = environment(place.proxy.url, place.namespace, flush_interval=60)
    worker = Worker("hypercorn", tmp_path / "log", variables, "--workers", "2")
    worker.start()
    try:
        with Callers(worker.port, ledger=place.ledger, count=6, unanswered=unanswered, requests=slow_requests()) as callers:
            callers.go_on(60)
            for _ in range(times):
                signalled(worker.process.pid)
                eventually(partial(is_later_than, time.monotonic() + 0.1))
            worker.process.wait(60)
            eventually(lambda: not signalled(worker.process.pid, 0), 60)
    finally:
        worker.kill()
    assert len(unanswered) > 0
    assert len(place.ledger) <= place.stored("*") <= len(place.ledger) + len(unanswered), worker.log.read_text()
    assert "Traceback" not in worker.log.read_text()
