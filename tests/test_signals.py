"""SIGTERM ends a process in order, so that it delivers what is left; and only where it would have ended it at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from usage_middleware import Usage, signals
from usage_middleware.errors import ConfigurationError

URL = "redis://127.0.0.1:1/0"


@pytest.fixture
def before() -> Iterator[None]:
    """The default action, and afterwards what was there."""
    found = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, found)


def test_a_usage_has_sigterm_raise_system_exit(before: None) -> None:
    Usage(URL)
    with pytest.raises(SystemExit) as raised:
        signal.raise_signal(signal.SIGTERM)
    assert raised.value.code == 143
    handler = signal.getsignal(signal.SIGTERM)
    Usage(URL, sigterm="auto")
    assert signal.getsignal(signal.SIGTERM) is handler


def test_false_leaves_sigterm_alone(before: None) -> None:
    Usage(URL, sigterm=False)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_handler_that_is_there_stays(before: None, handler: Any) -> None:
    signal.signal(signal.SIGTERM, handler)
    Usage(URL)
    assert signal.getsignal(signal.SIGTERM) == handler


def test_no_handler_is_set_by_another_thread(before: None) -> None:
    thread = threading.Thread(target=Usage, args=(URL,))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_uwsgi_keeps_its_own(before: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", type(sys)("uwsgi"))
    Usage(URL)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("given", [True, None, "never", 0, 15])
def test_other_values_are_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'sigterm must be "auto" or False, not '):
        Usage(URL, sigterm=given)


def test_a_signal_waits_for_what_is_held(before: None) -> None:
    Usage(URL)
    done = []

    def act() -> None:
        with signals.held():
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
            done.append("all of it")

    with pytest.raises(SystemExit):
        act()
    assert done == ["all of it"]


def test_while_a_process_ends_another_sigterm_does_not_raise(before: None) -> None:
    """It would only leave a traceback in the log of the server that shuts down."""
    Usage(URL)
    with signals.held(is_ending=True):
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)


# --- processes

RECORDING = """
    import atexit, os, signal, sys, time
    import redis  # On a busy machine this alone may take longer than the end of a process.
    from usage_middleware import Usage, UsageMiddleware
    from usage_middleware.events import RawCall

    usage = Usage("redis://127.0.0.1:1/0", spool=sys.argv[1], shutdown_timeout=0.2, flush_interval=60)

    def record():
        usage.recorder.take(RawCall(0.0, ("acme", "key_1"), (), None, "GET", "/a", None, 200, 0.01, 2, None))

    def spooled():
        return sum(name.endswith(".calls") for name in os.listdir(sys.argv[1]))
"""


def ended(script: str, folder: Path) -> tuple[int, str, str]:
    """Run a script; its exit status, and what it wrote."""
    command = [sys.executable, "-c", textwrap.dedent(RECORDING) + textwrap.dedent(script), str(folder)]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_process_that_sigterm_ends_puts_its_calls_on_disk(tmp_path: Path) -> None:
    status, _, errors = ended("record(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)", tmp_path)
    assert status == 143
    assert len(list(tmp_path.glob("*.calls"))) == 1
    assert "Traceback" not in errors


@pytest.mark.slow
def test_without_it_they_are_lost(tmp_path: Path) -> None:
    status, _, _ = ended(
        "signal.signal(signal.SIGTERM, signal.SIG_DFL); record(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)",
        tmp_path,
    )
    assert status == -signal.SIGTERM
    assert not list(tmp_path.glob("*.calls"))


@pytest.mark.slow
def test_a_signal_for_each_of_its_moments_of_ending_costs_nothing(tmp_path: Path) -> None:
    """One while calls are being saved, one when that is over: no traceback, nothing lost."""
    status, printed, errors = ended(
        """
        record()
        ending = usage.recorder.end

        def signalled():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            ending()
            print("ended", spooled())

        usage.recorder.end = signalled
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
        """,
        tmp_path,
    )
    assert (status, printed) == (143, "ended 1\n")
    assert "Traceback" not in errors
    assert "SystemExit" not in errors


@pytest.mark.slow
@pytest.mark.parametrize(("act", "status"), [("None", -signal.SIGTERM), ("record()", 143)])
def test_a_forked_child_ends_at_once_if_it_has_counted_nothing(tmp_path: Path, act: str, status: int) -> None:
    _, printed, errors = ended(
        f"""
        child = os.fork()
        if not child:
            {act}
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(20)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), spooled() if os.path.exists(sys.argv[1]) else 0)
        """,
        tmp_path,
    )
    assert printed == f"{status} {int(status > 0)}\n", errors


@pytest.mark.slow
def test_a_signal_that_comes_to_a_child_before_it_has_begun_is_not_forgotten(tmp_path: Path) -> None:
    status, printed, errors = ended(
        """
        for number in range(300):
            child = os.fork()
            if not child:
                time.sleep(20)
                os._exit(0)
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM, number
        print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        """,
        tmp_path,
    )
    assert (status, printed) == (0, "set()\n"), errors


@pytest.mark.slow
def test_a_child_that_begins_while_signals_are_held_can_be_ended(tmp_path: Path) -> None:
    """As another thread of a process that is ending may fork."""
    status, printed, errors = ended(
        """
        from usage_middleware import signals

        with signals.held():
            child = os.fork()
            if not child:
                time.sleep(20)
                os._exit(0)
            os.kill(child, signal.SIGTERM)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(signals._replaced)
        """,
        tmp_path,
    )
    assert (status, printed) == (0, f"{-signal.SIGTERM}\n[]\n"), errors


@pytest.mark.slow
def test_a_pool_is_terminated_as_ever(tmp_path: Path) -> None:
    status, printed, errors = ended(
        """
        import multiprocessing
        pool = multiprocessing.get_context("fork").Pool(2)
        print(pool.map(abs, [-1, 2]))
        processes = list(pool._pool)
        pool.terminate()
        pool.join()
        print({process.exitcode for process in processes} <= {0, -signal.SIGTERM})
        """,
        tmp_path,
    )
    assert (status, printed) == (0, "[1, 2]\nTrue\n"), errors


IN_A_LOOP = """
    import asyncio

    async def answer():
        try:
            await asyncio.sleep(20)
        finally:
            print("cancelled", flush=True)

    async def serve(then=lambda: None):
        record()
        asyncio.get_running_loop().call_later(0.1, lambda: (os.kill(os.getpid(), signal.SIGTERM), then()))
        await asyncio.gather(answer(), answer())
"""


@pytest.mark.slow
def test_in_an_event_loop_nothing_is_interrupted_or_cancelled(tmp_path: Path) -> None:
    """A server whose request is interrupted by an exception, or cancelled, would answer it with 500."""
    status, printed, errors = ended(textwrap.dedent(IN_A_LOOP) + "asyncio.run(serve())", tmp_path)
    assert (status, printed, errors.count("Traceback")) == (-signal.SIGTERM, "", 0), errors
    assert len(list(tmp_path.glob("*.calls"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("then", ["lambda: time.sleep(20)", "lambda: loop.stop()"])
def test_an_event_loop_that_does_not_come_to_its_end_is_interrupted(tmp_path: Path, then: str) -> None:
    """Blocked, or over before it has looked."""
    script = f"""
        from usage_middleware import signals
        signals.LOOP_SECONDS = 0.1
        usage = Usage("redis://127.0.0.1:1/0", spool=sys.argv[1], shutdown_timeout=0.2, flush_interval=0.1)
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(serve({then}))
        except RuntimeError:
            time.sleep(20)
    """
    status, _, errors = ended(textwrap.dedent(IN_A_LOOP) + textwrap.dedent(script), tmp_path)
    assert status == signals.TERMINATED, errors
    assert len(list(tmp_path.glob("*.calls"))) == 1


@pytest.mark.slow
def test_uwsgi_closes_recorders_by_a_function_of_its_own(tmp_path: Path) -> None:
    script = """
        import sys, types
        uwsgi = sys.modules["uwsgi"] = types.ModuleType("uwsgi")
        uwsgi.atexit = lambda: print("the application's own")
    """
    ending = """
        record()
        uwsgi.atexit()
        print(spooled(), flush=True)
        os._exit(0)
    """
    command = [sys.executable, "-c", textwrap.dedent(script) + textwrap.dedent(RECORDING) + textwrap.dedent(ending)]
    done = subprocess.run([*command, str(tmp_path)], timeout=60, capture_output=True, text=True, check=True)
    assert done.stdout == "the application's own\n1\n"
