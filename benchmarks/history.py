"""History: what packing costs, what is held after a year, how long views take, and what requests notice."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks import apps, packed_year, while_packing
from benchmarks.memory import MIDNIGHT, SIZES, Size
from benchmarks.probe import Probe
from benchmarks.tables import table
from benchmarks.traffic import record, requests
from tests.support import Clock, ServerProcess
from usage_middleware import Usage
from usage_middleware.periods import DAY
from usage_middleware.store.history.packer import Packer
from usage_middleware.store.schema import Schema

#: The sizes of which a day is packed.
DENSE = (SIZES[0], SIZES[1], SIZES[4])


class Packed(NamedTuple):
    """What packing a day took.

    Attributes:
        live: bytes of what was moved.
        packed: bytes that it takes in the history.
        seconds: of this process's processor.
        redis: of Redis's processor, seconds.
        step: of the longest step, seconds of this process's processor.
        command: the longest in Redis, milliseconds.
    """

    live: int
    packed: int
    seconds: float
    redis: float
    step: float
    command: float


def run(quick: bool) -> str:
    """The tables of this part."""
    rows = []
    for size in DENSE[:2] if quick else DENSE:
        half_hours, day = _day(size)
        rows += [_row(f"{size.name}, half-hours", half_hours), _row(f"{size.name}, the day itself", day)]
    header = [
        "endpoints x keys",
        "live, KB",
        "packed, KB",
        "CPU, s",
        "CPU of Redis, s",
        "longest step, ms",
        "longest command, ms",
    ]
    return "\n\n".join(
        [
            f"A day of {SIZES[1].calls:,} calls ({SIZES[0].calls:,} of 10 x 10) that is packed:\n\n{table(header, rows)}",
            packed_year.run(3 if quick else 7),
            while_packing.run(2 if quick else 7),
        ]
    )


def _row(name: str, found: Packed) -> list[str]:
    sizes = f"{found.live / 1000:,.0f}", f"{found.packed / 1000:,.0f}"
    return [name, *sizes, f"{found.seconds:.2f}", f"{found.redis:.2f}", f"{found.step * 1000:.0f}", f"{found.command:.1f}"]


def _day(size: Size) -> tuple[Packed, Packed]:
    clock = Clock(MIDNIGHT)
    options: Mapping[str, Any] = {"namespace": "history", "flush_interval": 1e9, "operator_tree": False, **size.options}
    with ServerProcess() as server, apps.new_usage(server.url, **options, clock=clock, history=True) as usage:
        for number, call in enumerate(requests(size.traffic, size.calls)):
            clock.set(MIDNIGHT + number * DAY / size.calls)
            record(usage.recorder, "acme", call)
            if number % (size.calls // 48) == 0:
                usage.flush()
        usage.flush()
        clock.set(MIDNIGHT + 3 * DAY + 1)
        half_hours = _pack(usage, clock)
        clock.set(MIDNIGHT + 36 * DAY + 1)
        return half_hours, _pack(usage, clock)


def _pack(usage: Usage, clock: Clock) -> Packed:
    client = usage.engine.client
    before, months = client.info("memory")["used_memory"], _months(usage)
    packer = Packer(lambda: usage.engine.client, Schema(usage.settings), clock, usage.engine.damage)
    gc.collect()
    gc.freeze()  # Else the collector looks through all that the benchmark holds, in the midst of a step.
    probe = Probe(client)
    began, longest = time.process_time(), 0.0
    steps = packer.pack("acme")
    while True:
        step = time.process_time()
        if next(steps, "over") == "over":
            break
        longest = max(longest, time.process_time() - step)
    seconds = time.process_time() - began
    work = probe.work()
    gc.unfreeze()
    time.sleep(0.5)  # Redis frees in the background what was unlinked.
    packed = _months(usage) - months
    freed = before - client.info("memory")["used_memory"]
    return Packed(freed + packed, packed, seconds, work.cpu_us / 1e6, longest, work.slowest_us / 1000)


def _months(usage: Usage) -> int:
    client = usage.engine.client
    return sum(client.memory_usage(key, samples=0) for key in client.scan_iter(match="*:history:????-??", count=5_000))
