"""The embedded server: one Valkey for all processes that name the same data directory; the last one out stops it.

Three lock files in the data directory hold all of its state. The kernel releases each lock when its holders end:

- `users.lock`: shared by every process that uses the server. A process that can lock it alone is the last one.
- `server.lock`: held by the server process, which inherits it. While it is held, the server runs.
- `start.lock`: held by the process that joins, leaves, starts or stops the server: one at a time.

Processes that are killed need no cleanup. If all of them are killed, the server runs on; the next process uses it, and stops
it at its end. The directory must be on a local disk.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from usage_middleware import fork
from usage_middleware.errors import UsageUnavailable
from usage_middleware.store import deadline
from usage_middleware.store.address import ServerKind
from usage_middleware.store.embedded.binary import server_binary
from usage_middleware.store.embedded.data_directory import DataDirectory, require_own_peer, try_lock

if TYPE_CHECKING:
    from multiprocessing.util import Finalize

#: How long to wait for another process to start or stop the server, and for the server to answer, in seconds.
PATIENCE = 20.0
#: How long a process that ends waits for the server's end, in seconds.
LAST_SECONDS = 5.0
#: How long after a failed start this process tries again, in seconds: views must not start processes at every request.
PAUSE = 5.0
_log = logging.getLogger("usage_middleware")


class EmbeddedServer:
    """This process's share in the server of a data directory. Cheap to make: nothing is started before `join`.

    Attributes:
        kind: `embedded`.
        label: what to call the server in messages.
        data_dir: where its data, log and locks are.
        socket: the path of its unix socket.

    Raises:
        ConfigurationError: there is no program to run; says what to do.
    """

    kind: ServerKind = "embedded"

    def __init__(self, data_dir: str | os.PathLike[str] | None = None) -> None:
        self._binary = server_binary()
        self._directory = DataDirectory(data_dir)
        self.data_dir = self._directory.path
        self.socket = self._directory.socket
        self.label = self._directory.label
        self._lock = RLock()
        self._users: int | None = None
        self._at_exit: Finalize | None = None
        self._failed: tuple[float, UsageUnavailable] | None = None
        fork.servers.add(self)

    def join(self) -> None:
        """Take a share in the server, and start it if it does not run. Does nothing if this process has a share.

        Raises:
            UsageUnavailable: the directory can't be used, or the server does not start; says why.
        """
        if self._users is not None:
            return
        with deadline.held(self._lock):
            if self._users is not None:
                return
            with self._alone():
                users = self._directory.open("users.lock")
                fcntl.flock(users, fcntl.LOCK_SH)
                self._users = users
                self._at_exit = fork.leave_at_exit(self.leave)
                self._ensure_running()

    def revive(self) -> None:
        """Start the server again if it is gone, or if its socket was deleted.

        Raises:
            UsageUnavailable: it does not start; says why.
        """
        with deadline.held(self._lock), self._alone():
            self._ensure_running()

    def require_own(self, peer: socket.socket) -> None:
        """Return if a connection leads to a server of this user.

        Raises:
            UsageUnavailable: it leads to somebody else's.
        """
        try:
            require_own_peer(peer)
        except PermissionError as error:
            peer.close()
            raise self._directory.failure(str(error)) from None

    def leave(self) -> None:
        """Give up this process's share. The last process to leave stops the server. `join` may follow."""
        with self._lock, deadline.within(LAST_SECONDS):
            users, self._users = self._users, None
            if users is None:
                return
            if self._at_exit is not None:
                self._at_exit.cancel()
            try:
                with self._alone():
                    if try_lock(users):
                        self._stop()
            except UsageUnavailable as error:
                _log.warning("usage: %s", error)
            finally:
                self._directory.close(users)

    def after_fork_in_child(self) -> None:
        """Close our copies of the parent's lock files, which does not release its locks."""
        self._lock = RLock()
        self._users = None
        self._directory.close_all()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._directory.prepare()
        with self._directory.opened("start.lock") as file:
            if not _eventually(lambda: try_lock(file)):
                raise self._directory.failure("another process is starting or stopping it, and takes long")
            yield

    def _ensure_running(self) -> None:
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
        """Start it if it does not run. Returns the size of its log before, None where it runs."""
        # Closed at the end: from then on the server alone holds it.
        with self._directory.opened("server.lock") as server:
            if not try_lock(server):
                if self.socket.exists():
                    return None
                self._stop()
                if not try_lock(server):
                    raise self._directory.failure("the server lost its socket and does not end")
            return self._start(server)

    def _start(self, server: int) -> int:
        try:
            logged = self._directory.rotate_log()
            self.socket.unlink(missing_ok=True)
            # It daemonizes itself: a session of its own that Ctrl-C does not reach, and no child of ours to be reaped.
            done = subprocess.run(
                self._command(), cwd=self.data_dir, pass_fds=(server,), stdin=subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False, umask=0o077,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise self._directory.failure(f"it can't be started: {error}") from None
        if done.returncode:
            raise self._directory.failure(f"it did not start: {(done.stdout + done.stderr).strip()[-1000:]}")
        return logged

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "daemonize": "yes",
            "pidfile": str(self._directory.pid_file),
            "logfile": str(self._directory.log),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        return [self._binary, *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _await_answer(self, logged: int) -> None:
        _eventually(lambda: _ask(self.socket, b"PING").startswith(b"+") or not self._is_alive())
        if not self._is_alive():
            raise self._directory.failure(f"it did not start. {self._directory.last_log_lines(logged)}")
        # It may still load a large file. Until that is done it answers LOADING, and commands are tried again.

    def _is_alive(self) -> bool:
        with self._directory.opened("server.lock") as server:
            return not try_lock(server)

    def _stop(self) -> None:
        """Have it write its data to disk and end."""
        hung_up = _ask(self.socket, b"SHUTDOWN") == b""
        if not hung_up and self._is_alive():
            with suppress(OSError, ValueError):
                _terminate(int(self._directory.pid_file.read_text()))
        if not _eventually(lambda: not self._is_alive()):
            raise self._directory.failure(f"it does not end; its process is in {self._directory.pid_file}")


def _eventually(condition: Callable[[], bool]) -> bool:
    over = time.monotonic() + deadline.left(PATIENCE)
    while not condition():
        if time.monotonic() > over:
            return False
        time.sleep(0.005)
    return True


def _ask(path: Path, command: bytes) -> bytes:
    """The first bytes of the reply; `-` if the server can't be asked, nothing if it hangs up."""
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(max(0.01, deadline.left(2)))
            peer.connect(str(path))
            require_own_peer(peer)
            peer.sendall(command + b"\r\n")
            return peer.recv(256)
    except ConnectionResetError:
        return b""
    except OSError:
        return b"-"


def _terminate(pid: int) -> None:
    name = Path(f"/proc/{pid}/comm")
    # The number may belong to another process by now, as in a container.
    if not name.exists() or name.read_text().strip() in ("valkey-server", "redis-server"):
        os.kill(pid, signal.SIGTERM)
