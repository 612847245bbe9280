"""The FastAPI example, served by uvicorn in its own process, with the embedded server."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import click

from usage_middleware import Usage

ROOT = Path(__file__).parents[2]
APP = "examples.fastapi_app.app"
PORTS = range(8000, 8020)
START_SECONDS = 20
STOP_SECONDS = 10


class Example(NamedTuple):
    """The example while it is served."""

    port: int
    usage: Usage
    server: subprocess.Popen[bytes]
    log: Path

    def check_alive(self) -> None:
        """Raise `ClickException` with the server's log if the server has exited."""
        if self.server.poll() is not None:
            raise click.ClickException(f"the example exited:\n{self.log.read_text()}")


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
    """The folder of the counters: the given one, which is kept, or a temporary one."""
    if data_dir:
        data_dir.mkdir(parents=True, exist_ok=True)
        yield data_dir.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="usage-demo-") as made:
            yield Path(made)


@contextmanager
def serving(port: int, data: Path) -> Iterator[Example]:
    """Serve the example, with its keys in the key directory, until the block ends."""
    configure(data)
    module = importlib.import_module(APP)
    usage: Usage = module.usage
    try:
        module.seed(usage)
        server = start(port, data / "server.log")
        try:
            yield wait_until_ready(Example(port, usage, server, data / "server.log"))
        finally:
            stop(server)
    finally:
        usage.close()


def configure(data: Path) -> None:
    """Set the variables that the example reads, for this process and its child: the embedded server, short delays."""
    os.environ.pop("USAGE_REDIS_URL", None)
    os.environ |= {
        "USAGE_NAMESPACE": "usage",
        "USAGE_DATA_DIR": str(data),
        "USAGE_FLUSH_INTERVAL": "1",
        "USAGE_CACHE_SECONDS": "1",
    }


def start(port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start uvicorn in a session of its own, so that Ctrl-C reaches only this process, which then stops uvicorn."""
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--no-access-log", f"{APP}:app"]
    with log.open("ab") as output:
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def stop(server: subprocess.Popen[bytes]) -> None:
    """Let the server finish and send what it counted; kill it after ten seconds, or when Ctrl-C is pressed again."""
    server.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
    finally:
        server.kill()
        server.wait()


def wait_until_ready(example: Example) -> Example:
    """The same example, once it accepts connections."""
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
