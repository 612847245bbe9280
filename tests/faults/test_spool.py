"""What a worker could not deliver, sent once by another: after a graceful end, and with a journal after a kill."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.calling import Callers
from tests.faults.ledger import Ledger
from tests.faults.proxy import Loss
from tests.faults.webserver import KINDS, Worker, ends, environment
from tests.faults.workplace import Workplace, settled
from tests.serving import Serving, request
from tests.support import eventually
from usage_middleware.record.flush_thread import LAST_RETRY

#: While Redis is away, a worker tries again, and writes to its journal, at the latest after so many seconds.
INTERVAL = LAST_RETRY


@pytest.fixture
def spool(tmp_path: Path) -> str:
    return str(tmp_path / "spool")


def go_on(place: Workplace, spool: str, kind: str = "uvicorn", workers: int = 1) -> None:
    """New workers come, and the traffic goes on."""
    with ExitStack() as ending:
        running = [ending.enter_context(place.serve(kind, spool=spool)) for _ in range(workers)]
        with Callers(*(worker.port for worker in running), ledger=place.ledger) as callers:
            callers.go_on()
        place.check_soon()
    place.check()


def silent(place: Workplace) -> None:
    """Redis takes connections, and says nothing."""
    place.server.pause()


def away(place: Workplace) -> None:
    """Nobody reaches Redis."""
    place.proxy.refuse()


def over(place: Workplace) -> None:
    """The outage is over."""
    place.server.resume()
    place.proxy.forgive()
    place.proxy.refuse()
    place.proxy.accept()


@pytest.mark.parametrize("outage", [away, silent])
@pytest.mark.parametrize(("kind", "how"), ends(KINDS))
def test_a_worker_ends_during_an_outage(
    place: Workplace, spool: str, kind: str, how: signal.Signals, outage: Callable[[Workplace], None]
) -> None:
    worker = place.serve(kind, spool=spool, shutdown_timeout=0.3)
    with worker as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on()
        outage(place)
        callers.go_on()
        running.process.send_signal(how)
        running.process.wait(60)
    over(place)
    assert sum(place.stored(org) for org in ("acme", "globex", "initech")) < len(place.ledger)
    go_on(place, spool, kind)


def test_several_workers_come_at_once_to_what_several_left(place: Workplace, spool: str) -> None:
    for _ in range(3):
        worker = place.serve("uvicorn", spool=spool, shutdown_timeout=0.3)
        with worker as running, Callers(running.port, ledger=place.ledger) as callers:
            callers.go_on(40)
            place.proxy.refuse()
            callers.go_on(40)
        place.proxy.accept()
    go_on(place, spool, workers=3)


@pytest.mark.parametrize("outage", [away, silent])
def test_an_outage_without_a_spool_loses_what_was_not_delivered(place: Workplace, outage: Callable[[Workplace], None]) -> None:
    with place.serve("uvicorn", shutdown_timeout=0.3) as running:
        with Callers(running.port, ledger=place.ledger) as callers:
            callers.go_on()
        eventually(lambda: settled(running))
        away(place)
        with Callers(running.port, ledger=Ledger()) as callers:
            callers.go_on()
            lost = callers.ledger
        running.stop()
        assert f"{len(lost)} calls could not be delivered" in running.log.read_text()
    over(place)
    place.check()


def on_a_small_disk(place: Workplace, log: Path, most: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Worker:
    """A worker that can write so many bytes to a file."""
    with monkeypatch.context() as small:
        small.setenv("USAGE_FILE_BYTES", str(most))
        worker = Worker("uvicorn", log, environment(place.proxy.url, place.namespace, shutdown_timeout=0.3, **options))
    worker.start()
    return worker


def test_the_disk_fills_while_the_spool_is_written(
    place: Workplace, spool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a process: a file that is not whole is deleted, and nothing of it is counted."""
    worker = on_a_small_disk(place, tmp_path / "log", 1_000, monkeypatch, spool=spool)
    with Callers(worker.port, ledger=place.ledger) as callers:
        callers.go_on()
    place.check_soon()
    place.proxy.refuse()
    with Callers(worker.port, ledger=Ledger()) as callers:
        callers.go_on(300)
    worker.end(signal.SIGTERM)
    assert list(Path(spool).glob("*")) == []
    place.proxy.accept()
    go_on(place, spool)


def test_the_disk_fills_in_the_middle_of_an_append(
    place: Workplace, spool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal lacks what had no room. Redis has everything, and what is on disk is not counted again after a kill."""
    worker = on_a_small_disk(place, tmp_path / "log", 3_000, monkeypatch, spool=spool, journal=True)
    with Callers(worker.port, ledger=place.ledger) as callers:
        callers.go_on(1_000)
    place.check_soon()
    assert request("GET", worker.port, "/control/stats").json()["lost"]["journal"] > 0
    worker.kill()
    go_on(place, spool)


def killed(running: Serving) -> None:
    """SIGKILL."""
    running.process.kill()
    running.process.wait(60)


def deaf(place: Workplace) -> None:
    """Redis counts, and its answers are lost."""
    place.proxy.lose(Loss.REPLY, times=1_000)


@pytest.mark.parametrize("fault", [away, deaf])
def test_a_worker_with_a_journal_is_killed(place: Workplace, spool: str, fault: Callable[[Workplace], None]) -> None:
    with place.serve("uvicorn", spool=spool, journal=True) as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on()
        fault(place)
        callers.go_on()
        with callers.paused():
            # What is on disk now is what was answered.
            assert not settled(running)
            killed(running)
    over(place)
    go_on(place, spool)


def test_a_kill_loses_no_more_than_one_interval_and_counts_nothing_twice(place: Workplace, spool: str) -> None:
    with (
        place.serve("uvicorn", spool=spool, journal=True, flush_interval=INTERVAL) as running,
        Callers(running.port, ledger=place.ledger, count=1) as callers,
    ):
        callers.go_on()
        place.proxy.refuse()
        callers.go_on()
        safe = len(place.ledger)
        callers.go_on_for(INTERVAL + 0.5)
        killed(running)
    answered = len(place.ledger)
    place.proxy.accept()
    with place.serve("uvicorn", spool=spool, flush_interval=INTERVAL) as running:
        with Callers(running.port, ledger=Ledger(), count=1, most=1) as callers:
            eventually(lambda: not callers.at_work)
        eventually(lambda: place.stored("*") > safe + 1)
    # One call may have been counted whose answer was cut off; one is that of the second worker.
    assert safe < place.stored("*") <= answered + 2
    assert place.stored("*") == sum(place.stored(org) for org in ("acme", "globex", "initech"))
