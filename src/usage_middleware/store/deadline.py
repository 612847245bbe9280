"""An end for every wait for Redis: for one command, and for all that a thread does for one purpose.

The driver limits each read of a socket. A server that sends one byte a second would keep a command waiting for ever. Our
connections read through `TimedSocket`, which gives each read only what is left: of the command's own time, and of the
`Operation` that the thread is in, such as a view, or the end of the process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import inf
from time import monotonic
from typing import Any

from usage_middleware import fork
from usage_middleware.gil import asleep, awake, elsewhere, has_pace, rest_within
from usage_middleware.store.driver_errors import effect
from usage_middleware.store.readiness import is_ready
from usage_middleware.store.timeboxed import is_name, timeboxed

#: A wait looks so often, in seconds, whether another thread has brought the end of its operation forward.
SLICE = 0.1
#: A long reply may take longer: a second more for so many bytes.
BYTES_A_SECOND = 20_000
#: The driver takes no time limit of 0: that means "do not wait".
_LEAST = 0.001


class Operation:
    """Everything that one thread does for one purpose, with one end. Its time begins when Redis is first asked."""

    def __init__(self, seconds: float, outer: Operation | None) -> None:
        self._seconds = seconds
        self._outer = outer
        self._ends: float | None = None

    @property
    def ends(self) -> float:
        """When it ends, by `time.monotonic`; within another operation, that one's end at the latest. Begins it."""
        if self._ends is None:
            self._ends = monotonic() + self._seconds
        return self._ends if self._outer is None else min(self._ends, self._outer.ends)

    def end_by(self, moment: float) -> None:
        """Bring the end forward to a moment of `time.monotonic`. Another thread may call it."""
        self._ends = moment if self._ends is None else min(self._ends, moment)


class _OfThread(threading.local):
    operation: Operation | None = None


_current = _OfThread()


@contextmanager
def within(seconds: float) -> Iterator[Operation]:
    """Inside it, this thread waits for Redis no longer than so many seconds in all, counted from the first wait.

    Then each wait is over at once: the driver raises its TimeoutError.
    """
    outer = _current.operation
    _current.operation = found = Operation(seconds, outer)
    try:
        yield found
    finally:
        _current.operation = outer


def left(limit: float = inf) -> float:
    """How many seconds this thread may still wait, at most `limit`; 0 or less if its operation is over."""
    operation = _current.operation
    return limit if operation is None else min(limit, operation.ends - monotonic())


def check() -> None:
    """Return if this thread may still wait.

    Raises:
        TimeoutError: its operation is over.
    """
    operation = _current.operation  # not by `left`: this is asked at each reply
    if operation is not None and operation.ends <= monotonic():
        raise TimeoutError("the time for it is over")


def acquire(lock: Any, limit: float = inf) -> bool:
    """Acquire a lock, waiting as long as this thread may, at most `limit` seconds; False if it can't be had so soon."""
    if lock.acquire(blocking=False):
        return True
    seconds = left(limit)
    with elsewhere():
        return bool(lock.acquire() if seconds == inf else lock.acquire(timeout=max(0.0, seconds)))


@contextmanager
def held(lock: Any) -> Iterator[None]:
    """Hold a lock.

    Raises:
        TimeoutError: it can't be had while this thread may wait.
    """
    if not acquire(lock):
        raise TimeoutError("another thread is waiting for Redis")
    try:
        yield
    finally:
        lock.release()


class TimedSocket:
    """A connected socket as the driver uses it, plain or TLS. Every wait has an end.

    The time of a command is what was waited for the server. A process that was stopped for a while, or had no processor, does
    not take the server for a silent one: its reply may have come long since.

    Methods raise TimeoutError when the time of the command or of the operation is over, and OSError as sockets do.
    """

    def __init__(self, sock: Any, seconds: float | None) -> None:
        self._sock = sock
        self._seconds = inf if seconds is None else seconds
        self._each: float | None = seconds
        #: How many seconds the command may still wait, and this send or read of it.
        self._rest = self._of_one = inf
        #: The time limit that the socket has. Setting one is a system call.
        self._limit: float | None = None

    def __getattr__(self, name: str) -> Any:
        """Everything that does not wait: `fileno`, `pending`, `shutdown`, `close`."""
        return getattr(self._sock, name)

    def begin(self) -> None:
        """A command begins, with time of its own."""
        self._rest = self._seconds

    def settimeout(self, seconds: float | None) -> None:
        """Limit each single wait, seconds; 0: do not wait."""
        self._each = seconds

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Bytes as they come, empty at the end."""
        found: bytes = self._read(self._sock.recv, size, flags)
        self._rest += len(found) / BYTES_A_SECOND
        return found

    def recv_into(self, buffer: Any) -> int:
        """Put bytes as they come into a buffer; how many."""
        found: int = self._read(self._sock.recv_into, buffer)
        self._rest += found / BYTES_A_SECOND
        return found

    def sendall(self, data: Any) -> None:
        """Send all of it."""
        self._of_one = inf
        with memoryview(data) as view, fork.waiting:
            sent = 0
            while sent < len(view):
                self._expect(writes=True)
                sent += self._wait(self._sock.send, view[sent:]) or 0

    def _read(self, read: Any, *arguments: Any) -> Any:
        if self._each == 0:
            self._limit_to(0)
            return read(*arguments)
        self._of_one = inf if self._each is None else self._each
        with fork.waiting:
            while True:
                self._expect(writes=False)
                if (found := self._wait(read, *arguments)) is not None:
                    return found

    def _expect(self, *, writes: bool) -> None:
        """While this thread waits for the server, others compute."""
        if has_pace() and not is_ready(self._sock, writes=writes):
            asleep()

    def _wait(self, step: Any, *arguments: Any) -> Any:
        """What a step returns; None if nothing happened for a moment."""
        seconds = left(min(self._rest, self._of_one))
        if seconds <= 0:
            awake()
            raise TimeoutError("timed out")
        self._limit_to(min(SLICE, seconds))
        began = monotonic()
        try:
            return step(*arguments)
        except TimeoutError:
            return None
        finally:
            # The socket waits no longer than `SLICE`. What is beyond is time in which this process did not run.
            waited = min(monotonic() - began, 2 * SLICE)
            self._rest -= waited
            self._of_one -= waited
            awake()

    def _limit_to(self, seconds: float) -> None:
        if seconds != self._limit:
            self._sock.settimeout(seconds)
            self._limit = seconds


class LimitedConnection:
    """What our connections have beyond the driver's: making one has an end, and so has each command.

    After an answer that the server takes no writes now, the next command begins on a new connection: behind its name or its
    load balancer may be another server by then.

    A base class that stands before the driver's. The driver's argument `socket_timeout` is the time of a whole command.
    Together with `socket_connect_timeout` it is that of making the connection: asking sentinels, and logging in.
    """

    _sock: Any
    socket_timeout: float | None
    _socket_connect_timeout: float | None = None
    _is_stale = False
    #: redis-py 8.1 reads it when the time for connecting is over, also of a Unix socket, which has none.
    port: int | None = None

    @property
    def socket_connect_timeout(self) -> float | None:
        """How long to wait for one address of the server, seconds. There may be several."""
        return None if self._socket_connect_timeout is None else max(_LEAST, left(self._socket_connect_timeout))

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, seconds: float | None) -> None:
        self._socket_connect_timeout = seconds

    def connect(self) -> None:
        """Connect and log in, unless it is connected."""
        driver: Any = super()
        if self._sock is not None:
            driver.connect()
            return
        with within((self._socket_connect_timeout or inf) + (self.socket_timeout or inf)):
            driver.connect()

    def _connect(self) -> TimedSocket:
        driver: Any = super()
        check()
        seconds = self.socket_timeout
        # A TLS handshake is limited by it.
        self.socket_timeout = None if seconds is None else max(_LEAST, left(seconds))
        try:
            with elsewhere(), fork.waiting:
                # Asking a name server takes no time limit.
                named = is_name(getattr(self, "host", None))
                return TimedSocket(timeboxed(driver._connect, left) if named else driver._connect(), seconds)
        finally:
            self.socket_timeout = seconds

    def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        """Send a command, and begin its time."""
        driver: Any = super()
        if self._is_stale:
            driver.disconnect()
        if self._sock is None:
            self._is_stale = False
            self.connect()
        self._sock.begin()
        driver.send_packed_command(*arguments, **options)

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read a reply. An error reply is raised."""
        driver: Any = super()
        # There may be thousands of replies in one go.
        rest_within()
        try:
            return driver.read_response(*arguments, **options)
        except Exception as error:
            # A server of before Redis 7 lacks one command, and whoever sends that does without it.
            self._is_stale |= effect(error) == "away" and "EVAL_RO" not in str(error)
            raise


@cache
def limited(connection_class: type) -> type:
    """A connection class of the driver's, or of the application's, with an end for every wait."""
    if issubclass(connection_class, LimitedConnection):
        return connection_class
    return type(connection_class.__name__, (LimitedConnection, connection_class), {"__module__": connection_class.__module__})
