"""Calls to a real server, on connections that stay open, counted by whoever calls."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import NamedTuple, Self

from tests.faults.harness import KEYS, ORGANISATIONS, PATHS, secret_of
from tests.faults.ledger import Call, Ledger
from tests.support import eventually, received


class Request(NamedTuple):
    """A request as it is sent, and what it counts as."""

    data: bytes
    call: Call


def _request(org: str, key: str, by_name: bool, path: tuple[str, str, str, int]) -> Request:
    method, target, endpoint, status = path
    who = f"x-org: {org}\r\nx-key: {key}" if by_name else f"x-api-key: {secret_of(org, key)}"
    text = f"{method} {target} HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n{who}\r\n\r\n"
    return Request(text.encode(), Call(org, key, endpoint, status))


#: Answers that take so many milliseconds; their connections are closed.
SLOW = (0, 20, 100, 400)


def slow_requests() -> list[Request]:
    """Requests to `/slow/<ms>`, each on a connection of its own."""
    head = "GET /slow/{} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-org: acme\r\nx-key: key_1\r\n\r\n"
    return [Request(head.format(ms).encode(), Call("acme", "key_1", "GET /slow/{ms}", 200)) for ms in SLOW]


REQUESTS = [_request(*drawn) for drawn in product(ORGANISATIONS, KEYS, (True, False), PATHS)]


class NotAnswered(Exception):
    """The server closed the connection before it answered."""


class Connection:
    """One connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_open = True

    def ask(self, request: bytes) -> int:
        """Send a request; the status of the answer, once all of it has come.

        Raises:
            NotAnswered: it never came.
        """
        self._socket.sendall(request)
        data = received(self._socket)
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        length = next(int(field[15:]) for field in fields if field.startswith(b"content-length:"))
        while len(body) < length:
            body += self._more()
        if b"connection: close" in fields or b"connection: close" in request:
            self.close()
        return int(head[9:12])

    def _more(self) -> bytes:
        more = received(self._socket)
        if not more:
            raise NotAnswered
        return more

    def close(self) -> None:
        """Let go of it."""
        self.is_open = False
        self._socket.close()


def is_listening(port: int) -> bool:
    """True where somebody accepts connections."""
    try:
        Connection(port).close()
    except OSError:
        return False
    return True


class Caller(threading.Thread):
    """Calls the ports in turn until it is told to stop; a call that is not answered is not counted."""

    def __init__(
        self,
        ports: tuple[int, ...],
        ledger: Ledger,
        unanswered: Ledger,
        seed: int,
        most: int | None = None,
        requests: Sequence[Request] = (),
    ) -> None:
        super().__init__(name="caller", daemon=True)
        self._ports = ports
        self._requests = requests or REQUESTS
        self._ledger = ledger
        self._unanswered = unanswered
        self._random = random.Random(seed)
        self._connections: dict[int, Connection] = {}
        self._left = most
        self.rest = threading.Lock()
        self.stopped = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Until `stopped`, or as many as there are to be made."""
        try:
            while not self.stopped.is_set() and self._left != 0:
                with self.rest:
                    self._call(self._random.choice(self._ports), self._random.choice(self._requests))
        except BaseException as error:
            self.error = error
        for connection in self._connections.values():
            connection.close()

    def _call(self, port: int, request: Request) -> None:
        try:
            status = self._connection(port).ask(request.data)
        except (OSError, NotAnswered):
            if port in self._connections:
                self._connections.pop(port).close()
                self._unanswered.add(request.call)
            self.stopped.wait(0.005)
            return
        assert status == request.call.status, (request, status)
        self._ledger.add(request.call)
        if self._left is not None:
            self._left -= 1

    def _connection(self, port: int) -> Connection:
        found = self._connections.get(port)
        if found is None or not found.is_open:
            found = self._connections[port] = Connection(port)
        return found


class Callers:
    """Some callers at once.

    Attributes:
        ledger: what they were answered.
        unanswered: what they may have asked without an answer.
    """

    def __init__(
        self,
        *ports: int,
        ledger: Ledger,
        count: int = 2,
        most: int | None = None,
        unanswered: Ledger | None = None,
        requests: Sequence[Request] = (),
    ) -> None:
        self.ledger = ledger
        self.unanswered = unanswered if unanswered is not None else Ledger()
        shares = [None if most is None else most // count + (seed < most % count) for seed in range(count)]
        self._threads = [
            Caller(ports, self.ledger, self.unanswered, seed, share, requests) for seed, share in enumerate(shares)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.stopped.set()
        for thread in self._threads:
            thread.join(60)
            assert thread.error is None, thread.error

    @property
    def at_work(self) -> bool:
        """True while calls are to be made."""
        return any(thread.is_alive() for thread in self._threads)

    def go_on(self, calls: int = 100) -> None:
        """Wait until so many more calls were answered."""
        wanted = len(self.ledger) + calls
        eventually(lambda: len(self.ledger) >= wanted or not self.at_work, 60)

    def go_on_for(self, seconds: float) -> None:
        """Wait so many seconds; calls are answered all the while."""
        answered = len(self.ledger)
        end = time.monotonic() + seconds
        eventually(lambda: time.monotonic() >= end, seconds + 60)
        assert len(self.ledger) > answered, "nobody answered"

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside it, no call is on its way."""
        for thread in self._threads:
            thread.rest.acquire()
        try:
            yield
        finally:
            for thread in self._threads:
                thread.rest.release()
