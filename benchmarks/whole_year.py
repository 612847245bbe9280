"""Really packs a year of days: each stands live, as it was counted, until it is due, and the package's own packer moves it.

Then views are asked for the year by months of New York, key by key and in all, and must say what was counted.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import islice, pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from benchmarks import apps
from benchmarks.asking import ask
from benchmarks.copied_days import HALF_HOUR, Copier, Counted, count_day
from benchmarks.probe import Probe
from benchmarks.traffic import Traffic
from tests.support import Clock, ServerProcess
from usage_middleware import Usage, Viewer
from usage_middleware.options import Settings
from usage_middleware.periods import DAY
from usage_middleware.store.schema import Schema
from usage_middleware.store.writer import Writer
from usage_middleware.web import usage_wsgi_app

FIRST = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
#: So many days are counted of each organisation that days are copied from, and packed at once.
WEEK = 7
#: Bytes of a Redis key in the tables of names and of times, which are half full to full.
TABLES = 2 * 12
NEW_YORK = ZoneInfo("America/New_York")
_OPTIONS: Mapping[str, Any] = {"flush_interval": 1e9, "operator_tree": False, "history": True}


class Plan(NamedTuple):
    """A year.

    Attributes:
        traffic: what is called.
        calls: on each of the seven days that are counted.
        counted: of so many organisations days are counted.
        organisations: so many have days.
        days: how many days.
    """

    traffic: Traffic
    calls: Sequence[int]
    counted: int
    organisations: int
    days: int = 365


class Year(NamedTuple):
    """What a year came to.

    Attributes:
        after_35, after_9: bytes of an organisation with that `history_after`, in days.
        calls: of all organisations.
        packed: how many days, at one resolution each.
        seconds: of this process's processor while packing.
        redis: of Redis's.
    """

    after_35: float
    after_9: float
    calls: int
    packed: int
    seconds: float
    redis: float


def year(plan: Plan) -> Year:
    """Pack a year, and ask for it.

    Raises:
        AssertionError: a view does not say what was counted.
    """
    clock = Clock(FIRST)
    with ServerProcess() as server, server.client(socket_timeout=600) as client:
        seeds = list(_seeds(server, clock, plan))
        clock.set(FIRST)
        with apps.new_usage(server.url, **_OPTIONS, namespace="year", clock=clock) as usage:
            return _Packing(server, client, usage, clock, plan, seeds).year()


def _seeds(server: ServerProcess, clock: Clock, plan: Plan) -> Iterator[Counted]:
    with apps.new_usage(server.url, **_OPTIONS, namespace="counted", clock=clock) as usage:
        usage.recorder._rounds = None  # These days stay as they are.
        for day, calls in enumerate(plan.calls):
            for number in range(plan.counted):
                yield count_day(usage, clock, f"seed{number}", FIRST + day * DAY, plan.traffic, calls)


class _Packing:
    """One year in one namespace."""

    def __init__(
        self, server: ServerProcess, client: Any, usage: Usage, clock: Clock, plan: Plan, seeds: Sequence[Counted]
    ) -> None:
        self._server, self._client, self._usage, self._clock, self._plan = server, client, usage, clock, plan
        self._seeds, self._schema = seeds, Schema(usage.settings)
        self._orgs = [f"org{number:06d}" for number in range(plan.organisations)]
        self._seconds = self._redis = 0.0
        self._days = 0

    def year(self) -> Year:
        copier = Copier(self._client, Schema(Settings(namespace="counted", dimensions=("project",))), self._schema)
        copier.learn(self._seeds)
        Writer(lambda: self._client, self._schema).check_schema(FIRST * 1000)
        copier.register(self._seeds, self._orgs, FIRST + self._plan.days * DAY)
        for first in range(0, self._plan.days, WEEK):
            days = range(first, min(first + WEEK, self._plan.days))
            self._clock.set(FIRST + days.stop * DAY + 6 * 3600)
            for number, org in enumerate(self._orgs):
                copier.put([(self._seed(number, day), org, FIRST + day * DAY) for day in days], int(self._clock()))
            self._pack(self._usage)
            print(f"{days.stop} days, {self._seconds:.0f} s", flush=True)
        after_35 = self._used()
        calls = sum(self._check(number) for number in range(len(self._orgs)))
        packed, seconds, redis = self._days, self._seconds, self._redis
        return Year(after_35 / len(self._orgs), self._after_9() / len(self._orgs), calls, packed, seconds, redis)

    def _seed(self, number: int, day: int) -> Counted:
        """Which day that was counted an organisation has on a day: all weekdays stay, and neighbours differ."""
        column = (number + 13 * (day // WEEK)) % self._plan.counted
        return self._seeds[day % WEEK * self._plan.counted + column]

    def _pack(self, usage: Usage) -> None:
        probe, began = Probe(self._client), time.process_time()
        self._days += usage.pack_history()
        self._seconds += time.process_time() - began
        self._redis += probe.work().cpu_us / 1e6

    def _used(self) -> float:
        """Bytes of all that the organisations have. What Redis uses in all goes up and down as its tables double and halve."""
        names = self._client.scan_iter(match=f"{self._schema.namespace}:{{org*", count=10_000)
        return sum(self._sizes(part) for part in iter(lambda: list(islice(names, 1_000)), []))

    def _sizes(self, names: Sequence[bytes]) -> float:
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.memory_usage(name, samples=0)
            return float(sum(pipe.execute()) + len(names) * TABLES)

    def _after_9(self) -> float:
        with apps.new_usage(self._server.url, **_OPTIONS, namespace="year", clock=self._clock, history_after=9 * DAY) as usage:
            self._client.zadd(self._schema.history_schedule, dict.fromkeys(self._orgs, int(self._clock())))
            self._pack(usage)
            for number in random.Random(1).sample(range(len(self._orgs)), min(20, len(self._orgs))):
                self._check(number)
            return self._used()

    def _check(self, number: int) -> int:
        """Ask for the year of an organisation; how many calls it was."""
        days = [(self._seed(number, day), FIRST + day * DAY) for day in range(self._plan.days)]
        keys, sent, calls = Counter[str](), 0, Counter[tuple[int, str]]()
        for seed, start in days:
            keys.update(seed.keys)
            sent += seed.sent
            for (half_hour, endpoint), many in seed.calls.items():
                month = month_in_new_york((start - FIRST) // HALF_HOUR + half_hour)
                if month >= "2026":
                    calls[resource(endpoint), month] += many
        asked = _Asked(self._usage, self._orgs[number], days[-1][1])
        assert asked.endpoints() == calls
        assert asked.keys() == keys
        assert asked.summary() == (keys.total(), sent)
        return keys.total()


class _Asked:
    """What views say of an organisation's days up to the last, nothing of it cached."""

    def __init__(self, usage: Usage, org: str, last: int) -> None:
        self._app = usage_wsgi_app(usage, auth=lambda _: Viewer.organization(org), cache_seconds=0, limit=None)
        self._last = _date(last)
        ends = [*(f"2026-{month:02}-01" for month in range(2, 13) if f"2026-{month:02}" <= self._last), _date(last + DAY)]
        self._months = [f"start={start}&end={end}" for start, end in pairwise(["2026-01-01", *ends])]

    def _ask(self, path: str) -> Any:
        answer = ask(self._app, path)
        assert answer.status == "200", answer.body
        return msgspec.json.decode(answer.body)

    def endpoints(self) -> Counter[tuple[int, str]]:
        """Endpoint and month of New York -> calls."""
        asked = f"start_date=2026-01-01&end_date={self._last}&bucketing_size=month&timezone=America/New_York"
        found = Counter[tuple[int, str]]()
        for row in self._ask(f"/endpoints?{asked}")["results"]:
            for bucket in row["buckets"]:
                if bucket["total_requests"]:
                    found[resource(row["endpoint"]), bucket["bucket_start"][:7]] += bucket["total_requests"]
        return found

    def keys(self) -> Counter[str]:
        """Key -> calls."""
        found = Counter[str]()
        for month in self._months:
            for row in self._ask(f"/by-key?{month}&limit=1000&endpoints_per_key=0")["keys"]:
                found[row["key_id"]] += row["request_count"]
        return found

    def summary(self) -> tuple[int, int]:
        """Calls and bytes."""
        found = [self._ask(f"/summary?{month}") for month in self._months]
        return sum(one["total_calls"] for one in found), sum(one["bytes"] for one in found)


def resource(endpoint: str) -> int:
    """The number of an endpoint, whatever it is called."""
    found = re.search(r"resources(\d+)", endpoint)
    assert found, endpoint
    return int(found[1])


@cache
def month_in_new_york(half_hour: int) -> str:
    """The month of a half-hour of the year."""
    return f"{datetime.fromtimestamp(FIRST + half_hour * HALF_HOUR, NEW_YORK):%Y-%m}"


def _date(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
