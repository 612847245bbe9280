"""1,500 requests, then SIGTERM as Docker sends it: each is counted, on every server and type of worker."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.calling import Callers, is_listening
from tests.faults.ledger import OPERATOR
from tests.faults.webserver import environment
from tests.faults.workplace import Workplace
from tests.servers.kinds import KINDS, LINGERING, ROOT, WSGI, Kind
from tests.support import eventually, free_port

pytestmark = pytest.mark.slow

REQUESTS = 1500
#: Longer than anything here takes, seconds: what is counted is what the end has delivered.
FLUSH_INTERVAL = 30
#: A worker of uWSGI that now and then misses that it is to end is killed by uWSGI after 60 s, and delivers meanwhile, seconds.
MERCY = 90


@contextmanager
def served(kind: Kind, place: Workplace, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server, in a process group of its own, and its port."""
    port = free_port()
    variables = environment(place.server.tcp_url, place.namespace, flush_interval=FLUSH_INTERVAL)
    with log.open("ab") as output, ctrl_c_is_heard():
        process = subprocess.Popen(
            kind.command(port),
            env={**os.environ, **variables, **kind.environment},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        eventually(lambda: _listens(process, port, log), 60)
        if kind.package == "pyuwsgi":
            eventually(lambda: _hear(process.pid), 60)
        yield process, port
    finally:
        kill_all(process)


@contextmanager
def ctrl_c_is_heard() -> Iterator[None]:
    """What a shell runs in the background ignores SIGINT, and so would what is started here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _listens(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    return is_listening(port)


def _hear(group: int) -> bool:
    """Whether each process of a group handles SIGHUP. A worker of uWSGI does once it has loaded the application.

    One that loads it for itself (`lazy-apps`) misses that it is to end, and stays.
    """
    caught = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It has ended.
            if os.getpgid(int(folder.name)) == group:
                found = re.search(r"^SigCgt:\s*(\w+)$", (folder / "status").read_text(), re.MULTILINE)
                caught.append(found is not None and bool(int(found[1], 16) >> signal.SIGHUP - 1 & 1))
    return all(caught)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """What becomes of a container's processes when the first of them has ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)


def call(port: int, place: Workplace) -> None:
    """Make all the requests."""
    with Callers(port, ledger=place.ledger, count=4, most=REQUESTS) as callers:
        eventually(lambda: not callers.at_work, 60)
    assert len(place.ledger) == REQUESTS


@pytest.mark.parametrize("name", KINDS)
def test_sigterm_as_docker_sends_it(place: Workplace, tmp_path: Path, name: str) -> None:
    """To the first process alone; and when that has ended, the others are killed."""
    kind = KINDS[name]
    if not kind.is_installed:
        pytest.skip(f"{kind.package} is not installed")
    with served(kind, place, tmp_path / "log") as (process, port):
        call(port, place)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        kill_all(process)
    log = (tmp_path / "log").read_text()
    assert place.stored(OPERATOR) == REQUESTS or kind.lost_at_sigterm, log
    assert "Traceback" not in log, log


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("uvicorn, reload", ("--reload-dir", "{folder}")),
        ("flask run, reload", ("--extra-files", "{folder}/watched.py")),
        ("django runserver", ()),
    ],
)
def test_a_file_that_changes_under_a_reloader_costs_nothing(
    place: Workplace, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    watched = tmp_path / "watched" / "watched.py"
    watched.parent.mkdir()
    watched.touch()
    # Werkzeug would take it where it is installed, and it watches all of this folder.
    (watched.parent / "watchdog.py").write_text("raise ImportError")
    kind = KINDS[name]
    if not kind.is_installed:
        pytest.skip(f"{kind.package} is not installed")
    words = (*kind.words, *(option.format(folder=watched.parent) for option in options))
    path = os.pathsep.join([str(watched.parent), str(ROOT)])
    watching = replace(kind, words=words, environment={"USAGE_WATCHED": str(watched.parent), "PYTHONPATH": path})
    with served(watching, place, tmp_path / "log") as (_, port):
        with Callers(port, ledger=place.ledger, most=100) as callers:
            eventually(lambda: not callers.at_work, 60)
        assert place.stored(OPERATOR) == 0
        changed: list[float] = []

        def is_counted() -> bool:
            # What changes before a reloader's first look goes unseen, so it changes again.
            if not changed or time.monotonic() > changed[-1] + 3:
                changed.append(time.monotonic())
                watched.write_text(f"changed = {changed[-1]}\n")
            return place.stored(OPERATOR) == 100

        eventually(is_counted, FLUSH_INTERVAL / 2)


def test_uwsgi_with_the_guides_hook_loses_nothing_in_the_middle_of_traffic(place: Workplace, tmp_path: Path) -> None:
    """Without it, a worker that is at work when it is told to end does so without `atexit`, its own or Python's."""
    kind = KINDS["uwsgi"]
    if not kind.is_installed:
        pytest.skip(f"{kind.package} is not installed")
    with served(kind, place, tmp_path / "log") as (process, port):
        with Callers(port, ledger=place.ledger, count=4) as callers:
            callers.go_on(400)
            process.send_signal(signal.SIGTERM)
            process.wait(MERCY)
        kill_all(process)
    assert place.stored(OPERATOR) == len(place.ledger), (tmp_path / "log").read_text()


@pytest.mark.parametrize("name", ["uwsgi", "uwsgi, lazy-apps", "uwsgi, threads"])
def test_uwsgi_with_the_guides_hook_loses_nothing_while_it_tidies_up(place: Workplace, tmp_path: Path, name: str) -> None:
    """A worker of uWSGI is at work until its response is closed, which is after its client has all of it."""
    kind = KINDS[name]
    if not kind.is_installed:
        pytest.skip(f"{kind.package} is not installed")
    words = tuple(LINGERING if word == WSGI else word for word in kind.words)
    with served(replace(kind, words=words), place, tmp_path / "log") as (process, port):
        with Callers(port, ledger=place.ledger, count=4, most=100) as callers:
            eventually(lambda: not callers.at_work, 60)
        assert is_answered(port, "/linger")
        process.send_signal(signal.SIGTERM)
        process.wait(MERCY)
        kill_all(process)
    assert place.stored(OPERATOR) == 101, (tmp_path / "log").read_text()


def is_answered(port: int, path: str) -> bool:
    """Whether one more request is answered."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return bool(answer.read()) and answer.status == 404
