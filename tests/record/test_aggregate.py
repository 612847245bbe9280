"""What the request path does: adds up, under any number of threads, within a bound."""

from __future__ import annotations

import gc
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import START, Clock, raw_call
from usage_middleware.events import CallerId, CallEvent, CallKey, RawCall
from usage_middleware.options import Settings
from usage_middleware.record.aggregate import MOST_DROPPERS, TOGETHER, Aggregate, Batch, size_of
from usage_middleware.record.normalizer import Normalizer
from usage_middleware.record.parked import folded

ACME = ("acme", "key_7")
MINUTE = int(START) // 60 * 60


def aggregate(clock: Clock, limit: int = 10**9, crowded: list[int] | None = None, **declared: Any) -> Aggregate:
    normalizer = Normalizer(Settings(**declared))
    return Aggregate(normalizer, lambda _: None, limit, clock, lambda: None if crowded is None else crowded.append(1))


def add(
    to: Aggregate,
    caller: CallerId = ACME,
    endpoint: str = "GET /a",
    status: int = 200,
    latency_us: int = 1000,
    tags: tuple[str, ...] = (),
    counts: tuple[int, ...] = (),
) -> None:
    """Take a call, and add up at once."""
    to.take(raw_call(to._normalizer, caller, endpoint, tags, status, latency_us, 50, counts))
    to.sum()


def test_calls_that_are_alike_are_one_cell(clock: Clock) -> None:
    mine = aggregate(clock, dimensions=("project",), counters=("records", "matches"))
    for latency in 1000, 1000, 5:
        add(mine, latency_us=latency, tags=("x",), counts=(3, 0))
        clock.advance(0.5)
    batch = mine.drain()
    ((key, cell),) = batch.cells.items()
    assert key == CallKey(MINUTE, ACME, "GET /a", ("x",), 200)
    assert (cell.calls, cell.latency_us, cell.sent, cell.counts) == (3, 2005, 150, (9, 0))
    assert cell.bins == {73: 2, 17: 1}
    assert cell.last_ms == int((START + 1) * 1000)
    assert batch.until_ms == int((START + 1.5) * 1000)


def test_minutes_callers_endpoints_and_statuses_are_apart(clock: Clock) -> None:
    mine = aggregate(clock)
    add(mine)
    add(mine, caller=b"d" * 32)
    add(mine, endpoint="GET /b")
    add(mine, status=404)
    clock.advance(60)
    add(mine)
    assert len(mine.drain().cells) == 5
    assert mine.drain().cells == {}


def test_no_call_is_lost_between_threads(clock: Clock) -> None:
    mine = aggregate(clock)
    drained: list[int] = []
    done = threading.Event()

    def drain() -> None:
        while not done.is_set():
            drained.append(sum(cell.calls for cell in mine.drain().cells.values()))

    def many() -> None:
        for _ in range(3000):
            add(mine)

    threads = [threading.Thread(target=many) for _ in range(4)]
    drainer = threading.Thread(target=drain)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in [drainer, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        drainer.join()
    finally:
        sys.setswitchinterval(switch)
    assert sum(drained) + sum(cell.calls for cell in mine.drain().cells.values()) == 12_000


def test_past_the_bound_known_cells_count_on_and_the_rest_is_dropped(clock: Clock) -> None:
    mine = aggregate(clock, limit=2 * size_of(CallKey(MINUTE, ACME, "GET /a", (), 200), 1))
    for endpoint in "GET /a", "GET /b", "GET /c", "GET /a":
        add(mine, endpoint=endpoint)
    add(mine, caller=b"d" * 32, endpoint="GET /d")
    batch = mine.drain()
    assert {key.endpoint: cell.calls for key, cell in batch.cells.items()} == {"GET /a": 2, "GET /b": 1}
    assert batch.dropped == {("acme", ""): 1, b"d" * 32: 1}
    add(mine, endpoint="GET /c")
    assert len(mine.drain().cells) == 1


def test_what_the_flusher_holds_is_part_of_the_bound(clock: Clock) -> None:
    mine = aggregate(clock, limit=100_000)
    mine.elsewhere = 100_000
    add(mine)
    assert mine.drain().dropped == {("acme", ""): 1}


def test_it_calls_once_when_half_is_used(clock: Clock) -> None:
    crowded: list[int] = []
    mine = aggregate(clock, limit=10_000, crowded=crowded)
    for number in range(9):
        add(mine, endpoint=f"GET /{number}")
    assert crowded == [1]
    mine.drain()
    for number in range(9):
        add(mine, endpoint=f"GET /{number}")
    assert crowded == [1, 1]


def test_drops_of_an_organisation_are_its_own_however_many_keys_called(clock: Clock) -> None:
    mine = aggregate(clock, limit=0)
    for number in range(MOST_DROPPERS + 100):
        add(mine, caller=("acme", f"key_{number}"))
    assert mine.dropped == {("acme", ""): MOST_DROPPERS + 100}


def test_drops_are_told_apart_for_a_bounded_number_of_callers(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_middleware.record.aggregate.MOST_DROPPERS", 2)
    mine = aggregate(clock, limit=0)
    for number in range(5):
        add(mine, caller=bytes([number]) * 32)
    for number in range(30):
        add(mine, caller=(f"org{number}", "k"))
    found = mine.drain().dropped
    assert found.pop(("*", "")) == 3 + 13
    assert found == dict.fromkeys([b"\0" * 32, b"\1" * 32, *((f"org{number}", "") for number in range(17))], 1)


def test_folding_keeps_the_sums_of_half_hours(clock: Clock) -> None:
    mine = aggregate(clock)
    for _ in range(40):  # 13:45 to 14:24
        add(mine)
        clock.advance(60)
    cells = folded(mine.drain().cells, 1800, int(clock()))
    half_past_one, two = MINUTE - 15 * 60, MINUTE + 15 * 60
    assert {key.minute: cell.calls for key, cell in cells.items()} == {half_past_one: 15, two: 25}
    assert sum(cell.bins[73] for cell in cells.values()) == 40


def test_folding_makes_no_call_of_a_credential_earlier(clock: Clock) -> None:
    """Else one that was made after its key was revoked would seem to have been made before."""
    mine = aggregate(clock)
    for _ in range(20):  # 13:45 to 14:04
        add(mine, caller=b"d" * 32)
        clock.advance(60)
    cells = folded(mine.drain().cells, 1800, int(clock()))
    assert {key.minute: cell.calls for key, cell in cells.items()} == {MINUTE + 14 * 60: 15, MINUTE + 19 * 60: 5}
    again = folded(cells, 1800, int(clock()) + 1800)
    assert {key.minute: cell.calls for key, cell in again.items()} == {MINUTE + 14 * 60: 15, MINUTE + 44 * 60: 5}


def test_the_current_minute_is_not_folded(clock: Clock) -> None:
    mine = aggregate(clock)
    add(mine)
    assert [key.minute for key in folded(mine.drain().cells, 1800, int(clock()))] == [MINUTE]


def test_a_request_that_ends_while_another_is_added_does_not_block(clock: Clock) -> None:
    """As from a signal handler or a finaliser, in the same thread."""
    mine = aggregate(clock)
    inner = iter([1])

    def tick() -> float:
        if next(inner, None):
            add(mine, endpoint="GET /inner")
        return START

    mine._clock = tick
    add(mine)
    assert sorted(key.endpoint for key in mine.drain().cells) == ["GET /a", "GET /inner"]


def test_the_estimate_of_memory_is_not_too_low(clock: Clock) -> None:
    mine = aggregate(clock)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2000):
            for latency in 10, 1000, 100_000:
                add(mine, caller=("acme", f"key_{number}"), latency_us=latency)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= mine.bytes <= 2 * taken


def test_the_child_of_a_fork_begins_empty_with_a_lock_of_its_own(clock: Clock) -> None:
    mine = aggregate(clock)
    add(mine)
    holder = threading.Thread(target=mine._lock.acquire)
    holder.start()
    holder.join()
    mine.reset()
    add(mine)
    assert mine.drain().cells.popitem()[1].calls == 1


# --- what waits


PLAIN = Normalizer(Settings())


def raw(endpoint: str = "GET /a") -> RawCall:
    """What a middleware hands over."""
    return raw_call(PLAIN, endpoint=endpoint)


class Interrupting(Normalizer):
    """A normalizer that does something else for one call, as a signal handler or a finaliser may at any time."""

    def __init__(self, at: RawCall, act: Callable[[], None]) -> None:
        super().__init__(Settings())
        self._at = at
        self._act = act

    def event(self, raw: RawCall) -> CallEvent:
        if raw is self._at:
            self._act()
        return super().event(raw)


def interrupted(clock: Clock, at: RawCall, act: Callable[[], None]) -> tuple[Aggregate, list[str]]:
    """An aggregate, and the errors that it counts."""
    errors: list[str] = []
    return Aggregate(Interrupting(at, act), errors.append, 10**9, clock, lambda: None), errors


def endpoint_of(raw: RawCall) -> str:
    return f"{raw.method} {raw.template}"


def counted(batch: Batch) -> dict[str, int]:
    return {key.endpoint: cell.calls for key, cell in batch.cells.items()}


def test_a_request_only_leaves_its_raw_call(clock: Clock) -> None:
    def read() -> None:
        raise AssertionError("read within the request")

    call = raw()
    mine, errors = interrupted(clock, call, read)
    mine.take(call)
    assert not errors
    assert (mine.calls, mine.has_news, mine.has_sums, mine.bytes) == (1, True, False, 0)


def test_when_a_call_ended_is_when_it_was_taken(clock: Clock) -> None:
    mine = aggregate(clock)
    mine.take(raw())
    clock.advance(120)
    batch = mine.drain()
    ((key, cell),) = batch.cells.items()
    assert (key.minute, cell.last_ms, batch.until_ms) == (MINUTE, int(START * 1000), int((START + 120) * 1000))


def test_the_last_call_is_the_last_in_whatever_order_they_are_read(clock: Clock) -> None:
    mine = aggregate(clock)
    late, early = raw(), raw()
    mine.take(early)
    clock.advance(1)
    mine.take(late)
    early.ended, late.ended = late.ended, early.ended
    ((_, cell),) = mine.drain().cells.items()
    assert cell.last_ms == int((START + 1) * 1000)


def test_it_tells_when_some_are_together(clock: Clock) -> None:
    told: list[int] = []
    mine = Aggregate(PLAIN, lambda _: None, 10**9, clock, lambda: None, full=lambda: told.append(mine.calls))
    for _ in range(3 * TOGETHER):
        mine.take(raw())
    assert told == [TOGETHER, 2 * TOGETHER, 3 * TOGETHER]


def test_requests_do_the_work_where_nobody_else_does(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_middleware.record.aggregate.MOST_WAITING", 2 * TOGETHER)
    mine = aggregate(clock)
    for _ in range(10 * TOGETHER):
        mine.take(raw())
    assert len(mine._waiting) == TOGETHER
    assert mine.calls == 10 * TOGETHER == sum(counted(mine.drain()).values())


def test_a_drain_in_the_midst_of_a_request_leaves_nothing_behind_that_ended_before(clock: Clock) -> None:
    """Another thread may drain between any two steps of `take`: here, wherever `take` asks somebody for something."""
    batches: list[Batch] = []

    def draining() -> float:
        now = clock()
        clock.advance(1)
        if not inside:
            inside.append(1)
            batches.append(mine.drain())
            inside.clear()
        return now

    inside: list[int] = []
    mine = Aggregate(
        PLAIN, lambda _: None, 10**9, draining, lambda: None, wake=lambda: batches.append(mine.drain()), full=lambda: None
    )
    for number in range(5):
        call = raw(f"GET /{number}")
        mine.take(call)
        so_far: set[str] = set()
        for batch in batches:
            so_far |= set(counted(batch))
            assert endpoint_of(call) in so_far or call.ended * 1000 >= batch.until_ms
    batches.append(mine.drain())
    total: Counter[str] = Counter()
    for batch in batches:
        total.update(counted(batch))
    assert total == {f"GET /{number}": 1 for number in range(5)}


def test_what_can_not_be_read_is_not_counted_and_keeps_nothing_back(clock: Clock) -> None:
    def unreadable() -> None:
        raise ValueError

    second = raw()
    mine, errors = interrupted(clock, second, unreadable)
    for call in raw(), second, raw():
        mine.take(call)
    assert counted(mine.drain()) == {"GET /a": 2}
    assert not mine.has_news
    assert errors == ["call unreadable"]


def test_an_interrupt_while_adding_up_leaves_the_rest_for_the_next_time(clock: Clock) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    second = raw()
    mine, _ = interrupted(clock, second, interrupt)
    for call in raw(), second, raw("GET /b"), raw("GET /c"):
        mine.take(call)
    with pytest.raises(KeyboardInterrupt):
        mine.sum()
    assert counted(mine.drain()) == {"GET /a": 1, "GET /b": 1, "GET /c": 1}


def test_a_request_that_ends_while_another_is_read_is_counted_once(clock: Clock) -> None:
    """A finaliser may run anywhere, and end a request or flush."""

    def finalise() -> None:
        mine.take(raw("GET /b"))
        mine.sum()

    first = raw()
    mine, _ = interrupted(clock, first, finalise)
    mine.take(first)
    mine.sum()
    assert counted(mine.drain()) == {"GET /a": 1, "GET /b": 1}


def test_no_call_is_lost_or_late_between_threads() -> None:
    mine = Aggregate(PLAIN, lambda _: None, 10**9, time.time, lambda: None)
    batches: list[Batch] = []
    done = threading.Event()
    left: list[RawCall] = []

    def drain() -> None:
        while not done.is_set():
            batches.append(mine.drain())

    def many(number: int) -> None:
        for turn in range(2000):
            call = raw(f"GET /{number}/{turn}")
            mine.take(call)
            left.append(call)

    threads = [threading.Thread(target=many, args=(number,)) for number in range(4)]
    drainer = threading.Thread(target=drain)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in [drainer, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        drainer.join()
    finally:
        sys.setswitchinterval(switch)
    batches.append(mine.drain())
    drained = {endpoint: number for number, batch in enumerate(batches) for endpoint in counted(batch)}
    assert sum(sum(counted(batch).values()) for batch in batches) == len(drained) == 8000
    #: How far the drain before each said that everything was in it. Several may be of one millisecond.
    before = [0, *(batch.until_ms for batch in batches)]
    late = [call for call in left if call.ended * 1000 < before[drained[endpoint_of(call)]] - 1]
    assert not late
