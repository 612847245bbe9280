"""What was answered, counted by the client itself, and what Redis must hold because of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import date, timedelta
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

import redis

from tests.support import patiently
from usage_middleware import Usage
from usage_middleware.report.comparison import Difference

RESOLUTIONS = ("1m", "30m", "1d")
OPERATOR = "*"

#: (organisation, resolution, kind of Redis key, what it is about, measure) -> calls
Facts: TypeAlias = Counter[tuple[str, ...]]

_BLOCK = r"\d{4}-\d\d(?:-\d\d(?:T\d\d:\d\d)?)?"
_COUNTER = re.compile(
    rf"[^:]+:\{{(?P<org>[^}}]*)\}}:(?P<kind>series|board):(?P<res>\w+):(?P<block>{_BLOCK})(?::(?P<about>.+))?"
)
_STATUS = re.compile(r"s\d+")
_CLASSES = ("1xx", "3xx", "4xx", "5xx")


class Call(NamedTuple):
    """One answered request, as the client knows it."""

    org: str
    key: str
    endpoint: str
    status: int


class Ledger:
    """The client's own count."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.calls: Counter[Call] = Counter()
        self.dropped: Counter[str] = Counter()

    def add(self, call: Call, times: int = 1) -> None:
        """These were answered."""
        with self._lock:
            self.calls[call] += times

    def add_lines(self, lines: Iterable[str]) -> None:
        """What another process has counted: a line a call, as `line` writes it."""
        for text in lines:
            org, key, endpoint, status = json.loads(text)
            self.add(Call(org, key, endpoint, status))

    def drop(self, org: str, calls: int) -> None:
        """Of those of an organisation so many will never be counted, and Redis must say so."""
        self.dropped[org] += calls

    def __len__(self) -> int:
        return sum(self.calls.values())


def line(call: Call) -> str:
    """A call as a line of text."""
    return json.dumps(call)


def expected(ledger: Ledger) -> Facts:
    """Every number that must be in Redis."""
    facts: Facts = Counter()
    for call, times in ledger.calls.items():
        for resolution in RESOLUTIONS:
            for about, measure in _places(call):
                facts[call.org, resolution, *about, measure] += times
            for about, measure in _operator_places(call):
                facts[OPERATOR, resolution, *about, measure] += times
    for org, times in ledger.dropped.items():
        for resolution in RESOLUTIONS:
            for tree in (org, OPERATOR):
                facts[tree, resolution, "series", "", "dropped"] += times
    return facts


def _places(call: Call) -> Iterator[tuple[tuple[str, str], str]]:
    measures = _measures(call.status)
    for about in ("", f"endpoint:{call.endpoint}", f"key:{call.key}"):
        yield ("series", about), "calls"
        yield ("series", about), f"s{call.status}"
    for measure in measures:
        yield ("board", f"endpoint:{measure}"), call.endpoint
        yield ("board", f"key:{measure}"), call.key
        yield ("board", f"key:{call.key}"), f"{measure} endpoint {call.endpoint}"
    for about in ("latency", f"endpoint:{call.endpoint}:latency"):
        yield ("board", about), "calls"
    yield ("board", f"key:{call.key}"), "calls latency"


def _operator_places(call: Call) -> Iterator[tuple[tuple[str, str], str]]:
    for about in ("", f"endpoint:{call.endpoint}"):
        yield ("series", about), "calls"
        yield ("series", about), f"s{call.status}"
    for measure in _measures(call.status):
        yield ("board", f"endpoint:{measure}"), call.endpoint
        yield ("board", f"org:{measure}"), call.org
    for about in ("latency", f"endpoint:{call.endpoint}:latency"):
        yield ("board", about), "calls"


def _measures(status: int) -> tuple[str, ...]:
    status_class = f"{status // 100}xx"
    return ("calls", status_class) if status_class in _CLASSES else ("calls",)


def stored(client: Any, namespace: str, without: Collection[str] = ()) -> Facts:
    """The same numbers as Redis has them, added up over all slots; but for keys in `without`."""
    facts: Facts = Counter()
    for name in client.scan_iter(f"{namespace}:*", count=1000):
        found = _COUNTER.fullmatch(name.decode())
        if found is None or name.decode() in without:
            continue
        org, about = unquote(found["org"]), unquote(found["about"] or "")
        read = _series if found["kind"] == "series" else _board
        for measure, amount in read(client, name, about):
            facts[org, found["res"], found["kind"], about, measure] += amount
    return facts


def _series(client: Any, name: bytes, _: str) -> Iterator[tuple[str, int]]:
    for field, amount in client.hgetall(name).items():
        measure = field.decode().split(" ", 1)[1]
        if measure in ("calls", "dropped") or _STATUS.fullmatch(measure):
            yield measure, int(amount)


def _board(client: Any, name: bytes, about: str) -> Iterator[tuple[str, int]]:
    if about.endswith(":latency_us"):
        return
    for member, score in client.zrange(name, 0, -1, withscores=True):
        text = member.decode()
        if about.endswith("latency"):
            text = "calls"
        elif text.startswith("calls latency "):
            text = "calls latency"
        elif text.startswith("latency_us "):
            continue
        yield text, int(score)


def differences(
    client: redis.Redis | redis.RedisCluster, namespace: str, ledger: Ledger, without: Collection[str] = ()
) -> dict[tuple[str, ...], tuple[int, int]]:
    """Where Redis has something else than was answered: (answered, stored) of each place."""
    wanted, found = expected(ledger), stored(client, namespace, without)
    if without:
        there = {place[:4] for place in found}
        wanted = Counter({place: calls for place, calls in wanted.items() if place[:4] in there})
    return {place: (wanted[place], found[place]) for place in wanted.keys() | found.keys() if wanted[place] != found[place]}


def assert_equal(
    client: redis.Redis | redis.RedisCluster, namespace: str, ledger: Ledger, without: Collection[str] = ()
) -> None:
    """Redis has what was answered: every call once, in every place."""
    different = sorted(differences(client, namespace, ledger, without).items())
    shown = "\n".join(f"  {' '.join(place)}: answered {ours}, stored {theirs}" for place, (ours, theirs) in different[:20])
    assert not different, f"{len(different)} of {len(expected(ledger))} numbers differ:\n{shown}"
    if not without:
        assert_agreement(client, namespace)


def assert_within(client: redis.Redis, namespace: str, ledger: Ledger, unanswered: Ledger) -> None:
    """Redis has what was answered, and of what was asked and never answered each call once or not at all."""
    least, more, found = expected(ledger), expected(unanswered), stored(client, namespace)
    wrong = [
        f"{' '.join(place)}: answered {least[place]}, unanswered {more[place]}, stored {found[place]}"
        for place in sorted(least.keys() | found.keys())
        if not least[place] <= found[place] <= least[place] + more[place]
    ]
    shown = "\n".join(wrong[:20])
    assert not wrong, f"{len(wrong)} of {len(least)} numbers are wrong:\n{shown}"
    assert_agreement(client, namespace)


def assert_agreement(client: redis.Redis | redis.RedisCluster, namespace: str, *, across_trees: bool = True) -> None:
    """All counters agree with each other; those of organisations with the operator's, if `across_trees`."""
    shown = "\n".join(str(one) for one in disagreements(client, namespace) if across_trees or not one.about.startswith("org "))
    assert not shown, f"Redis disagrees with itself:\n{shown}"


def disagreements(client: Any, namespace: str) -> list[Difference]:
    """What `usage.reconcile` names, of every organisation and the operator, on every day that has calls."""
    orgs, days, now_ms = set[str](), set[str](), 0
    for name in client.scan_iter(f"{namespace}:*:series:*", count=1000):
        found = _COUNTER.fullmatch(name.decode())
        if found is None or found["about"] or not re.fullmatch(r"\d+m", found["res"]):
            continue
        orgs.add(unquote(found["org"]))
        days.add(found["block"][:10])
        fields = client.hgetall(name)
        now_ms = max([now_ms, *(int(fields[field]) for field in fields if field.endswith(b" last_ms"))])
    usage = Usage(client, namespace=namespace, clock=lambda: now_ms / 1000)
    return [
        one
        for org in sorted(orgs)
        for day in map(date.fromisoformat, sorted(days))
        for one in patiently(
            partial(usage.reconcile, None if org == OPERATOR else org, start=day, end=day + timedelta(days=1))
        ).differences
    ]
