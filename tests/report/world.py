"""A plain list of calls beside the real thing: what the reports say is checked against counting the list by brute force."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from tests.support import Clock, record_call
from usage_middleware import Usage, Viewer
from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind
from usage_middleware.periods import resolutions
from usage_middleware.report.context import ReportContext

T = TypeVar("T")

_TIME = r"\d{4}-\d\d(?:-\d\d(?:T\d\d:\d\d)?)?"
_KEY = re.compile(
    rf"series:(?P<series>\w+):(?P<block>{_TIME})(?P<of>:endpoint:.*|:key:.*)?|board:(?P<board>\w+):(?P<slot>{_TIME}):(?P<rest>.*)"
)


class Call(NamedTuple):
    """One finished request. `at` is when, in seconds since the epoch."""

    at: float
    org: str = "acme"
    key: str = "key_1"
    endpoint: str = "GET /v1/items"
    project: str = "search"
    status: int = 200
    latency_us: int = 12_000
    sent: int = 100
    records: int = 0
    matches: int = 0

    @property
    def successful(self) -> bool:
        """2xx, counted otherwise than the code under test does."""
        return 200 <= self.status <= 299

    @property
    def failed(self) -> bool:
        """4xx, 5xx and above."""
        return self.status >= 400


ORGS_KEYS = [("acme", "key_1"), ("acme", "key_2"), ("globex", "key_1")]
#: Without history: what is asked then meets the edges of retention. Tests of packed time turn it on.
OPTIONS: dict[str, Any] = {"dimensions": ("project",), "counters": ("records", "matches"), "history": False}


class World:
    """A `Usage` whose clock follows the calls, and the list of them."""

    def __init__(self, usage: Usage, clock: Clock) -> None:
        self.usage = usage
        self.clock = clock
        self.calls: list[Call] = []

    def happen(self, calls: Iterable[Call]) -> None:
        """Let calls finish, in the order of time, delivered whenever an hour passed and at the end."""
        for call in sorted(calls):
            if call.at - self.clock.now > 3600:
                assert self.usage.flush()
            self.clock.set(call.at)
            self.record(call)
        assert self.usage.flush()

    def record(self, call: Call) -> None:
        """One call, now. A 204 and a 304 have no body."""
        self.calls.append(call._replace(sent=0) if call.status in (204, 304) else call)
        record_call(
            self.usage.recorder,
            (call.org, call.key),
            call.endpoint,
            (call.project,),
            call.status,
            call.latency_us,
            call.sent,
            (call.records, call.matches),
        )

    def context(self, viewer: Viewer, now: int) -> ReportContext:
        """What a report is built with, for a viewer at some time."""
        return self.usage.reader.context(viewer, now=now)

    def reach(self, now: float) -> None:
        """Let time pass, and what has expired go."""
        self.clock.set(now)
        expire(self.usage, now)

    def inside(self, start: str, end: str, **alike: object) -> list[Call]:
        """The calls of a window as an answer echoes it, of which each named field has the value given."""
        low, high = instant(start), instant(end)
        return [
            call
            for call in self.calls
            if low <= call.at < high and all(getattr(call, name) == value for name, value in alike.items())
        ]


@contextmanager
def world(redis_url: str, now: float, **options: Any) -> Iterator[World]:
    """A world of its own."""
    clock = Clock(now)
    with Usage(
        redis_url, namespace=f"t{secrets.token_hex(6)}", clock=clock, flush_interval=3600, **{**OPTIONS, **options}
    ) as usage:
        usage.recorder._rounds = None  # Tests say when something is packed, whatever time has passed.
        yield World(usage, clock)


def asked(build: Callable[[], T]) -> T | str:
    """A report, or the code of the error that refuses it."""
    try:
        return build()
    except QueryError as refused:
        return refused.code


def instant(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 text."""
    return datetime.fromisoformat(text).timestamp()


def tally(calls: Sequence[Call], by: Callable[[Call], Any]) -> dict[Any, int]:
    """How many calls of each kind."""
    return dict(Counter(by(call) for call in calls))


def expire(usage: Usage, now: float) -> None:
    """Delete what Redis would have let go by then, and keep the rest: it lives by the real clock, and the test by its own."""
    client = usage.engine.client
    prefix = f"{usage.settings.namespace}:".encode()
    for key in client.scan_iter(match=prefix + b"*", count=1000):
        found = _KEY.fullmatch(key.decode().split("}:", 1)[1])
        if found is not None and _ends(usage, found) <= now:
            client.delete(key)
        elif found is not None:
            client.persist(key)


def _ends(usage: Usage, found: re.Match[str]) -> float:
    kind: CounterKind
    layers = resolutions(usage.settings.slot_minutes)
    layer = next(layer for layer in layers if layer.name == (found["series"] or found["board"]))
    if found["series"]:
        of = found["of"] or ""
        kind = "endpoint" if of.startswith(":endpoint") else "key" if of else "series"
        return _block_end(found["block"], layer.rank, usage) + usage.settings.kept(kind, layer.rank)
    own = re.fullmatch(r"key:.*", found["rest"]) and found["rest"].split(":")[1] not in (
        "calls",
        "latency_us",
        "1xx",
        "3xx",
        "4xx",
        "5xx",
    )
    return _start(found["slot"]) + layer.seconds + usage.settings.kept("key_board" if own else "board", layer.rank)


def _block_end(block: str, rank: int, usage: Usage) -> float:
    if rank == 0:
        return _start(block) + usage.settings.slot_minutes * 60
    if rank == 1:
        return _start(block) + 86_400
    year, month = map(int, block.split("-"))
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()


def _start(name: str) -> float:
    return datetime.fromisoformat(name).replace(tzinfo=UTC).timestamp()
