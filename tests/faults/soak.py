"""The soak: real servers, real traffic, faults at random moments; in the end Redis has every answered request once.

`python3 run soak` makes a million requests; `--requests` and `--seconds` make it shorter.
"""

from __future__ import annotations

import argparse
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.faults.calling import Callers
from tests.faults.harness import put_keys, usage_of
from tests.faults.ledger import Ledger, assert_equal, differences, expected
from tests.faults.proxy import Loss, Proxy
from tests.faults.webserver import Worker, ends_of, environment
from tests.support import ServerProcess, eventually

LOSSES = (Loss.REQUEST, Loss.HALF_REQUEST, Loss.REPLY, Loss.HALF_REPLY, Loss.SILENCE)
#: The first process is never restarted: its memory is what is measured, from a fifth of the way on.
WARM = 0.2
#: What its memory may grow by after that, in bytes: the interpreter's own ups and downs.
GROWTH = 12_000_000


class Soak:
    """Three web servers behind one namespace, callers, and what is done to them.

    Attributes:
        KINDS: the servers, and their options.
        unanswered: requests that got no answer, as their connection was closed.
        faults: how many of each there have been.
        memory: bytes of the first server, with how many calls were answered then.
    """

    KINDS: tuple[tuple[str, ...], ...] = (
        ("uvicorn",),
        ("uvicorn",),
        ("gunicorn", "--threads", "2", "--max-requests", "20000"),
    )

    def __init__(self, ending: ExitStack, *, requests: int | None, seconds: float, seed: int, calm: float) -> None:
        self._requests = requests
        self._calm = calm
        self._end = time.monotonic() + seconds
        self._random = random.Random(seed)
        self._server = ending.enter_context(ServerProcess(appendonly="yes", appendfsync="everysec"))
        self._proxy = ending.enter_context(Proxy(self._server.port))
        self._namespace = f"soak{secrets.token_hex(4)}"
        self.ledger = Ledger()
        self.unanswered = Ledger()
        self.faults: Counter[str] = Counter()
        self.memory: list[tuple[int, int]] = []
        with usage_of(self._server.url, self._namespace) as usage:
            put_keys(usage)
        self._workers = self._start_workers(ending)

    def _start_workers(self, ending: ExitStack) -> list[Worker]:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        spool = str(folder / "spool")
        variables = environment(self._proxy.url, self._namespace, flush_interval=0.3, spool=spool, shutdown_timeout=2)
        workers = [Worker(kind, folder / f"{n}.log", variables, *options) for n, (kind, *options) in enumerate(self.KINDS)]
        for worker in workers:
            worker.start()
            ending.callback(worker.kill)
        return workers

    def run(self) -> None:
        """Call, disturb, compare."""
        ports = (worker.port for worker in self._workers)
        with Callers(*ports, ledger=self.ledger, count=4, most=self._requests, unanswered=self.unanswered) as callers:
            while callers.at_work and time.monotonic() < self._end:
                self._disturb()
                self._note()
        self._proxy.forgive()
        # Those that are left send what the others have left in the spool.
        for worker in self._workers[::-1]:
            worker.end(signal.SIGTERM)
        self._workers[0].start()
        with Callers(self._workers[0].port, ledger=self.ledger, most=10) as callers:
            eventually(lambda: not callers.at_work)
        with suppress(AssertionError):
            eventually(self._is_counted, 20)
        self._workers[0].end(signal.SIGTERM)
        self._compare()

    def _is_counted(self) -> bool:
        """True if Redis has all that was answered."""
        with self._server.client() as client:
            different = differences(client, self._namespace, self.ledger).values()
        return all(stored >= answered for answered, stored in different)

    def _disturb(self) -> None:
        self._wait(0.1, self._calm)
        fault = self._random.choice(FAULTS)
        self.faults[fault.__name__.strip("_")] += 1
        fault(self)

    def _wait(self, least: float, most: float) -> None:
        time.sleep(self._random.uniform(least, most))

    def _note(self) -> None:
        self.memory.append((len(self.ledger), self._workers[0].resident_bytes))
        if sum(self.faults.values()) % 20 == 0:
            print(f"  {len(self.ledger):9,} calls, {sum(self.faults.values())} faults", flush=True)

    def _compare(self) -> None:
        with self._server.client() as client:
            assert_equal(client, self._namespace, self.ledger)

    @property
    def growth(self) -> tuple[int, int]:
        """The memory of the first server when it was warm, and the most it has had since."""
        warm = [held for calls, held in self.memory if calls >= WARM * len(self.ledger)]
        return warm[0], max(warm[1:], default=warm[0])

    # What is done to them

    def _lose(self) -> None:
        self._proxy.lose(self._random.choice(LOSSES), times=self._random.randint(1, 4))

    def _hang_up(self) -> None:
        self._proxy.hang_up(reset=self._random.random() < 0.5)

    def _refuse(self) -> None:
        self._proxy.refuse()
        self._wait(0.1, 4.0)
        self._proxy.accept()

    def _slow(self) -> None:
        self._proxy.delay = self._random.uniform(0.0, 0.2)
        self._proxy.rate = 100_000
        self._wait(0.5, 3.0)
        self._proxy.delay, self._proxy.rate = 0.0, 0

    def _pause(self) -> None:
        self._server.pause()
        self._wait(0.2, 5.0)
        self._server.resume()

    def _kill(self) -> None:
        self._server.kill()
        self._wait(0.0, 1.0)
        self._server.start()

    def _flush_scripts(self) -> None:
        with self._server.client() as client:
            client.script_flush()

    def _fill(self) -> None:
        with self._server.client() as client:
            client.config_set("maxmemory", 1)
            self._wait(0.2, 2.0)
            client.config_set("maxmemory", 0)

    def _restart_a_worker(self) -> None:
        worker = self._random.choice(self._workers[1:])
        worker.end(self._random.choice(ends_of(worker.kind)))
        worker.start()

    def _restart_a_worker_while_redis_is_away(self) -> None:
        self._proxy.refuse()
        self._restart_a_worker()
        self._proxy.accept()


FAULTS: tuple[Callable[[Soak], None], ...] = (
    Soak._lose,
    Soak._lose,
    Soak._hang_up,
    Soak._refuse,
    Soak._slow,
    Soak._pause,
    Soak._kill,
    Soak._flush_scripts,
    Soak._fill,
    Soak._restart_a_worker,
    Soak._restart_a_worker_while_redis_is_away,
)


def soak(requests: int, seconds: float, seed: int, calm: float = 2.0) -> Soak:
    """Run one, and compare; `calm` is how long nothing happens between two faults at most.

    Raises:
        AssertionError: Redis has other numbers than were answered.
    """
    with ExitStack() as ending:
        found = Soak(ending, requests=requests, seconds=seconds, seed=seed, calm=calm)
        found.run()
    return found


def main(arguments: list[str]) -> None:
    """Run one, and say how it went."""
    parser = argparse.ArgumentParser(prog="python3 run soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000, help="how many to make (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3600, help="when to stop at the latest (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1000), help="of the faults")
    options = parser.parse_args(arguments)
    print(f"{options.requests:,} requests, seed {options.seed}", flush=True)
    began = time.monotonic()
    done = soak(options.requests, options.seconds, options.seed)
    took, calls = time.monotonic() - began, len(done.ledger)
    warm, most = done.growth
    print(f"{calls:,} requests answered in {took:,.0f} s, {sum(done.faults.values())} faults:")
    print("  " + ", ".join(f"{name.replace('_', ' ')} {times}" for name, times in done.faults.most_common()))
    print(f"All {len(expected(done.ledger)):,} numbers in Redis equal what was answered.")
    print(f"Memory of the server that ran throughout: {warm / 1e6:.1f} MB when warm, {most / 1e6:.1f} MB at most since.")
    if most - warm > GROWTH:
        sys.exit("Its memory grew.")


if __name__ == "__main__":
    main(sys.argv[1:])
