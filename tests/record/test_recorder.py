"""The recorder and its thread: lazy, one for each process, gone when closed, and no call lost between threads and forks."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.record.conftest import AT_ONCE, MakeRecorder
from tests.support import Clock, ServerProcess, eventually, quick_client, record_call
from usage_middleware.errors import UsageUnavailable
from usage_middleware.options import DeliveryOptions, Settings
from usage_middleware.record.aggregate import TOGETHER
from usage_middleware.record.flush_thread import WakeEvent
from usage_middleware.record.recorder import Recorder
from usage_middleware.store.schema import Schema
from usage_middleware.store.writer import Writer

Counted = Callable[..., int]


def add(recorder: Recorder, n: int = 1) -> None:
    for _ in range(n):
        record_call(recorder, ("acme", "key_7"), "GET /a", (), 200, 1000, 50, ())


def flushers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "usage-flusher"]


def test_the_thread_begins_with_the_first_request(make_recorder: MakeRecorder) -> None:
    before = flushers()
    recorder = make_recorder()
    assert flushers() == before
    add(recorder, 2)
    (thread,) = set(flushers()) - set(before)
    assert thread.daemon
    assert recorder.close()
    assert not thread.is_alive()


def test_the_thread_delivers_by_itself(make_recorder: MakeRecorder, counted: Counted) -> None:
    recorder = make_recorder(flush_interval=0.01)
    add(recorder, 3)
    eventually(lambda: counted() == 3)
    add(recorder, 2)
    eventually(lambda: counted() == 5)


def test_a_crowded_aggregate_is_delivered_early(make_recorder: MakeRecorder, counted: Counted) -> None:
    recorder = make_recorder(backlog_bytes=20_000)
    for number in range(16):
        record_call(recorder, ("acme", f"key_{number}"), "GET /a", (), 200, 1000, 50, ())
    recorder._flusher.add_up()
    eventually(lambda: counted() > 0)


def test_closing_delivers_and_leaves_no_trace_of_the_worker(
    make_recorder: MakeRecorder, counted: Counted, client: Any, namespace: str
) -> None:
    recorder = make_recorder()
    add(recorder, 3)
    worker = recorder.stats().worker
    assert recorder.close()
    assert counted() == 3
    assert not [key for key in client.scan_iter(f"{namespace}:*", count=10_000) if worker.encode() in key]
    assert client.zcard(f"{namespace}:{{*}}:workers") == 0


def test_the_mark_stays_where_a_chunk_may_still_be_on_its_way(
    make_recorder: MakeRecorder, counted: Counted, client: Any, namespace: str
) -> None:
    """A connection that broke may yet deliver what was written to it, after everything was sent again."""
    recorder = make_recorder()
    add(recorder)
    writer: Any = recorder._flusher._writer
    writer.faults = [("before", ConnectionError("reset"))]
    assert not recorder.flush()
    worker = recorder.stats().worker
    assert recorder.close()
    assert counted() == 1
    assert client.get(f"{namespace}:{{acme}}:applied:{worker}") == b"1"
    assert client.zcard(f"{namespace}:{{*}}:workers") == 0


def test_it_can_be_closed_twice_and_used_again(make_recorder: MakeRecorder, counted: Counted) -> None:
    recorder = make_recorder()
    for expected in 1, 2, 3:
        add(recorder)
        assert recorder.close()
        assert recorder.close()
        assert counted() == expected


def test_closing_a_recorder_that_never_recorded_asks_nothing_of_redis() -> None:
    def client() -> Any:
        raise AssertionError("nothing to say to Redis")

    writer = Writer(client, Schema(Settings()))
    assert Recorder(writer, DeliveryOptions(), resolve=lambda digests: {}).close()


def test_closing_is_bounded_and_says_what_is_lost(make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture) -> None:
    recorder = make_recorder(client=quick_client(unix_socket_path="/nowhere/at/all"), shutdown_timeout=AT_ONCE)
    add(recorder, 3)
    assert not recorder.close()
    assert "3 calls could not be delivered; they are lost if the process ends now" in caplog.text
    recorder.after_fork_in_child()


def test_closing_again_does_not_wait_again(make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture) -> None:
    recorder = make_recorder(client=quick_client(unix_socket_path="/nowhere/at/all"), shutdown_timeout=0.2)
    add(recorder, 3)
    assert not recorder.close()
    recorder._options = replace(recorder._options, shutdown_timeout=60.0)
    before = time.monotonic()
    assert not recorder.close()
    assert time.monotonic() - before < 30
    assert caplog.text.count("could not be delivered") == 1
    recorder.after_fork_in_child()


def test_what_is_logged_already_is_only_counted(make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture) -> None:
    recorder = make_recorder()
    recorder.count_error("tag refused", logged=True)
    assert recorder.stats().lost == {"tag refused": 1}
    assert "tag refused" not in caplog.text


def test_threads_that_add_at_once(make_recorder: MakeRecorder, counted: Counted) -> None:
    recorder = make_recorder(flush_interval=0.001)
    threads = [threading.Thread(target=add, args=(recorder, 2_000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.flush()
    assert counted() == counted("*") == 8_000
    assert recorder.flush()
    assert len(set(flushers())) >= 1


def test_errors_of_ours_are_counted_and_logged_once_a_minute(
    make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usage_middleware")
    monotonic = Clock(0.0)
    recorder = make_recorder(monotonic=monotonic)
    for _ in range(3):
        recorder.count_error("capture")
    assert len(caplog.records) == 1
    monotonic.advance(60)
    recorder.count_error("capture")
    assert len(caplog.records) == 2
    for number in range(200):
        recorder.count_error(f"reason {number}")
    lost = recorder.stats().lost
    assert lost["capture"] == 4
    assert sum(lost.values()) == 204
    assert len(lost) < 80


def test_every_call_that_ends_late_is_logged(make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture) -> None:
    """Their process does not live for another minute. A hundred say it all."""
    recorder = make_recorder()
    for number in range(1, 120):
        recorder.count_error("ended late")
        assert len(caplog.records) == min(number, 100)
    assert "(100 times so far)" in caplog.text


_CHILD = """
    import os, sys, threading, time
    import redis
    from tests.support import record_call
    from usage_middleware.record.recorder import Recorder
    from usage_middleware.options import DeliveryOptions, Settings
    from usage_middleware.store.schema import Schema
    from usage_middleware.store.writer import Writer

    url, namespace = sys.argv[1:]
    pools = {}

    def client():
        if os.getpid() not in pools:
            pools[os.getpid()] = redis.Redis.from_url(url, protocol=2)
        return pools[os.getpid()]

    writer = Writer(client, Schema(Settings(namespace=namespace)))
    recorder = Recorder(writer, DeliveryOptions(flush_interval=0.01), resolve=lambda digests: {})

    def add(n):
        for _ in range(n):
            record_call(recorder, ("acme", "key_7"), "GET /a", (), 200, 1000, 50, ())
"""


def run(server: ServerProcess, namespace: str, script: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(_CHILD) + textwrap.dedent(script)
    command = [sys.executable, "-c", code, server.url, namespace]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def today(client: Any, namespace: str) -> int:
    keys = client.keys(f"{namespace}:{{acme}}:series:1d:????-??")
    return sum(int(value) for key in keys for field, value in client.hgetall(key).items() if field.endswith(b" calls"))


def test_the_end_of_the_process_delivers(server: ServerProcess, client: Any, namespace: str) -> None:
    for ending in "", "sys.exit(3)", "raise ValueError('as a program may')":
        run(server, namespace, f"add(5)\n{ending}\n")
    assert today(client, namespace) == 15
    assert client.zcard(f"{namespace}:{{*}}:workers") == 0


def test_a_fork_in_the_middle_counts_every_call_once(server: ServerProcess, client: Any, namespace: str) -> None:
    done = run(
        server,
        namespace,
        """
        add(100)
        children = []
        for _ in range(5):
            add(10)
            pid = os.fork()
            if pid == 0:
                add(7)
                time.sleep(0.03)
                add(3)
                recorder.close()
                os._exit(0)
            children.append(pid)
            add(10)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert today(client, namespace) == 100 + 5 * (10 + 10 + 10)


def test_a_fork_while_threads_add_and_flush(server: ServerProcess, client: Any, namespace: str) -> None:
    done = run(
        server,
        namespace,
        """
        threads = [threading.Thread(target=add, args=(20_000,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        children = []
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                add(50)
                assert recorder.close()
                os._exit(0)
            children.append(pid)
            time.sleep(0.005)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
        for thread in threads:
            thread.join()
        """,
    )
    assert done.returncode == 0, done.stderr
    assert today(client, namespace) == 60_000 + 8 * 50


def test_a_child_that_records_nothing_does_nothing(server: ServerProcess, client: Any, namespace: str) -> None:
    done = run(
        server,
        namespace,
        """
        add(4)
        pid = os.fork()
        if pid == 0:
            assert recorder.stats().backlog_calls == 0
            assert threading.active_count() == 1
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """,
    )
    assert done.returncode == 0, done.stderr
    assert today(client, namespace) == 4


def test_children_of_multiprocessing_deliver(server: ServerProcess, client: Any, namespace: str) -> None:
    done = run(
        server,
        namespace,
        """
        import multiprocessing
        add(1)
        children = [multiprocessing.get_context("fork").Process(target=add, args=(10,)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        """,
    )
    assert done.returncode == 0, done.stderr
    assert today(client, namespace) == 31


def test_a_worker_is_known_before_its_first_flush(
    make_recorder: MakeRecorder, client: Any, namespace: str, clock: Clock
) -> None:
    recorder = make_recorder()
    clock.advance(3600)
    add(recorder)

    def told() -> bytes | None:
        found: bytes | None = client.hget(f"{namespace}:{{*}}:worker:{recorder.stats().worker}", "flushed_through_ms")
        return found

    assert eventually(told) == b"%d" % int(clock() * 1000)


def test_a_signal_in_the_middle_of_adding(server: ServerProcess, client: Any, namespace: str) -> None:
    done = run(
        server,
        namespace,
        f"""
        import signal
        signal.signal({int(signal.SIGALRM)}, lambda *_: add(1))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        add(50_000)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert recorder.flush()
        """,
    )
    assert done.returncode == 0, done.stderr
    assert today(client, namespace) > 50_000


def test_the_thread_adds_up_what_requests_leave_before_it_is_time_to_deliver(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder()
    for _ in range(2 * TOGETHER):
        record_call(recorder)
    aggregate = recorder._aggregate
    eventually(lambda: not aggregate._waiting)
    assert (aggregate.calls, aggregate.has_sums, recorder.stats().backlog_calls) == (2 * TOGETHER, True, 2 * TOGETHER)


def test_without_a_thread_requests_add_up(make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    recorder = make_recorder()
    for _ in range(TOGETHER):
        record_call(recorder)
    assert (len(recorder._aggregate._waiting), recorder._aggregate.calls) == (0, TOGETHER)
    assert recorder.close()


def test_a_request_after_the_end_wakes_it_again(make_recorder: MakeRecorder, counted: Counted) -> None:
    recorder = make_recorder(flush_interval=0.01)
    for _ in range(2):
        before = counted()
        record_call(recorder)
        eventually(lambda before=before: counted() == before + 1)  # type: ignore[misc]
        assert recorder.close()


def test_a_child_that_python_was_not_told_of_delivers_by_itself(make_recorder: MakeRecorder, counted: Counted) -> None:
    """Some servers fork without a word: what the child has of its parent's thread does not run in it."""
    recorder = make_recorder()
    add(recorder)
    assert recorder.flush()
    theirs = recorder._thread
    assert theirs is not None
    recorder._started_in = -1
    record_call(recorder)
    assert recorder.close()
    assert counted() == 2
    assert theirs.is_alive()
    recorder._started_in = -1
    add(recorder)
    assert recorder._thread not in (None, theirs)
    theirs.end(time.monotonic())
    theirs.join(5)


def test_an_alarm_that_is_set_in_the_midst_of_being_set() -> None:
    """By a signal handler, or by a finaliser: nobody waits for a lock that is its own."""
    alarm = WakeEvent()
    ended = time.monotonic() + 0.3
    rung: list[bool] = []

    def handler(*_: object) -> None:
        alarm.set()
        rung.append(alarm.is_set())

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        while time.monotonic() < ended:
            alarm.set()
            assert alarm.wait(1)
            alarm.clear()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(rung)
    assert len(rung) > 10


def test_an_alarm_wakes_who_waits() -> None:
    alarm = WakeEvent()
    assert not alarm.wait(0.01)
    threading.Timer(0.05, alarm.set).start()
    begun = time.monotonic()
    assert alarm.wait(10)
    assert time.monotonic() - begun < 5
    alarm.clear()
    assert not alarm.is_set()
    assert not alarm.wait(0)


def test_redis_away_is_told_without_a_traceback(make_recorder: MakeRecorder, caplog: pytest.LogCaptureFixture) -> None:
    recorder = make_recorder()
    try:
        raise UsageUnavailable("Redis can't serve now: it did not answer in time")
    except UsageUnavailable:
        recorder.count_error("known_orgs")
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage().endswith("requests are not affected. Redis can't serve now: it did not answer in time")
