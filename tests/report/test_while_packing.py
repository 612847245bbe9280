"""A packer in a loop under readers in a loop, late chunks among them: no answer ever differs from brute force."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.report.test_windows_by_force import (
    DAY,
    NOW,
    PERIOD_OF,
    VIEWERS,
    ZONES,
    build,
    edge,
    sums_of,
    total_of,
    window_of,
)
from tests.report.test_windows_with_history import a_call
from tests.report.world import OPTIONS, Call, World, world
from tests.store.history.packing import pack
from tests.support import Clock, examples
from usage_middleware import Usage, Viewer
from usage_middleware.errors import QueryError
from usage_middleware.report.reports import VIEWS
from usage_middleware.report.window import WindowReport

#: How many windows each of two readers asks every view about, and how far back calls reach.
QUESTIONS, SPAN = examples(15), 150 * DAY
#: For how long a thread is waited for, seconds: forever, nearly.
LONG = 600.0


class Late:
    """A worker whose clock stands wherever its calls were: it delivers them one by one, long after.

    Attributes:
        calls: those that it delivers, in order.
        begun, done: how many of them may be counted, and how many are.
    """

    def __init__(self, lived: World, redis_url: str, dice: random.Random) -> None:
        self.calls: list[Call] = []
        self.begun = self.done = 0
        self._clock, self._dice = Clock(NOW), dice
        usage = Usage(
            redis_url,
            namespace=lived.usage.settings.namespace,
            clock=self._clock,
            flush_interval=3600,
            **{**OPTIONS, "history": True},
        )
        usage.recorder._rounds = None
        self._world = World(usage, self._clock)

    def deliver(self) -> None:
        """One call."""
        call = a_call(self._dice, SPAN)
        self.calls.append(call)
        self._clock.set(call.at)
        self._world.record(call)
        self._clock.set(NOW)
        self.begun += 1
        assert self._world.usage.flush()
        self.done += 1

    def close(self) -> None:
        """It ends."""
        self._world.usage.close()


@contextmanager
def going_on(*work: Callable[[], object]) -> Iterator[None]:
    """Each of these again and again in a thread of its own, until the block ends; what they raise is raised there."""
    over = threading.Event()

    def go_on(one: Callable[[], object]) -> None:
        while not over.is_set():
            one()

    with ThreadPoolExecutor(len(work)) as threads:
        found = [threads.submit(go_on, one) for one in work]
        try:
            yield
        finally:
            over.set()
        for one in found:
            one.result(LONG)


def a_window(dice: random.Random) -> dict[str, Any]:
    """Edges of some roundness in some zone."""
    zone, step = dice.choice(ZONES), dice.choice(["half-hour", "day", "midnight"])
    start = edge(NOW - dice.randrange(DAY, SPAN), step, zone)
    return {"timezone": zone, "start": start, "end": edge(dice.randrange(int(start) + DAY, NOW + DAY), step, zone)}


def counts(lived: World, late: Late, viewer: Viewer, window: WindowReport, first: int, last: int) -> set[int]:
    """What a window came to when the first so many late calls were counted, when one more was, and so on."""
    alike = {name: value for name, value in (("org", viewer.org), ("key", viewer.key_id)) if value}
    known = World(lived.usage, lived.clock)
    known.calls = [*lived.calls, *late.calls[:first]]
    found = [len(known.inside(window.start, window.end, **alike))]
    for call in late.calls[first:last]:
        known.calls = [call]
        found.append(found[-1] + len(known.inside(window.start, window.end, **alike)))
    return set(found)


def ask(lived: World, late: Late, dice: random.Random) -> int:
    """Every view about one window, whose numbers must be those of a moment between asking and answering."""
    answered, window, viewer = 0, a_window(dice), dice.choice(VIEWERS)
    for view in VIEWS:
        if view.name not in PERIOD_OF and view.name != "endpoints":
            continue
        asked = {**window, "group": dice.choice(["endpoint", "project", "status"]), "bucketing_size": "month"}
        first = late.done
        report = build(lived, view, viewer, asked)
        if report is None or isinstance(report, QueryError) or (viewer.is_operator and view.name == "by-key"):
            continue
        possible = counts(lived, late, viewer, window_of(report), first, late.begun)
        assert {total_of(report), *sums_of(report).values()} <= possible, (view.name, viewer, window)
        answered += 1
    return answered


@pytest.mark.parametrize("together", [256 << 10, 0], ids=["small", "large"])
def test_no_answer_ever_differs(redis_url: str, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_middleware.store.history.month.MOST_TOGETHER", together)
    dice = random.Random(os.environ.get("USAGE_EXAMPLES", 17))
    some = [a_call(dice, SPAN) for _ in range(150)]
    with world(redis_url, min(call.at for call in some), history=True) as lived:
        lived.happen(some)
        lived.clock.set(NOW)
        late = Late(lived, redis_url, random.Random(dice.random()))
        with going_on(lambda: pack(lived), late.deliver), ThreadPoolExecutor(2) as threads:
            readers = [random.Random(dice.random()) for _ in range(2)]
            asking = [threads.submit(lambda mine: [ask(lived, late, mine) for _ in range(QUESTIONS)], mine) for mine in readers]
            answered = [sum(one.result(LONG)) for one in asking]
        late.close()
        assert min(answered) > QUESTIONS
        assert late.done > 0
        assert ask(lived, late, dice) >= 0
