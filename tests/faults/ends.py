"""How processes end: SIGTERM, and SIGKILL when the grace period is over, with a Redis that is well, silent, slow or half dead.

`python3 run ends` measures what each server loses then, and how long it takes to end, with a spool and without.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from tests.faults.calling import Callers
from tests.faults.harness import ORGANISATIONS
from tests.faults.ledger import OPERATOR, Ledger, assert_agreement
from tests.faults.proxy import Loss, Proxy
from tests.faults.webserver import EVERY_KIND, Worker, environment
from tests.faults.workplace import Workplace
from tests.support import ServerProcess, eventually

#: What Kubernetes grants is 30 s; Docker and systemd have less, or more. SIGKILL comes after it, in seconds.
GRACE = 10.0
#: A slow Redis: so many bytes a second in each direction, each request and reply held for so many seconds.
SLOW_RATE, SLOW_DELAY = 20_000, 0.2


def well(_: Workplace) -> None:
    """Redis answers."""


def silent(place: Workplace) -> None:
    """Connections are open, and nothing comes."""
    place.server.pause()


def slow(place: Workplace) -> None:
    """Everything takes long, and arrives."""
    place.proxy.delay, place.proxy.rate = SLOW_DELAY, SLOW_RATE


def half_dead(place: Workplace) -> None:
    """It answers everything but chunks. Those it counts, and says nothing."""
    place.proxy.lose(Loss.SILENCE, times=100_000)


STATES: tuple[Callable[[Workplace], None], ...] = (well, silent, slow, half_dead)


class End(NamedTuple):
    """How one process ended.

    Attributes:
        answered: how many requests it answered since Redis was like this.
        lost: how many of them their organisations lack, after the next process of that machine has come.
        seconds: how long it took from SIGTERM to its end.
        was_killed: whether the grace period was over before.
    """

    answered: int
    lost: int
    seconds: float
    was_killed: bool


def measure(place: Workplace, worker: Worker, state: Callable[[Workplace], None], grace: float) -> End:
    """Serve, have a fault, end, come back, and count what is missing.

    Raises:
        AssertionError: something is counted twice, or counters disagree.
    """
    unanswered = Ledger()
    worker.start()
    try:
        with Callers(worker.port, ledger=place.ledger, unanswered=unanswered) as callers:
            callers.go_on()
            with callers.paused():
                eventually(lambda: min(place.stored(OPERATOR), _of_organisations(place)) == len(place.ledger), 20)
                before = len(place.ledger)
                state(place)
            callers.go_on(300)
            took, was_killed = _end(worker, grace)
        _recover(place)
        answered = len(place.ledger) - before
        worker.start()
        with Callers(worker.port, ledger=place.ledger, most=10, unanswered=unanswered) as callers:
            eventually(lambda: not callers.at_work)
        with suppress(AssertionError):
            eventually(lambda: place.stored(OPERATOR) >= len(place.ledger), 10)
        worker.end(signal.SIGTERM)
    finally:
        worker.kill()
    found, of_all = _of_organisations(place), place.stored(OPERATOR)
    assert max(found, of_all) <= len(place.ledger) + len(unanswered), f"{found} stored, {len(place.ledger)} answered"
    with place.server.client() as client:
        assert_agreement(client, place.namespace, across_trees=False)
    return End(answered, max(len(place.ledger) - found, 0), took, was_killed)


def _of_organisations(place: Workplace) -> int:
    """How many calls the organisations have together."""
    return sum(map(place.stored, ORGANISATIONS))


def _end(worker: Worker, grace: float) -> tuple[float, bool]:
    began = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    try:
        worker.process.wait(grace)
        return time.monotonic() - began, False
    except subprocess.TimeoutExpired:
        worker.kill()
        return grace, True


def _recover(place: Workplace) -> None:
    place.server.resume()
    place.proxy.forgive()
    place.proxy.hang_up()


def end_of(kind: str, state: Callable[[Workplace], None], *, spool: bool, grace: float = GRACE, patient: bool = True) -> End:
    """Measure in a new world. `patient`: with the time limits of a real process, not those of tests."""
    with ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        server = ending.enter_context(ServerProcess())
        proxy = ending.enter_context(Proxy(server.port))
        place = Workplace(server, proxy, f"ends{secrets.token_hex(4)}")
        options = {"spool": str(folder / "spool")} if spool else {}
        limits = {"flush_interval": 1.0} if patient else {"shutdown_timeout": 1.0}
        variables = environment(proxy.url, place.namespace, **options, **limits)
        worker = Worker(kind, folder / "log", {**variables, "USAGE_PATIENT": str(int(patient))})
        return measure(place, worker, state, grace)


def main(arguments: list[str] | None = None) -> None:
    """Measure all, and print the table of the page of reliability."""
    parser = argparse.ArgumentParser(prog="python3 run ends", description=__doc__)
    parser.add_argument("--grace", type=float, default=GRACE, help="seconds until SIGKILL (default: %(default)s)")
    parser.add_argument(
        "--kinds", default=",".join((*EVERY_KIND, "waitress", "uwsgi")), help="of servers (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    print("| server | Redis | lost with a spool | seconds | lost without | seconds |\n|---|---|---|---|---|---|", flush=True)
    for kind in options.kinds.split(","):
        for state in STATES:
            kept, bare = (end_of(kind, state, spool=spool, grace=options.grace) for spool in (True, False))
            cells = [f"{end.lost} of {end.answered} | {end.seconds:.1f}{', killed' * end.was_killed}" for end in (kept, bare)]
            print(f"| {kind} | {state.__name__.replace('_', ' ')} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
