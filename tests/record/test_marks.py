"""A worker's mark that is gone while the counters stay: expired, evicted, or deleted. Nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Unreachable

from tests.record.conftest import MakeRecorder
from tests.record.test_flusher import add, writer_of
from tests.support import Clock
from usage_middleware.options import boot_clock

Counted = Callable[..., int]
DAY = 86400.0


def lose_marks(client: Any, namespace: str) -> None:
    """What `volatile-ttl` evicts first, and what expires after 8 days."""
    marks = client.keys(f"{namespace}:*:applied:*")
    if marks:
        client.delete(*marks)


def test_marks_that_expired_while_the_machine_was_suspended(
    make_recorder: MakeRecorder, client: Any, namespace: str, counted: Counted, clock: Clock
) -> None:
    monotonic = Clock(1000.0)
    recorder = make_recorder(monotonic=monotonic)
    add(recorder, n=5)
    assert recorder.flush()
    for stopped in clock, monotonic:
        stopped.advance(9 * DAY)
        lose_marks(client, namespace)
        add(recorder, n=2)
        assert recorder.flush()
        monotonic.advance(11)
        assert recorder.flush()
    assert (counted("acme"), counted("*"), recorder.stats().dropped) == (9, 9, {})


def test_marks_that_are_evicted_again_and_again(
    make_recorder: MakeRecorder, client: Any, namespace: str, counted: Counted
) -> None:
    monotonic = Clock(1000.0)
    recorder = make_recorder(monotonic=monotonic)
    for _ in range(20):
        add(recorder, n=3)
        assert recorder.flush()
        monotonic.advance(4)
        lose_marks(client, namespace)
    assert (counted("acme"), counted("*")) == (60, 60)
    assert recorder.stats().dropped == {}


@pytest.mark.parametrize("stopped", ["wall", "boot"])
@pytest.mark.parametrize("where", ["before", "after"])
def test_a_partition_of_more_than_eight_days_around_a_chunk(
    make_recorder: MakeRecorder, client: Any, namespace: str, counted: Counted, clock: Clock, where: str, stopped: str
) -> None:
    """Nobody knows whether the chunk arrived. It is told as dropped, never counted twice; all that came later is counted."""
    monotonic = Clock(1000.0)
    recorder = make_recorder(monotonic=monotonic, operator_tree=False)
    writer = writer_of(recorder)
    add(recorder, n=5)
    assert recorder.flush()
    writer.faults = [(where, Unreachable("closed"))]
    add(recorder, n=3)
    assert not recorder.flush()
    (monotonic if stopped == "wall" else clock).advance(9 * DAY)
    lose_marks(client, namespace)
    add(recorder, n=2)
    assert recorder.flush()
    assert counted("acme") == (7 if where == "before" else 10)
    assert recorder.stats().dropped == {"acme": 3}


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_first_chunk_of_long_ago_is_known_to_have_arrived_or_not(
    make_recorder: MakeRecorder, client: Any, namespace: str, counted: Counted, where: str
) -> None:
    """Redis knows whether it ever counted anything of this worker."""
    monotonic = Clock(1000.0)
    recorder = make_recorder(monotonic=monotonic, operator_tree=False)
    writer_of(recorder).faults = [(where, Unreachable("closed"))]
    add(recorder, n=3)
    assert not recorder.flush()
    monotonic.advance(8 * DAY)
    lose_marks(client, namespace)
    assert recorder.flush()
    assert (counted("acme"), recorder.stats().dropped) == (3, {})


def test_a_redis_that_forgot_everything_gets_the_last_ten_seconds_again(
    make_recorder: MakeRecorder, client: Any, namespace: str, counted: Counted
) -> None:
    recorder = make_recorder()
    add(recorder, n=5)
    assert recorder.flush()
    client.delete(*client.keys(f"{namespace}:*"))
    add(recorder, n=2)
    assert recorder.flush()
    assert (counted("acme"), counted("*")) == (7, 7)


def test_a_worker_of_an_older_version_beside_one_of_this(
    make_recorder: MakeRecorder, client: Any, namespace: str, counted: Counted
) -> None:
    """The older worker's script does not note who had a mark. Its counters stand beside ours."""
    older, newer = make_recorder(), make_recorder()
    add(older, n=3)
    assert older.flush()
    client.delete(*client.keys(f"{namespace}:*:marked"))
    add(newer, n=2)
    assert newer.flush()
    add(older, n=4)
    assert older.flush()
    assert (counted("acme"), counted("*")) == (9, 9)


def test_the_boot_clock_never_goes_back() -> None:
    times = [boot_clock() for _ in range(1000)]
    assert times == sorted(times)
