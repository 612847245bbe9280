"""The journal: what a killed process had flushed is counted, once, wherever it was on its way."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as Unreachable

from tests.record.conftest import AT_ONCE, FaultyWriter, MakeRecorder
from tests.record.test_spool import ACME, DIGEST, GLOBEX, NOWHERE, STRANGER, add, days, recover, resolve, worker
from tests.support import Clock, ServerProcess, eventually, quick_client, record_call
from usage_middleware import Usage
from usage_middleware.errors import ConfigurationError
from usage_middleware.options import DeliveryOptions, Settings
from usage_middleware.record.recorder import Recorder
from usage_middleware.store.schema import Schema

Counted = Callable[..., int]
MakeJournaled = Callable[..., Recorder]


@pytest.fixture
def make_journaled(make_recorder: MakeRecorder, tmp_path: Path) -> MakeJournaled:
    def make(**options: Any) -> Recorder:
        given = {"spool": tmp_path / "spool", "journal": True, "resolve": resolve, "shutdown_timeout": AT_ONCE}
        return without_thread(make_recorder(**{**given, **options}))

    return make


def without_thread(recorder: Recorder) -> Recorder:
    """It does nothing by itself, so that it can die like a process."""
    recorder._started_in = os.getpid()
    return recorder


def kill(recorder: Recorder) -> int:
    """What SIGKILL leaves of a process: nothing in memory, and no lock; how many calls it had not flushed."""
    lost = recorder._aggregate.calls
    recorder.after_fork_in_child()
    without_thread(recorder)
    return lost


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "spool").iterdir())


def test_a_clean_end_leaves_no_file(make_journaled: MakeJournaled, counted: Counted, tmp_path: Path) -> None:
    one = make_journaled()
    for _ in range(3):
        add(one)
        add(one, DIGEST)
        assert one.flush()
    assert len(files(tmp_path)) == 1
    assert one.close()
    assert files(tmp_path) == []
    assert counted() == counted("*") == 6


def test_the_file_of_a_living_process_is_its_own(make_journaled: MakeJournaled, counted: Counted) -> None:
    way: list[Any] = [quick_client(unix_socket_path="/nowhere/at/all")]
    one = make_journaled(client=lambda: way[0])
    add(one, n=3)
    assert not one.flush()
    two = make_journaled()
    recover(two)
    assert counted() == 0
    assert kill(one) == 0
    recover(two)
    assert counted() == counted("*") == 3
    way[0].close()


def test_killed_while_redis_is_away(make_journaled: MakeJournaled, counted: Counted) -> None:
    one = make_journaled(client=quick_client(unix_socket_path="/nowhere/at/all"))
    for number in range(5):
        add(one, n=2)
        add(one, DIGEST, f"GET /{number % 2}")
        assert not one.flush()
    assert one.stats().backlog_calls == 15
    add(one, n=100)
    assert kill(one) == 100
    recover(make_journaled())
    assert counted() == counted("*") == 15


def test_an_outage_that_ends(make_journaled: MakeJournaled, counted: Counted, client: Any, tmp_path: Path) -> None:
    way: list[Any] = [quick_client(unix_socket_path="/nowhere/at/all")]
    one = make_journaled(client=lambda: way[0])
    for _ in range(4):
        add(one)
        add(one, STRANGER, status=403)
        add(one, GLOBEX)
        assert not one.flush()
    way[0] = client
    assert one.flush()
    assert (counted("acme"), counted("globex"), counted("default"), counted("*")) == (4, 4, 4, 12)
    assert one.stats().backlog_calls == 0
    kill(one)
    recover(make_journaled())
    assert counted("*") == 12


def test_memory_and_disk_stay_small_in_a_long_outage(make_journaled: MakeJournaled, tmp_path: Path, clock: Any) -> None:
    one = make_journaled(client=quick_client(unix_socket_path="/nowhere/at/all"), backlog_bytes=100_000)
    for _ in range(300):
        for number in range(10):
            add(one, endpoint=f"GET /{number}")
        one.flush()
        clock.advance(60)
    assert one.stats().backlog_bytes <= 100_000
    assert sum(path.stat().st_size for path in files(tmp_path)) < 1_200_000
    held = one.stats().backlog_calls + sum(one.stats().dropped.values())
    assert held == 3_000
    kill(one)


def test_the_file_is_written_anew_before_it_grows(
    make_journaled: MakeJournaled, tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usage_middleware.record.journal.SLACK_BYTES", 2_000)
    one = make_journaled()
    for number in range(60):
        add(one, endpoint=f"GET /{number % 7}")
        assert one.flush()
    assert files(tmp_path)[0].stat().st_size < 60 * 150
    kill(one)
    recover(make_journaled())
    assert counted() == counted("*") == 60


def test_a_redis_that_forgot_gets_it_again_from_the_next_process(
    make_journaled: MakeJournaled, counted: Counted, client: Any, namespace: str
) -> None:
    """The machine lost its power: worker and Redis, with the last second of its AOF."""
    one = make_journaled()
    add(one, n=3)
    add(one, DIGEST)
    assert one.flush()
    kill(one)
    client.delete(*client.scan_iter(f"{namespace}:*", count=10_000))
    recover(make_journaled())
    assert counted() == counted("*") == 4


steps = st.lists(
    st.sampled_from(["add", "digest", "flush", "flush", "before", "after", "away", "kill", "recover", "close", "torn"]),
    min_size=3,
    max_size=40,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.booleans())
def test_whatever_happens_in_whatever_order(client: Any, tmp_path: Path, steps: list[str], journal: bool) -> None:
    name = f"j{secrets.token_hex(6)}"
    play = Play(client, tmp_path / name, name, journal)
    try:
        for step in steps:
            play.do(step)
        play.end()
        assert play.counted() == (play.expected, play.expected)
    finally:
        client.delete("nothing", *client.scan_iter(f"{name}:*", count=10_000))


class Play:
    """One recorder after another on one spool; `expected` is what must be counted in the end."""

    def __init__(self, client: Any, spool: Path, namespace: str, journal: bool) -> None:
        self.client, self.spool, self.namespace, self.journal = client, spool, namespace, journal
        self.nowhere = quick_client(unix_socket_path="/nowhere/at/all")
        self.way = client
        self.expected = 0
        self.one = self.make()

    def make(self) -> Recorder:
        options = DeliveryOptions(
            flush_interval=3600, shutdown_timeout=AT_ONCE, clock=Clock(), monotonic=Clock(1000.0),
            spool=self.spool, journal=self.journal,
        )  # fmt: skip
        writer = FaultyWriter(lambda: self.way, Schema(Settings(namespace=self.namespace)))
        return without_thread(Recorder(writer, options, resolve=self.resolve))

    def resolve(self, digests: Any) -> Any:
        if self.way is self.nowhere:
            raise Unreachable("no Redis, no directory")
        return resolve(digests)

    def do(self, step: str) -> None:
        getattr(self, f"_{step}")()

    def _add(self) -> None:
        add(self.one)
        self.expected += 1

    def _digest(self) -> None:
        add(self.one, DIGEST, n=2)
        self.expected += 2

    def _flush(self) -> None:
        self.one.flush()

    def _fault(self, where: str) -> None:
        writer = self.one._flusher._writer
        assert isinstance(writer, FaultyWriter)
        writer.faults = [(where, Unreachable("reset"))]
        self.one.flush()
        writer.faults = []

    def _before(self) -> None:
        self._fault("before")

    def _after(self) -> None:
        self._fault("after")

    def _away(self) -> None:
        self.way = self.nowhere
        self.one.flush()
        self.way = self.client

    def _kill(self) -> None:
        if self.journal:
            self.expected -= kill(self.one)
            self.one = self.make()

    def _torn(self) -> None:
        """Killed in the middle of writing."""
        self._kill()
        if self.journal and self.spool.exists():
            for path in self.spool.iterdir():
                with path.open("ab") as file:
                    file.write(b"\x50\x00\x00\x00torn")

    def _recover(self) -> None:
        recover(self.one)

    def _close(self) -> None:
        self.way = self.nowhere
        self.one.close()
        self.way = self.client
        self.one = self.make()

    def end(self) -> None:
        assert self.one.close()
        self.one = self.make()
        recover(self.one)
        assert self.one.stats().spool_calls == 0
        self.one.close()
        self.nowhere.close()

    def counted(self) -> tuple[int, int]:
        return days(self.client, self.namespace), days(self.client, self.namespace, "*")


def test_it_needs_a_directory(redis_url: str) -> None:
    with pytest.raises(ConfigurationError, match="spool"):
        Usage(redis_url, journal=True)
    with pytest.raises(ConfigurationError, match="spool"):
        Usage(redis_url, spool=False, journal=True)
    with pytest.raises(ConfigurationError, match="spool"):
        Usage(redis_url, spool=True)  # type: ignore[arg-type]


@pytest.mark.slow
def test_it_stands_beside_the_embedded_servers_data(tmp_path: Path) -> None:
    with Usage(data_dir=tmp_path, journal=True, namespace="beside") as usage:
        record_call(usage.recorder, ACME, "GET /a", (), 200, 1, 1, ())
        assert usage.flush()
        assert len(list((tmp_path / "spool").iterdir())) == 1
    assert list((tmp_path / "spool").iterdir()) == []


def ready(process: Any) -> None:
    assert process.stdout.readline() == "ready\n", process.stderr.read()


def test_sigkill(server: ServerProcess, client: Any, namespace: str, tmp_path: Path) -> None:
    """One worker while Redis is away, one while it is not; each had flushed, and had more."""
    script = """
        add(40)
        add(2, b"d" * 32)
        usage.flush()
        add(5)
        print("ready", flush=True)
        sys.stdin.read()
    """
    processes = [worker(url, namespace, tmp_path, script, "journal", "slow") for url in (NOWHERE, server.url)]
    for process in processes:
        ready(process)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    after = worker(server.url, namespace, tmp_path, "add(1)\nsys.stdin.read()")
    eventually(lambda: days(client, namespace) == 81)
    after.communicate("", timeout=30)
    assert days(client, namespace, "*") == 85


def test_a_child_does_not_keep_its_parents_file(server: ServerProcess, client: Any, namespace: str, tmp_path: Path) -> None:
    script = """
        import os
        add(7)
        usage.flush()
        if os.fork() == 0:
            sys.stdin.read()
            os._exit(0)
        print("ready", flush=True)
        sys.stdin.read()
    """
    parent = worker(NOWHERE, namespace, tmp_path, script, "journal")
    ready(parent)
    parent.send_signal(signal.SIGKILL)
    parent.wait(30)
    after = worker(server.url, namespace, tmp_path, "add(1)\nsys.stdin.read()")
    eventually(lambda: days(client, namespace) == 8)
    after.communicate("", timeout=30)
    parent.communicate("", timeout=30)


@pytest.mark.parametrize("bytes_left", [0, 300, 2_000])
def test_a_full_disk_keeps_nothing_from_being_counted(
    server: ServerProcess, client: Any, namespace: str, tmp_path: Path, bytes_left: int
) -> None:
    script = f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_left}, {bytes_left}))
        for number in range(20):
            add(1, endpoint=f"GET /{{number}}")
            add(1, b"d" * 32)
            assert usage.flush()
        lost = usage.recorder.stats().lost
        usage.close()
        print(lost)
    """
    process = worker(server.url, namespace, tmp_path, script, "journal")
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "journal" in out
    assert days(client, namespace, "*") == 40
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".calls"]


@pytest.mark.parametrize("is_away", [True, False])
def test_somebody_deletes_the_file(make_journaled: MakeJournaled, tmp_path: Path, counted: Counted, is_away: bool) -> None:
    """As a job that tidies up temporary files does: it is written anew, so a kill still loses nothing that was flushed."""
    nowhere = quick_client(unix_socket_path="/nowhere/at/all")
    one = make_journaled(client=nowhere) if is_away else make_journaled()
    add(one, n=3)
    one.flush()
    for path in files(tmp_path):
        path.unlink()
    if not is_away:
        writer = one._flusher._writer
        assert isinstance(writer, FaultyWriter)
        writer.faults = [("before", Unreachable("reset"))] * 100
    for _ in range(2):
        add(one, n=2)
        assert not one.flush()
    assert one.stats().lost == {"journal": 1}
    kill(one)
    recover(make_journaled())
    assert counted() == counted("*") == 7


def test_a_flush_waits_for_the_disk_once(make_journaled: MakeJournaled, monkeypatch: pytest.MonkeyPatch) -> None:
    one, waits = make_journaled(), list[int]()
    add(one)
    assert one.flush()
    monkeypatch.setattr("usage_middleware.record.locked_file._sync", waits.append)
    for _ in range(5):
        add(one)
        add(one, GLOBEX)
        assert one.flush()
    assert len(waits) == 5
    kill(one)
