"""Servers that answer on threads end while requests are being answered: each is counted, or told as `ended late`."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.faults.calling import Callers, slow_requests
from tests.faults.ledger import Ledger
from tests.faults.test_ends import sent_by_the_next_process
from tests.faults.webserver import Worker, ends, environment
from tests.faults.workplace import Workplace
from usage_middleware.record.flush_thread import LAST_RETRY

pytestmark = pytest.mark.slow

LATE = re.compile(
    r"a call ended after the last delivery of this process, and is not counted \((\d+) times so far\)"
    r"|(\d+) calls are being answered as this process ends"
)


def told(log: str) -> int:
    """How many calls the log tells of that ended too late: those that did, or those that were being answered."""
    return max((int(number) for found in LATE.findall(log) for number in found if number), default=0)


@pytest.mark.parametrize(("kind", "how"), ends(("gunicorn", "waitress", "uwsgi")))
def test_a_server_ends_while_its_threads_answer(place: Workplace, tmp_path: Path, kind: str, how: signal.Signals) -> None:
    if kind == "uwsgi":
        pytest.importorskip("pyuwsgi")
    variables, unanswered = environment(place.proxy.url, place.namespace, flush_interval=60), Ledger()
    worker = Worker(kind, tmp_path / "log", variables, *(["--threads", "4"] if kind == "gunicorn" else []))
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


def test_uwsgi_runs_nothing_at_sigterm_while_it_answers(place: Workplace, tmp_path: Path) -> None:
    """It leaves out `atexit` then. What the journal has is sent by the next process."""
    pytest.importorskip("pyuwsgi")
    spool, unanswered = str(tmp_path / "spool"), Ledger()
    variables = environment(place.proxy.url, place.namespace, spool=spool, journal=True)
    worker = Worker("uwsgi without its hook", tmp_path / "log", variables)
    worker.start()
    try:
        with Callers(worker.port, ledger=place.ledger, count=6, unanswered=unanswered, requests=slow_requests()) as callers:
            callers.go_on(60)
            place.proxy.refuse()
            callers.go_on(60)
            safe = len(place.ledger)
            callers.go_on_for(LAST_RETRY + 0.5)
            worker.end(signal.SIGTERM)
    finally:
        worker.kill()
    place.proxy.accept()
    sent_by_the_next_process(place.server.url, place.namespace, spool)
    assert safe <= place.stored("*") <= len(place.ledger) + len(unanswered)
