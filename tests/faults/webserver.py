"""How the application of these tests is served by real web servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.faults.calling import is_listening
from tests.support import eventually, free_port

KINDS = {
    "uvicorn": ("-m", "uvicorn", "tests.faults.served:app", "--port", "{port}", "--no-access-log"),
    "gunicorn": ("-m", "gunicorn", "tests.faults.served:wsgi", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread"),
}
#: Two more. At their end they may close a connection on which a request is being answered: it may be counted or not.
MORE_KINDS = {
    "hypercorn": ("-m", "hypercorn", "tests.faults.served:app", "--bind", "127.0.0.1:{port}"),
    "granian": ("-m", "granian", "--interface", "asgi", "--port", "{port}", "tests.faults.served:app"),
}
EVERY_KIND = KINDS | MORE_KINDS
_UWSGI = (
    "-c", "import sys, pyuwsgi; pyuwsgi.run(sys.argv[1:])", "--http-socket", "127.0.0.1:{port}",
    "--module", "tests.faults.served:wsgi", "--master", "--need-app", "--threads", "4", "--enable-threads",
    "--py-call-osafterfork", "--die-on-term", "--disable-logging",
)  # fmt: skip
#: Those that answer on threads, as gunicorn does.
THREADED_KINDS = {
    "waitress": ("-m", "waitress", "--listen", "127.0.0.1:{port}", "--threads", "4", "tests.faults.served:wsgi"),
    "uwsgi": (*_UWSGI, "--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
    "uwsgi without its hook": _UWSGI,
}


#: What a server logs of each worker that has started. One of granian's that is still starting overhears SIGTERM, with or
#: without the middleware, and its server waits for it for ever.
_STARTED = {"granian": "Started worker-"}


def ends(kinds: Iterable[str]) -> list[tuple[str, signal.Signals]]:
    """Each kind with the signals that end it in the middle of traffic."""
    return [(kind, how) for kind in kinds for how in ends_of(kind)]


def ends_of(kind: str) -> tuple[signal.Signals, ...]:
    """The signals that end a server in the middle of traffic.

    At SIGINT, a worker of gunicorn with threads may wait for ever, with or without the middleware: the handler takes a lock
    that may be taken in what it has interrupted. uWSGI ends in order at SIGTERM alone.
    """
    return (signal.SIGTERM,) if kind in ("gunicorn", "uwsgi") else (signal.SIGTERM, signal.SIGINT)


def command(kind: str, port: int, *options: str) -> list[str]:
    """What starts a server on a port."""
    return [sys.executable, *(word.format(port=port) for word in (THREADED_KINDS | EVERY_KIND)[kind]), *options]


def environment(url: str, namespace: str, **options: Any) -> dict[str, str]:
    """What tells the application where Redis is, and the options of its `Usage`."""
    root = str(Path(__file__).parents[2])
    return {
        "USAGE_REDIS_URL": url,
        "USAGE_NAMESPACE": namespace,
        "USAGE_OPTIONS": json.dumps(options),
        "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
    }


class Worker:
    """A web server that comes and goes on one port."""

    def __init__(self, kind: str, log: Path, environment: dict[str, str], *options: str) -> None:
        self.kind = kind
        self.port = free_port()
        self.log = log
        self._command = command(kind, self.port, *options)
        self._started = _STARTED.get(kind, "")
        self._workers = int(options[options.index("--workers") + 1]) if "--workers" in options else 1
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """That which serves now."""
        assert self._process is not None, "it is not running"
        return self._process

    def start(self) -> None:
        """Start it, and wait until it listens."""
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=output, stderr=output, start_new_session=True
            )
        eventually(lambda: self._listens() and self._all_started(begin), 60)

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return is_listening(self.port)

    def _all_started(self, begin: int) -> bool:
        return not self._started or self.log.read_bytes()[begin:].decode().count(self._started) >= self._workers

    def end(self, how: int) -> None:
        """Send a signal, and wait until it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(60)

    def kill(self) -> None:
        """SIGKILL it and every process that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    @property
    def resident_bytes(self) -> int:
        """The memory that it holds."""
        asked = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
        return int(subprocess.run(asked, capture_output=True, check=True).stdout) * 1024
