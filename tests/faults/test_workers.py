"""Workers come and go, gracefully or not: what they answered is counted once."""

from __future__ import annotations

import signal

import pytest

from tests.faults.calling import Callers
from tests.faults.proxy import Loss
from tests.faults.webserver import KINDS, ends
from tests.faults.workplace import Workplace, settled
from tests.support import eventually


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("uvicorn", ()),
        ("uvicorn", ("--workers", "2")),
        ("gunicorn", ("--workers", "2", "--threads", "2")),
        ("gunicorn", ("--workers", "2", "--threads", "2", "--preload")),
        ("gunicorn", ("--workers", "2", "--threads", "2", "--max-requests", "50", "--max-requests-jitter", "20")),
    ],
    ids=["uvicorn", "uvicorn-workers", "gunicorn", "preload", "max-requests"],
)
def test_servers_and_their_workers(place: Workplace, kind: str, options: tuple[str, ...]) -> None:
    with place.serve(kind, *options) as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on(40)
        place.proxy.lose(Loss.REPLY, times=3)
        callers.go_on(40)
        place.proxy.hang_up(reset=True)
        callers.go_on(120 if "--max-requests" in options else 40)
    place.check()


@pytest.mark.parametrize(("kind", "how"), ends(KINDS))
def test_a_signal_in_the_middle_of_traffic(place: Workplace, kind: str, how: signal.Signals) -> None:
    with place.serve(kind, flush_interval=60) as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on()
        running.process.send_signal(how)
        running.process.wait(60)
    with place.serve(kind) as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on()
    place.check()


def test_a_worker_dies_and_another_takes_its_place(place: Workplace) -> None:
    """SIGKILL without a journal loses what was not yet flushed: here nothing, as no call came since."""
    with place.serve("uvicorn") as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on()
        with callers.paused():
            eventually(lambda: settled(running))
            running.process.kill()
            running.process.wait(60)
    with place.serve("uvicorn") as running, Callers(running.port, ledger=place.ledger) as callers:
        callers.go_on()
    place.check()
