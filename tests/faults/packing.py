"""A process that packs: `python -m tests.faults.packing URL NAMESPACE NOW HOW`, until it is done or killed.

HOW is `once` (everything that is due, without asking who else does), or `worker` (in idle moments of a recorder's thread).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.report.world import OPTIONS, World
from tests.store.history.packing import NOW, pack
from tests.support import Clock
from usage_middleware import Usage
from usage_middleware.record import idle_packing
from usage_middleware.store.history import live, moving

#: So few keys are moved at once here, and so few are read, that a day takes many steps.
MOVED, READ = 5, 20


def take_small_steps() -> None:
    """Have packers of this process take many steps for little."""
    moving.MOST_KEYS = moving.ENOUGH_KEYS = MOVED
    live.AT_ONCE = live.MOST_AT_ONCE = READ


@contextmanager
def packing(url: str, namespace: str, how: Literal["once", "worker"]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that packs. It is killed at the end, unless it has ended."""
    command = [sys.executable, "-m", "tests.faults.packing", url, namespace, str(NOW), how]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        try:
            yield process
        finally:
            process.kill()


def main(url: str, namespace: str, now: float, how: str) -> None:
    """Pack."""
    take_small_steps()
    clock = Clock(now)
    usage = Usage(url, namespace=namespace, clock=clock, flush_interval=3600, **{**OPTIONS, "history": True})
    if how == "once":
        pack(World(usage, clock))
        return
    idle_packing.EVERY, idle_packing.RESTS = 0.01, 0
    usage.recorder._start()
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4])
