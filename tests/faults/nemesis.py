"""The nemesis: four kinds of web servers, real traffic, and faults that come together at random, for as long as you like.

`python3 run nemesis --minutes 30`. In the end Redis has every answered request once: for each organisation, key, endpoint and
status, at each resolution, and all counters agree with each other. A request whose connection was closed before its answer
may have been counted once or not at all.
"""

from __future__ import annotations

import argparse
import secrets
import time
from contextlib import ExitStack

from tests.faults.ledger import assert_within, expected
from tests.faults.soak import LOSSES, Soak
from tests.faults.webserver import ends_of


class Nemesis(Soak):
    """A soak of servers of every kind, in which faults of the network come on top of all others."""

    KINDS = (("uvicorn",), ("gunicorn", "--threads", "2"), ("hypercorn",), ("granian",))

    def _disturb(self) -> None:
        for _ in range(self._random.randint(0, 2)):
            self._proxy.lose(self._random.choice(LOSSES), times=self._random.randint(1, 6))
            self.faults["loss on top"] += 1
        super()._disturb()

    def _restart_a_worker(self) -> None:
        worker = self._random.choice(self._workers)
        worker.end(self._random.choice(ends_of(worker.kind)))
        worker.start()

    def _compare(self) -> None:
        with self._server.client() as client:
            assert_within(client, self._namespace, self.ledger, self.unanswered)


def nemesis(seconds: float, seed: int, calm: float = 2.0) -> Nemesis:
    """Run it, and compare; `calm` is how long nothing happens between two faults at most.

    Raises:
        AssertionError: Redis has other numbers than were answered.
    """
    with ExitStack() as ending:
        found = Nemesis(ending, requests=None, seconds=seconds, seed=seed, calm=calm)
        found.run()
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run it, and say how it went."""
    parser = argparse.ArgumentParser(prog="python3 run nemesis", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="for how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1000), help="of the faults")
    options = parser.parse_args(arguments)
    print(f"{options.minutes:g} minutes, seed {options.seed}", flush=True)
    began = time.monotonic()
    done = nemesis(60 * options.minutes, options.seed)
    took, calls = time.monotonic() - began, len(done.ledger)
    print(f"{calls:,} requests answered in {took:,.0f} s, {len(done.unanswered)} not, {sum(done.faults.values())} faults:")
    print("  " + ", ".join(f"{name.replace('_', ' ')} {times}" for name, times in done.faults.most_common()))
    print(f"All {len(expected(done.ledger)):,} numbers in Redis are those of the answers.")


if __name__ == "__main__":
    main()
