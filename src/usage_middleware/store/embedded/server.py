"""The embedded server: one Valkey for all processes that name the same data directory; the last one out stops it.

Three locked files in the data directory say all there is to say, and the kernel releases each when its holders die:

- `users.lock`: every process that uses the server shares it. Whoever can have it alone is the last.
- `server.lock`: the server process itself holds it, by inheritance. Held: it is alive. Free: it is gone, its data are at rest.
- `start.lock`: held by whoever joins or leaves, starts or stops, so that one does it at a time.

A process that is killed leaves nothing behind but the server; if all are killed, the server stays until the next one comes,
uses it, and stops it. The directory must be on a local disk.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from usage_middleware import fork
from usage_middleware.errors import UsageUnavailable
from usage_middleware.store.embedded.binary import server_binary

if TYPE_CHECKING:
    from multiprocessing.util import Finalize

#: How long another process may take to start or stop the server, and the server to answer; seconds.
PATIENCE = 20.0
#: After a failed start the next try of this process waits so long, seconds: views must not start processes at every request.
PAUSE = 5.0
#: A socket's path may have 103 bytes on macOS, 107 on Linux.
_PATH_BYTES = 100
_LOG_LINES = 8
_LOG_BYTES = 1_000_000

_log = logging.getLogger("usage_middleware")


def default_data_dir() -> Path:
    """`$USAGE_DATA_DIR`, else `usage-middleware` in the user's data directory."""
    if chosen := os.environ.get("USAGE_DATA_DIR"):
        return Path(chosen)
    home = os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    return Path(home) / "usage-middleware"


class EmbeddedServer:
    """This process's share in the server of a data directory. Cheap to make: nothing is started before `join`.

    Attributes:
        data_dir: where its data, log and locks are.
        socket: the path of its unix socket.

    Raises:
        ConfigurationError: there is no program to run; names what to do.
    """

    def __init__(self, data_dir: str | os.PathLike[str] | None = None) -> None:
        self._binary = server_binary()
        self.data_dir = Path(os.path.realpath(default_data_dir() if data_dir is None else data_dir))
        self.socket = _socket_path(self.data_dir)
        self._lock = RLock()
        self._files: set[int] = set()
        self._users: int | None = None
        self._at_exit: Finalize | None = None
        self._failed: tuple[float, UsageUnavailable] | None = None
        fork.servers.add(self)

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.data_dir / "valkey.log"

    def join(self) -> None:
        """Take a share in the server, and start it if it does not run. Does nothing where this process has a share.

        Raises:
            UsageUnavailable: the directory can't be used, or the server does not start; says why.
        """
        with self._lock:
            if self._users is not None:
                return
            with self._alone():
                users = self._open("users.lock")
                fcntl.flock(users, fcntl.LOCK_SH)
                self._users = users
                self._at_exit = fork.leave_at_exit(self.leave)
                self._have_it_running()

    def revive(self) -> None:
        """Start the server again where it is gone, or out of reach because its socket was deleted.

        Raises:
            UsageUnavailable: it does not start; says why.
        """
        with self._lock, self._alone():
            self._have_it_running()

    def leave(self) -> None:
        """Give this process's share back; the last one out stops the server. `join` may follow."""
        with self._lock:
            users, self._users = self._users, None
            if users is None:
                return
            if self._at_exit is not None:
                self._at_exit.cancel()
            try:
                with self._alone():
                    if _try_lock(users):
                        self._stop()
            except UsageUnavailable as error:
                _log.warning("usage: %s", error)
            finally:
                self._close(users)

    def after_fork_in_child(self) -> None:
        """Close our copies of the parent's lock files, which does not release its locks."""
        self._lock = RLock()
        self._users = None
        for file in self._files:
            os.close(file)
        self._files.clear()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        file = self._open("start.lock")
        try:
            if not _eventually(lambda: _try_lock(file)):
                raise self._failure(f"another process has been starting or stopping it for {PATIENCE:.0f} s")
            yield
        finally:
            self._close(file)

    def _open(self, name: str) -> int:
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self.data_dir / name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            reason = f"{error.strerror or error}; set USAGE_DATA_DIR, or pass data_dir=, to a directory that you may write to"
            raise self._failure(reason) from None
        self._files.add(file)
        return file

    def _close(self, file: int) -> None:
        # Not ours any more after a fork in between.
        if file in self._files:
            self._files.discard(file)
            os.close(file)

    def _have_it_running(self) -> None:
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise self._failed[1]
        try:
            logged = self._start_if_gone()
            if logged is not None:
                self._await_answer(logged)
        except UsageUnavailable as error:
            self._failed = time.monotonic() + PAUSE, error
            raise
        self._failed = None

    def _start_if_gone(self) -> int | None:
        """Start it and tell how long its log was before; None where it runs."""
        server = self._open("server.lock")
        try:
            if not _try_lock(server):
                if self.socket.exists():
                    return None
                self._stop()
                if not _try_lock(server):
                    raise self._failure("the server lost its socket and does not end")
            return self._start(server)
        finally:
            # From now on the server alone holds it.
            self._close(server)

    def _start(self, server: int) -> int:
        try:
            logged = self._begin_log()
            self.socket.unlink(missing_ok=True)
            if self.socket.parent != self.data_dir:
                _private_folder(self.socket.parent)
            # It daemonizes itself: a session of its own that Ctrl-C does not reach, and no child of ours to be reaped.
            done = subprocess.run(
                self._command(), cwd=self.data_dir, pass_fds=(server,), stdin=subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise self._failure(f"it can't be started: {error}") from None
        if done.returncode:
            raise self._failure(f"it did not start: {(done.stdout + done.stderr).strip()[-1000:]}")
        return logged

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "daemonize": "yes",
            "pidfile": str(self._pid_file),
            "logfile": str(self.log),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        return [self._binary, *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _begin_log(self) -> int:
        size = self.log.stat().st_size if self.log.exists() else 0
        if size < _LOG_BYTES:
            return size
        self.log.replace(self.log.with_suffix(".log.1"))
        return 0

    def _await_answer(self, logged: int) -> None:
        _eventually(lambda: _ask(self.socket, b"PING").startswith(b"+") or not self._is_alive())
        if not self._is_alive():
            raise self._failure(f"it did not start. {self._last_lines(logged)}")
        # One that still loads a great file is left to it; until then it answers LOADING, which means: try again.

    def _is_alive(self) -> bool:
        server = self._open("server.lock")
        try:
            return not _try_lock(server)
        finally:
            self._close(server)

    def _last_lines(self, logged: int) -> str:
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(logged)
            lines = log.read()[-4000:].decode(errors="replace").strip().splitlines()[-_LOG_LINES:]
            return f"The end of {self.log}:\n" + "\n".join(lines)
        return f"It wrote no log to {self.log}."

    @property
    def _pid_file(self) -> Path:
        return self.data_dir / "valkey.pid"

    def _stop(self) -> None:
        """Have it write all it knows to disk and end."""
        hung_up = _ask(self.socket, b"SHUTDOWN") == b""
        if not hung_up and self._is_alive():
            with suppress(OSError, ValueError):
                _terminate(int(self._pid_file.read_text()))
        if not _eventually(lambda: not self._is_alive()):
            raise self._failure(f"it does not end; its process is in {self._pid_file}")

    def _failure(self, text: str) -> UsageUnavailable:
        return UsageUnavailable(f"the embedded server in {self.data_dir}: {text}")


def _socket_path(data_dir: Path) -> Path:
    path = data_dir / "valkey.sock"
    if len(os.fsencode(path)) <= _PATH_BYTES:
        return path
    # Not in $TMPDIR or $XDG_RUNTIME_DIR: two processes that differ in them must still find the same socket.
    name = blake2b(os.fsencode(data_dir), digest_size=8).hexdigest()
    return Path(f"/tmp/usage-middleware-{os.getuid()}/{name}.sock")


def _private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} must be a directory that is yours alone (mode 700)")


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _ask(path: Path, command: bytes) -> bytes:
    """The first bytes of the answer; `-` of a server that can't be asked, nothing of one that hangs up."""
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(2)
            peer.connect(str(path))
            peer.sendall(command + b"\r\n")
            return peer.recv(256)
    except ConnectionResetError:
        return b""
    except OSError:
        return b"-"


def _terminate(pid: int) -> None:
    name = Path(f"/proc/{pid}/comm")
    # In a container the number may be that of another process.
    if not name.exists() or name.read_text().strip() in ("valkey-server", "redis-server"):
        os.kill(pid, signal.SIGTERM)
