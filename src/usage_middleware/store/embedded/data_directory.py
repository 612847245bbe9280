"""The data directory of an embedded server: its lock files, its log, and where its socket is."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from usage_middleware.errors import UsageUnavailable
from usage_middleware.store.private_files import keep_private, make_private, open_private

#: A socket's path may have 103 bytes on macOS, 107 on Linux.
_PATH_BYTES = 100
_LOG_LINES = 8
_LOG_BYTES = 1_000_000
_ADVICE = "; set USAGE_DATA_DIR, or pass data_dir=, to a directory that you may write to"
#: What the server and its users put into a data directory.
_NAMES = frozenset(
    {
        "appendonlydir", "dump.rdb", "server.lock", "spool", "start.lock", "users.lock",
        "valkey.log", "valkey.log.1", "valkey.pid", "valkey.sock",
    }
)  # fmt: skip


def default_data_dir() -> Path:
    """`$USAGE_DATA_DIR`, else `usage-middleware` in the user's data directory."""
    if chosen := os.environ.get("USAGE_DATA_DIR"):
        return Path(chosen)
    home = os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    return Path(home) / "usage-middleware"


class DataDirectory:
    """One data directory, and the lock files in it that this process has open.

    Attributes:
        path: the directory.
        label: what to call the server in messages.
        socket: the server's unix socket; elsewhere if its path would be too long.
        log: the server's log.
        pid_file: the file in which the server writes its process id.
    """

    def __init__(self, given: str | os.PathLike[str] | None) -> None:
        self.path = Path(os.path.realpath(default_data_dir() if given is None else given))
        self.label = f"the embedded server in {self.path}"
        self.socket = _socket_path(self.path)
        self.log = self.path / "valkey.log"
        self.pid_file = self.path / "valkey.pid"
        self._files: set[int] = set()

    def prepare(self) -> None:
        """Make the directory and that of the socket, and all that is in them, the owner's alone.

        Raises:
            UsageUnavailable: they can't be made, or somebody else has a hand in them.
        """
        try:
            make_private(self.path, _is_ours)
            if self.socket.parent != self.path:
                _make_socket_folder(self.socket.parent)
            for name in os.listdir(self.path):
                if _is_ours(name):
                    keep_private(self.path / name)
        except OSError as error:
            raise self.failure(f"{error.strerror or error}{_ADVICE}") from None

    def open(self, name: str) -> int:
        """Open a lock file.

        Raises:
            UsageUnavailable: it can't be opened.
        """
        try:
            file = open_private(self.path / name, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self.failure(f"{error.strerror or error}{_ADVICE}") from None
        self._files.add(file)
        return file

    def close(self, file: int) -> None:
        """Close a lock file, unless a fork in between did."""
        if file in self._files:
            self._files.discard(file)
            os.close(file)

    @contextmanager
    def opened(self, name: str) -> Iterator[int]:
        """A lock file, closed at the end."""
        file = self.open(name)
        try:
            yield file
        finally:
            self.close(file)

    def close_all(self) -> None:
        """Close all lock files of this process, as after a fork."""
        for file in self._files:
            os.close(file)
        self._files.clear()

    def rotate_log(self) -> int:
        """Put a long log aside. Returns the size of the current one."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size < _LOG_BYTES:
            return size
        self.log.replace(self.log.with_suffix(".log.1"))
        return 0

    def last_log_lines(self, since: int) -> str:
        """The last lines of the log, of those after its first `since` bytes, in a sentence for an error message."""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(since)
            lines = log.read()[-4000:].decode(errors="replace").strip().splitlines()[-_LOG_LINES:]
            return f"The end of {self.log}:\n" + "\n".join(lines)
        return f"It wrote no log to {self.log}."

    def failure(self, text: str) -> UsageUnavailable:
        """An error to raise, that names the directory."""
        return UsageUnavailable(f"{self.label}: {text}")


def try_lock(file: int) -> bool:
    """Lock a file for this process alone; False where another process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _socket_path(data_dir: Path) -> Path:
    path = data_dir / "valkey.sock"
    if len(os.fsencode(path)) <= _PATH_BYTES:
        return path
    # Not in $TMPDIR or $XDG_RUNTIME_DIR: two processes that differ in them must still find the same socket.
    name = blake2b(os.fsencode(data_dir), digest_size=8).hexdigest()
    return Path(f"/tmp/usage-middleware-{os.getuid()}/{name}.sock")


def _make_socket_folder(folder: Path) -> None:
    if folder.is_symlink():
        raise PermissionError(f"{folder} is a link; remove it")
    try:
        make_private(folder, lambda name: name.endswith(".sock"))
    except PermissionError as error:
        raise PermissionError(f"{folder}: {error.strerror or error}") from None


def _is_ours(name: str) -> bool:
    return name in _NAMES or name.startswith("temp-")


def require_own_peer(peer: socket.socket) -> None:
    """Return if the process at the other end of a unix socket runs as the same user, where the system tells (Linux).

    Raises:
        PermissionError: it is somebody else's.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    if uid != os.geteuid():
        raise PermissionError(f"the server at its socket belongs to user {uid}; remove the socket")
