"""The spool: what could not be delivered at the end is sent by the next process, once, whatever breaks."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.record.conftest import AT_ONCE, FaultyWriter, MakeRecorder
from tests.support import Clock, ServerProcess, eventually, record_call
from usage_middleware.options import DeliveryOptions, Settings
from usage_middleware.record.locked_file import LockedFile
from usage_middleware.record.outbox import SENT_SECONDS
from usage_middleware.record.recorder import Recorder
from usage_middleware.record.spool import Spool
from usage_middleware.record.spool_format import SpoolState, decode, encode

Counted = Callable[..., int]
Switch = Callable[[Any], None]
ACME, GLOBEX = ("acme", "key_7"), ("globex", "key_1")
DIGEST, STRANGER = b"k" * 32, b"s" * 32
KNOWN = {DIGEST: ("acme", "key_9", True), STRANGER: ("default", "key_ab", False)}


def resolve(digests: Collection[bytes]) -> dict[bytes, tuple[str, str, bool]]:
    return {digest: KNOWN[digest] for digest in digests}


def add(recorder: Recorder, caller: tuple[str, str] | bytes = ACME, endpoint: str = "GET /a", status: int = 200, n: int = 1,
        tags: tuple[str, ...] = (), counts: tuple[int, ...] = ()) -> None:  # fmt: skip
    for _ in range(n):
        record_call(recorder, caller, endpoint, tags, status, 1000, 50, counts)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spool"


def recover(recorder: Recorder) -> None:
    recorder._flusher.recover(lambda: True, now=True)


def writer_of(recorder: Recorder) -> FaultyWriter:
    writer = recorder._flusher._writer
    assert isinstance(writer, FaultyWriter)
    return writer


def end(recorder: Recorder) -> list[Path]:
    """Close a recorder that can't deliver; the files of its spool."""
    assert not recorder.close()
    assert recorder.stats().backlog_calls == 0
    assert recorder._flusher.spool is not None
    return recorder._flusher.spool.paths()


@pytest.fixture
def make_away(make_recorder: MakeRecorder, away: Any, spool: Path) -> MakeRecorder:
    def make(**options: Any) -> Recorder:
        return make_recorder(client=away, shutdown_timeout=AT_ONCE, spool=spool, resolve=resolve, **options)

    return make


def left_in(path: Path, recorder: Recorder) -> SpoolState:
    assert recorder._flusher.spool is not None
    file = recorder._flusher.spool.claim(path)
    assert file is not None
    left = recorder._flusher.spool.read(file)
    recorder._flusher.spool.close(file)
    assert left is not None
    return left


def test_what_could_not_be_delivered_is_sent_by_the_next_process(
    make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    one = make_away()
    add(one, n=3)
    add(one, GLOBEX, n=2)
    assert not one.flush()
    add(one, n=4)
    (_path,) = end(one)
    assert "9 calls are left to the next process" in caplog.text
    two = make_recorder(spool=spool)
    recover(two)
    assert (counted("acme"), counted("globex"), counted("*")) == (7, 2, 9)
    assert "9 calls that an ended process had left in the spool were sent" in caplog.text
    recover(two)
    assert (counted("acme"), counted("*")) == (7, 9)
    assert (two.stats().spool_files, two.stats().spool_calls) == (0, 0)


def test_a_worker_that_went_on_after_it_wrote_the_file_was_counted(
    make_recorder: MakeRecorder, spool: Path, counted: Counted, client: Any, namespace: str
) -> None:
    """It is killed as it ends: Redis has what the file holds, and a chunk after it."""
    one = make_recorder(spool=spool, shutdown_timeout=AT_ONCE)
    add(one, n=3)
    assert one.flush()
    add(one, n=2)
    writer_of(one).faults = [("before", ConnectionError("reset"))] * 8
    (path,) = end(one)
    content, worker = path.read_bytes(), left_in(path, one).worker
    two = make_recorder(spool=spool)
    recover(two)
    for org in ("acme", "*"):
        assert client.incr(f"{namespace}:{{{org}}}:applied:{worker}") == 3
    path.write_bytes(content)
    recover(two)
    assert (counted("acme"), counted("*")) == (5, 5)
    assert two.stats().dropped == {}


def test_nobody_else_may_read_it(make_away: MakeRecorder, spool: Path) -> None:
    one = make_away()
    add(one, DIGEST)
    (path,) = end(one)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.stat().st_mode) == 0o700


def test_credentials_are_resolved_by_whoever_sends_them(
    make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path, counted: Counted
) -> None:
    one = make_away()
    add(one, DIGEST, n=3)
    add(one, STRANGER, n=2)
    add(one, STRANGER, status=401)
    add(one, n=5)
    (path,) = end(one)
    assert left_in(path, one).calls == 11
    two = make_recorder(spool=spool, resolve=resolve)
    recover(two)
    assert (counted("acme"), counted("default"), counted("*")) == (8, 3, 11)


def test_while_the_directory_does_not_answer_the_rest_is_sent(
    make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path, counted: Counted
) -> None:
    one = make_away()
    add(one, DIGEST, n=3)
    add(one, n=5)
    (_path,) = end(one)

    def fail(digests: Collection[bytes]) -> dict[bytes, tuple[str, str, bool]]:
        raise LookupError("directory")

    two = make_recorder(spool=spool, resolve=fail)
    for _ in range(3):
        recover(two)
    assert (counted("acme"), two.stats().spool_calls) == (5, 3)
    recover(make_recorder(spool=spool, resolve=resolve))
    assert (counted("acme"), counted("*")) == (8, 8)


def test_numbers_go_on_so_what_had_arrived_is_not_counted_again(
    make_recorder: MakeRecorder, client: Any, away: Any, spool: Path, counted: Counted
) -> None:
    """Three chunks were acknowledged, the answer to the fourth was lost, the fifth was never sent."""
    way = [client]
    one = make_recorder(client=lambda: way[0], spool=spool, shutdown_timeout=AT_ONCE)
    for _ in range(3):
        add(one)
        assert one.flush()
    add(one, n=10)
    writer_of(one).faults = [("after", ConnectionError("reset"))] * 2
    writer_of(one).only = {"acme"}
    assert not one.flush()
    way[0] = away
    add(one, n=100)
    (path,) = end(one)
    assert left_in(path, one).calls == 110
    recover(make_recorder(spool=spool))
    assert (counted("acme"), counted("*")) == (113, 113)


def test_a_sender_that_dies_at_any_point(
    make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path, counted: Counted
) -> None:
    one = make_away()
    for number in range(400):
        add(one, DIGEST if number % 3 else GLOBEX, f"GET /{number}")
    end(one)
    for fault in "before", "after", "after", "before":
        two = make_recorder(spool=spool, resolve=resolve)
        writer_of(two).faults = [("", ConnectionError()), (fault, ConnectionError("reset"))]
        recover(two)
    last = make_recorder(spool=spool, resolve=resolve)
    recover(last)
    assert (counted("acme"), counted("globex"), counted("*")) == (266, 134, 400)


def test_several_that_start_together(
    make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path, counted: Counted
) -> None:
    for number in range(6):
        one = make_away()
        add(one, DIGEST, f"GET /{number}", n=5)
        add(one, GLOBEX, f"GET /{number}", n=2)
        end(one)
    starters = [make_recorder(spool=spool, resolve=resolve) for _ in range(5)]
    barrier = threading.Barrier(5)

    def start(recorder: Recorder) -> None:
        barrier.wait()
        recover(recorder)

    threads = [threading.Thread(target=start, args=(recorder,)) for recorder in starters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counted("acme"), counted("globex"), counted("*")) == (30, 12, 42)


def test_a_file_is_deleted_when_redis_surely_has_it(
    make_away: MakeRecorder,
    make_recorder: MakeRecorder,
    spool: Path,
    client: Any,
    namespace: str,
    clock: Clock,
    counted: Counted,
) -> None:
    one = make_away()
    add(one, n=3)
    (path,) = end(one)
    two = make_recorder(spool=spool)
    recover(two)
    assert path.exists()
    client.delete(*client.scan_iter(f"{namespace}:*", count=10_000))
    clock.advance(11)
    recover(two)
    assert counted("acme") == counted("*") == 3
    clock.advance(11)
    recover(two)
    assert not path.exists()
    assert counted("acme") == 3


@pytest.mark.parametrize("cut", [1, 8, 40])
def test_a_torn_tail_is_passed_over(
    make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path, counted: Counted, cut: int
) -> None:
    one = make_away()
    add(one, n=3)
    add(one, DIGEST, n=2)
    (path,) = end(one)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    recover(make_recorder(spool=spool, resolve=resolve))
    assert counted("acme") == counted("*") == 3


def test_every_beginning_of_a_file_is_a_file(make_away: MakeRecorder, spool: Path, namespace: str, clock: Clock) -> None:
    one = make_away()
    add(one, n=3)
    add(one, DIGEST, n=2)
    (path,) = end(one)
    whole = path.read_bytes()
    found = []
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        file = LockedFile.claim(path)
        assert file is not None
        left = Spool(DeliveryOptions(spool=spool, clock=clock), Settings(namespace=namespace)).read(file)
        found.append(left.calls if left else None)
        file.close()
    assert sorted({calls for calls in found if calls is not None}) == [0, 3, 5]
    assert found[-1] == 5


@pytest.mark.parametrize("place", [30, 90, -20])
def test_a_damaged_record_ends_the_file(make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path, place: int) -> None:
    one = make_away()
    add(one, n=3)
    (path,) = end(one)
    held = bytearray(path.read_bytes())
    held[place] ^= 0xFF
    path.write_bytes(held)
    two = make_recorder(spool=spool)
    recover(two)
    assert two.stats().state == "ok"


def test_zeros_at_the_end_are_no_records(tmp_path: Path) -> None:
    file = LockedFile.create(tmp_path / "a", [b"one"])
    file.append(b"two", durable=True)
    file.close()
    with (tmp_path / "a").open("ab") as tail:
        tail.write(bytes(4096))
    again = LockedFile.claim(tmp_path / "a")
    assert again is not None
    assert list(again.records()) == [b"one", b"two"]
    again.append(b"three", durable=False)
    assert list(again.records()) == [b"one", b"two", b"three"]
    again.close()


def test_what_is_older_than_seven_days_is_dropped_and_told(
    make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path, counted: Counted, clock: Clock
) -> None:
    old = make_away()
    add(old, n=3)
    add(old, DIGEST, n=4)
    end(old)
    clock.advance(SENT_SECONDS - 10)
    young = make_away()
    add(young, n=20)
    end(young)
    clock.advance(10)
    two = make_recorder(spool=spool, resolve=resolve)
    recover(two)
    assert (counted("acme"), counted("acme", "dropped"), counted("*", "dropped")) == (24, 3, 3)
    assert two.stats().dropped == {"acme": 3}


def test_another_application_in_the_same_directory(make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path) -> None:
    one = make_away()
    add(one)
    (path,) = end(one)
    recover(make_recorder(spool=spool, namespace="another"))
    assert left_in(path, one).calls == 1


def test_the_next_version_may_have_other_dimensions(
    make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path, client: Any, namespace: str, counted: Counted
) -> None:
    one = make_away(dimensions=("project", "chain"), counters=("records", "matches"))
    add(one, tags=("search", "btc"), counts=(10, 1), n=2)
    add(one, DIGEST, tags=("maps", "eth"), counts=(5, 3))
    end(one)
    options: dict[str, Any] = {"dimensions": ("chain", "plan"), "counters": ("matches", "pages")}
    recover(make_recorder(spool=spool, resolve=resolve, untagged={"plan": "free"}, **options))
    assert (counted(), counted("acme", "c.matches"), counted("acme", "c.pages"), counted("acme", "c.records")) == (3, 5, 0, 0)
    day = f"{namespace}:{{acme}}:board:1d:2026-11-20"
    assert client.zrange(f"{day}:chain:calls", 0, -1, withscores=True) == [(b"eth", 1.0), (b"btc", 2.0)]
    assert client.zscore(f"{day}:plan:calls", "free") == 3


def test_the_layout_of_a_file_stays(
    make_recorder: MakeRecorder, spool: Path, namespace: str, clock: Clock, counted: Counted
) -> None:
    """What an older version wrote is sent: calls with a number, two of them alike, and calls without."""
    now, totals = int(clock()), [2, 2000, 100, int(clock() * 1000), [], {73: 2}]
    minute, worker = now - now % 60, "a" * 32
    rows = [[minute, "acme", "key_7", "GET /a", [], 200, *totals], [minute, "acme", "key_7", "GET /a", [], 200, *totals]]
    cells = [[minute, ["globex", "key_1"], "GET /a", [], 200, *totals], [minute, DIGEST, "GET /a", [], 200, *totals]]
    records = [
        [namespace, worker, [], []],
        [now, False, [["acme", 1, rows, 1, now], ["*", 1, rows, 1, now]], cells, {"acme": 3}, {}, {}],
        [now, False, [], [], {}, {"acme": 0}, {"acme": 1}],
    ]
    spool.mkdir(parents=True)
    LockedFile.create(spool / f"{namespace}.{worker}.calls", map(msgspec.msgpack.encode, records)).close()
    recover(make_recorder(spool=spool, resolve=resolve))
    assert (counted("acme"), counted("globex"), counted("acme", "dropped")) == (6, 2, 4)
    record = [now, True, [["acme", 1, rows[:1], 1, now]], cells, {"acme": 3}, {"acme": 0}, {"acme": 1}]
    assert msgspec.msgpack.decode(encode(decode(msgspec.msgpack.encode(record)))) == record


def test_the_spool_is_bounded_and_what_has_no_room_is_counted(
    make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0
    for _ in range(30):
        one = make_away(backlog_bytes=60_000)
        for number in range(60):
            add(one, DIGEST, f"GET /{number}")
            calls += 1
        end(one)
    assert sum(path.stat().st_size for path in spool.iterdir()) < 70_000
    assert "the spool is full" in caplog.text
    recover(make_recorder(spool=spool, resolve=resolve))
    assert 0 < counted("acme") < calls
    assert counted("*") + counted("*", "dropped") == calls


def test_a_poisoned_chunk_does_not_keep_the_others(
    make_away: MakeRecorder, make_recorder: MakeRecorder, spool: Path, counted: Counted
) -> None:
    one = make_away()
    add(one, n=3)
    add(one, GLOBEX, n=2)
    end(one)
    two = make_recorder(spool=spool)
    writer_of(two).only, writer_of(two).faults = {"acme"}, [("garbage", ValueError())] * 3
    recover(two)
    assert (counted("acme"), counted("acme", "dropped"), counted("globex"), counted("*")) == (0, 3, 2, 5)


def test_a_disk_that_can_not_be_written(make_away: MakeRecorder, spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool.parent.mkdir()
    spool.write_text("a file is in the way")
    one = make_away()
    add(one, n=3)
    assert not one.close()
    assert "3 calls could not be delivered" in caplog.text
    one.after_fork_in_child()


def test_what_was_never_finished_is_swept_away(make_away: MakeRecorder, spool: Path) -> None:
    one = make_away()
    add(one)
    (path,) = end(one)
    old, young = (path.with_name(f"{path.name[:-7]}{digit}.calls.new") for digit in "ab")
    for unfinished in old, young:
        unfinished.write_bytes(b"half a file")
    os.utime(old, (1, 1))
    recover(make_away())
    assert (old.exists(), young.exists(), path.exists()) == (False, True, True)


def test_it_counts_what_waits_while_redis_is_away(make_away: MakeRecorder) -> None:
    one = make_away()
    add(one, n=3)
    end(one)
    two = make_away()
    add(two)
    assert not two.flush()
    recover(two)
    assert (two.stats().spool_files, two.stats().spool_calls) == (1, 3)


_WORKER = """
    import sys
    from tests.support import record_call
    from usage_middleware import Usage

    url, namespace, spool, calls, *rest = sys.argv[1:]
    usage = Usage(url, namespace=namespace, spool=spool, shutdown_timeout=0.05, pepper="p",
                  flush_interval=3600 if "slow" in rest else 0.05, journal="journal" in rest)

    def add(n, caller=("acme", "key_7"), endpoint="GET /a"):
        for _ in range(n):
            record_call(usage.recorder, caller, endpoint, (), 200, 1000, 50, ())
"""


def worker(url: str, namespace: str, spool: Path, script: str, *rest: str, calls: int = 0) -> subprocess.Popen[str]:
    """A process of an application that counts into `url`."""
    code = textwrap.dedent(_WORKER) + textwrap.dedent(script)
    command = [sys.executable, "-c", code, url, namespace, str(spool), str(calls), *rest]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def days(client: Any, namespace: str, org: str = "acme") -> int:
    name = org.replace("*", "\\*")
    keys = client.keys(f"{namespace}:{{{name}}}:series:1d:????-??")
    return sum(int(value) for key in keys for field, value in client.hgetall(key).items() if field.endswith(b" calls"))


NOWHERE = "unix:///nowhere/at/all"


def test_processes_that_end_while_redis_is_away(server: ServerProcess, client: Any, namespace: str, spool: Path) -> None:
    """SIGTERM, sys.exit and an exception; then three processes that start together with Redis back."""
    endings = ("signal.raise_signal(signal.SIGTERM)", "sys.exit(3)", "raise ValueError('as a program may')")
    ends = [
        worker(
            NOWHERE,
            namespace,
            spool,
            f"""
            import signal
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            add(10)
            add(5, b"d" * 32)
            {ending}
        """,
        )
        for ending in endings
    ]
    for process in ends:
        process.communicate(timeout=30)
    assert len(list(spool.iterdir())) == 3
    starts = [worker(server.url, namespace, spool, "add(1)\nsys.stdin.read()") for _ in range(3)]
    eventually(lambda: days(client, namespace) == 33 and days(client, namespace, "default") == 15)
    for process in starts:
        process.communicate("", timeout=30)
    assert days(client, namespace, "*") == 48


def test_a_sender_that_is_killed(server: ServerProcess, client: Any, namespace: str, spool: Path) -> None:
    """Each kills itself in the middle of sending; the next goes on where it was."""
    gone = worker(NOWHERE, namespace, spool, "for n in range(600): add(1, endpoint=f'GET /{n}')")
    gone.communicate(timeout=30)
    script = """
        import itertools, os, signal
        writer, number = usage.recorder._flusher._writer, itertools.count()
        run = type(writer)._run
        def dying(key, payload):
            if next(number) == int(calls):
                if int(calls) % 2:
                    run(writer, key, payload)
                os.kill(os.getpid(), signal.SIGKILL)
            return run(writer, key, payload)
        writer._run = dying
        usage.recorder._flusher.recover(lambda: True, now=True)
    """
    for calls in 0, 1, 1, 2, 3, 99:
        process = worker(server.url, namespace, spool, script, calls=calls)
        _, errors = process.communicate(timeout=30)
        assert process.returncode in (-signal.SIGKILL, 0), errors
    assert days(client, namespace) == days(client, namespace, "*") == 600
