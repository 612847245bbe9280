"""A year of live counters in minutes: a recorder counts some days, which are copied under the names of all others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.traffic import Traffic, record, requests
from tests.support import Clock
from usage_middleware import Usage
from usage_middleware.periods import DAY, day_name
from usage_middleware.store.schema import Schema

_SCRIPT = Path(__file__).with_name("copy_day.lua").read_text("utf-8")
HALF_HOUR = 1800


class Counted(NamedTuple):
    """A day that was counted.

    Attributes:
        org: whose it is.
        start: where it begins.
        calls: (half-hour of the day, endpoint) -> calls.
        keys: key -> calls.
        sent: bytes of all answers.
    """

    org: str
    start: int
    calls: Counter[tuple[int, str]]
    keys: Counter[str]
    sent: int


def count_day(usage: Usage, clock: Clock, org: str, start: int, traffic: Traffic, calls: int) -> Counted:
    """Count so many calls, at any time of a day. What is counted differs from day to day, and between organisations."""
    dice = random.Random(f"{org} {start}")
    found = Counted(org, start, Counter(), Counter(), 0)
    sent = 0
    times = sorted(dice.randrange(DAY * 1000) for _ in range(calls))
    for number, (at, call) in enumerate(zip(times, requests(traffic, calls, dice.randrange(1 << 30)), strict=True)):
        clock.set(start + at / 1000)
        record(usage.recorder, org, call)
        found.calls[at // 1000 // HALF_HOUR, call.endpoint] += 1
        found.keys[call.key] += 1
        sent += call.sent if call.status != 304 else 0  # It has no body.
        if number % 2_000 == 1_999:
            _deliver(usage)
    _deliver(usage)
    return found._replace(sent=sent)


def _deliver(usage: Usage) -> None:
    while not usage.flush():  # The machine is busy.
        pass


class Copier:
    """Copies days between namespaces of one Redis.

    Args:
        client: of that Redis.
        there: the schema of what was counted.
        here: the schema of what is packed.
    """

    def __init__(self, client: Any, there: Schema, here: Schema) -> None:
        self._client = client
        self._there = there
        self._here = here
        self._script = client.register_script(_SCRIPT)

    def learn(self, days: Sequence[Counted]) -> None:
        """Look which live counters these days have, and drop those of minutes, which nobody packs."""
        for org in sorted({day.org for day in days}):
            tree = f"{self._there.tree(org)}:"
            names = [name.decode().removeprefix(tree) for name in self._client.scan_iter(match=f"{tree}*", count=10_000)]
            for part in _parts([f"{tree}{name}" for name in names if ":1m:" in name]):
                self._client.unlink(*part)
            months = [name for name in names if name.startswith("series:1d:")]
            for day in days:
                if day.org == org:
                    own = [name for name in names if day_name(day.start) in name and ":1m:" not in name]
                    self._client.set(self._names(day), msgspec.msgpack.encode([*months, *own]))

    def _names(self, day: Counted) -> str:
        return f"names:{day.org}:{day.start}"

    def put(self, many: Sequence[tuple[Counted, str, int]], due: int) -> None:
        """Put each day on another one of an organisation, which is due then at the latest."""
        pipe = self._client.pipeline(transaction=False)
        for number, (day, org, start) in enumerate(many, 1):
            lives = self._here.settings.kept("series", 2) * 1000
            trees = [f"{self._there.tree(day.org)}:", f"{self._here.tree(org)}:"]
            days = [day_name(day.start), day_name(start), (start - day.start) * 1000]
            self._script([], [*trees, self._names(day), *days, lives, self._here.history_schedule, org, due], pipe)
            if number % 7 == 0:
                pipe.execute()
        pipe.execute()

    def register(self, days: Sequence[Counted], orgs: Sequence[str], until: int) -> None:
        """Each of these organisations has the keys, endpoints and projects of the days, active until then."""
        for dimension in ("key", "endpoint", *self._here.settings.dimensions):
            places = {self._there.seen(day.org, dimension) for day in days}
            seen = {name for place in places for name in self._client.zrange(place, 0, -1)}
            for org in orgs:
                self._client.zadd(self._here.seen(org, dimension), dict.fromkeys(seen, until * 1000))


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[begin : begin + 1_000] for begin in range(0, len(names), 1_000))
