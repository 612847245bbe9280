"""Servers that answer on threads end while requests are being answered: each is counted, or told as `ended late`."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.faults.calling import Callers, slow_requests
from tests.faults.ledger import Ledger
from tests.faults.webserver import THREADED_KINDS, Worker, environment
from tests.faults.workplace import Workplace

pytestmark = pytest.mark.slow

LATE = re.compile(
    r"a call ended after the last delivery of this process, and is not counted \((\d+) times so far\)"
    r"|(\d+) calls are being answered as this process ends"
)


def told(log: str) -> int:
    """How many calls the log tells of that ended too late: those that did, or those that were being answered."""
    return max((int(number) for found in LATE.findall(log) for number in found if number), default=0)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", THREADED_KINDS)
def test_a_server_ends_while_its_threads_answer(place: Workplace, tmp_path: Path, kind: str, how: signal.Signals) -> None:
    if kind == "uwsgi":
        pytest.importorskip("pyuwsgi")
    worker, unanswered = Worker(kind, tmp_path / "log", environment(place.proxy.url, place.namespace)), Ledger()
    worker.start()
    try:
        with Callers(worker.port, ledger=place.ledger, count=6, unanswered=unanswered, requests=slow_requests()) as callers:
            callers.go_on(60)
            worker.end(how)
    finally:
        worker.kill()
    answered, log = len(place.ledger), worker.log.read_text()
    counted = place.stored("*")
    assert answered <= counted + told(log), log
    assert counted <= answered + len(unanswered), log
