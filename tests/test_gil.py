"""Work in the background rests, so that requests go first."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from time import monotonic

import pytest

from tests.support import eventually, record_call
from usage_middleware import Usage
from usage_middleware.gil import (
    LONG_REST,
    NOTICED,
    REST,
    WORK,
    AnswersPace,
    Pace,
    rest,
    rest_within,
    set_pace,
    yielding,
)
from usage_middleware.record.aggregate import TOGETHER
from usage_middleware.store.deadline import TimedSocket


class Time:
    """A clock that work moves, and rests."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rests: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.rests.append(self.now)
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    mine = Time()
    monkeypatch.setattr("usage_middleware.gil.perf_counter", mine.perf_counter)
    monkeypatch.setattr("usage_middleware.gil.sleep", mine.sleep)
    yield mine
    set_pace(None)


def test_a_thread_that_does_not_give_way_never_rests(time: Time) -> None:
    items = [1, 2, 3]
    assert yielding(items) is items
    time.now += 10
    rest()
    assert time.rests == []


def test_one_that_does_rests_after_so_much_work(time: Time) -> None:
    set_pace(Pace())
    done = []
    for item in yielding(range(20)):
        done.append(item)
        time.now += WORK / 3.9
    assert done == list(range(20))
    assert len(time.rests) == 4
    assert all(later - earlier >= WORK + REST for earlier, later in pairwise(time.rests))


def test_of_light_items_it_is_asked_before_one_of_many(time: Time) -> None:
    set_pace(Pace())
    for _ in yielding(range(20), 8):
        time.now += WORK
    assert len(time.rests) == 2


class Busy:
    """A thread that makes an answer: what it works, what others do meanwhile, and how it rests."""

    def __init__(self, time: Time, monkeypatch: pytest.MonkeyPatch, is_late: bool = False) -> None:
        self._time = time
        self._cpu = 0.0
        self.slept: list[float] = []
        self.done: list[float] = []
        monkeypatch.setattr("usage_middleware.gil.thread_time", lambda: self._cpu)
        monkeypatch.setattr("usage_middleware.gil.sleep", self.slept.append)
        set_pace(AnswersPace(10 * WORK, lambda: is_late, lambda: self.done.append(time.now)))

    def work(self, seconds: float, others: float = 0.0, then: Callable[[], object] = rest) -> None:
        self._cpu += seconds
        self._time.now += seconds + others
        then()


def test_an_answer_goes_on_while_nobody_else_wants_the_interpreter(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Busy(time, monkeypatch)
    for _ in range(5):
        busy.work(2 * WORK)
    assert busy.slept == []


@pytest.mark.parametrize(("is_late", "seconds"), [(False, LONG_REST), (True, REST)])
def test_an_answer_rests_where_others_had_it(
    time: Time, monkeypatch: pytest.MonkeyPatch, is_late: bool, seconds: float
) -> None:
    busy = Busy(time, monkeypatch, is_late)
    busy.work(WORK, others=2 * NOTICED)
    busy.work(WORK)
    assert busy.slept == [seconds]


def test_what_was_waited_for_redis_is_no_reason_to_rest(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        redis = TimedSocket(ours, 10)
        busy = Busy(time, monkeypatch)
        for _ in range(5):
            theirs.sendall(b"+OK")
            # Redis takes its time, and nobody else wants the interpreter.
            busy.work(WORK, others=20 * NOTICED, then=lambda: redis.recv(3))
            busy.work(WORK)
    assert busy.slept == []


def test_an_answer_does_something_else_after_so_many_seconds(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Busy(time, monkeypatch)
    for _ in range(50):
        busy.work(WORK * 1.01)
    assert len(busy.done) == 5


def test_something_else_may_be_done_after_each_rest(time: Time) -> None:
    done: list[int] = []
    set_pace(Pace(lambda: done.append(len(time.rests))))
    for _ in yielding(range(20)):
        time.now += WORK / 3.9
    assert done == [1, 2, 3, 4]


def test_other_threads_are_not_meant(time: Time) -> None:
    set_pace(Pace())
    seen: list[object] = []
    items = [1]
    thread = threading.Thread(target=lambda: seen.append(yielding(items)))
    thread.start()
    thread.join()
    assert seen == [items]
    assert seen[0] is items


def test_the_thread_that_delivers_gives_way_and_one_that_flushes_by_itself_does_not(
    make_usage: Callable[..., Usage], monkeypatch: pytest.MonkeyPatch
) -> None:
    resting: list[str] = []
    monkeypatch.setattr("usage_middleware.gil.WORK", 0)
    monkeypatch.setattr("usage_middleware.gil.sleep", lambda _: resting.append(threading.current_thread().name))
    usage = make_usage(flush_interval=0.05)
    record_call(usage.recorder, ("acme", "key_1"), "GET /a", (), 200, 1_000, 10, ())
    eventually(lambda: usage.recorder.stats().backlog_calls == 0)
    assert set(resting) == {"usage-flusher"}
    usage.recorder._options = replace(usage.recorder._options, flush_interval=1000)
    usage.recorder.close()
    resting.clear()
    record_call(usage.recorder, ("acme", "key_1"), "GET /a", (), 200, 1_000, 10, ())
    assert usage.flush()
    assert threading.current_thread().name not in resting


def test_what_requests_leave_in_the_course_of_a_flush_is_added_up_in_its_rests(
    make_usage: Callable[..., Usage], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = make_usage(flush_interval=0.05)
    aggregate = usage.recorder._aggregate
    waiting: list[int] = []

    def requests_come(_: float) -> None:
        waiting.append(len(aggregate._waiting))
        if len(waiting) == 1:
            for _ in range(TOGETHER):
                record_call(usage.recorder, ("acme", "key_1"), "GET /a", (), 200, 1_000, 10, ())

    monkeypatch.setattr("usage_middleware.gil.WORK", 0)
    monkeypatch.setattr("usage_middleware.gil.sleep", requests_come)
    record_call(usage.recorder, ("acme", "key_1"), "GET /a", (), 200, 1_000, 10, ())
    eventually(lambda: len(waiting) > 1 and usage.recorder.stats().backlog_calls == 0)
    assert set(waiting) == {0}


def test_at_the_end_nobody_rests(make_usage: Callable[..., Usage], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = make_usage(flush_interval=0.05)
    rests: list[bool] = []

    def somebody_ends_it(_: float) -> None:
        delivery = usage.recorder._thread
        assert delivery is not None
        rests.append(delivery._deadline is None)
        delivery.end(monotonic() + 5)

    monkeypatch.setattr("usage_middleware.gil.WORK", 0)
    monkeypatch.setattr("usage_middleware.gil.sleep", somebody_ends_it)
    for number in range(20):
        record_call(usage.recorder, ("acme", "key_1"), f"GET /{number}", (), 200, 1_000, 10, ())
    eventually(lambda: usage.recorder.stats().backlog_calls == 0)
    assert rests == [True]


def test_requests_that_come_faster_than_they_are_added_up_do_not_keep_it_from_delivering(
    make_usage: Callable[..., Usage], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = make_usage(flush_interval=0.05)
    plain = usage.recorder._aggregate.sum

    def never_done() -> None:
        plain()
        delivery = usage.recorder._thread
        if delivery is not None:
            delivery.wake.set()

    monkeypatch.setattr(usage.recorder._aggregate, "sum", never_done)
    record_call(usage.recorder, ("acme", "key_1"), "GET /a", (), 200, 1_000, 10, ())
    eventually(lambda: usage.recorder.stats().backlog_calls == 0)


def test_in_the_midst_of_reading_an_answer_rests_and_does_nothing_else(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Busy(time, monkeypatch)
    for _ in range(20):
        busy.work(WORK, others=2 * NOTICED, then=rest_within)
    assert (len(busy.slept), busy.done) == (20, [])


def test_a_flush_does_not_rest_while_it_reads(time: Time) -> None:
    set_pace(Pace())
    time.now += WORK
    rest_within()
    assert time.rests == []
