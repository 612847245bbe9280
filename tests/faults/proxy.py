"""A TCP proxy before a Redis, that loses, cuts, delays and refuses when a test says so."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

from tests.faults.resp import name_of, values
from tests.support import eventually

#: The commands that carry counted calls.
CHUNKS = frozenset({"EVALSHA", "EVAL"})
MOST_LINKS = 64
_RECEIVED = 65536


class Loss(Enum):
    """What may happen to a request or to its reply."""

    REQUEST = "the request never arrives, the connection closes"
    HALF_REQUEST = "half of the request arrives, the connection closes"
    REPLY = "the request is served, the connection closes before the reply"
    HALF_REPLY = "the request is served, the connection is reset within the reply"
    SILENCE = "the request is served, the reply never comes, the connection stays open"
    ANSWER = "the proxy answers `data`, the request never arrives"
    REPLACE = "`data` arrives in its place"


@dataclass
class Fault:
    """A loss that the next `times` requests of these names meet."""

    loss: Loss
    times: int
    names: Collection[str]
    data: bytes = b""


@dataclass
class Proxy:
    """Listens on a port of 127.0.0.1 and passes everything on to another, except for what it is told.

    Attributes:
        delay: for how many seconds each request and each reply is held.
        rate: how many bytes a second pass in either direction of a connection; 0: as many as come.
        largest: a write of more bytes vanishes, and all that follows it on its connection, as on a path with a smaller MTU
            than it says; 0: none does.
        vanished: how many writes did.
        requests: how many requests of each name have come.
        replies: how many of each have been answered by the server, whether or not that was passed on.
        met: how many requests have met each loss.
    """

    target: int
    port: int = 0
    delay: float = 0.0
    rate: int = 0
    largest: int = 0
    vanished: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    replies: Counter[str] = field(default_factory=Counter)
    met: Counter[Loss] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._links: set[_Link] = set()
        self._listener: socket.socket | None = None

    @property
    def url(self) -> str:
        """Redis, through this proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    def accept(self) -> None:
        """Let connections in; on the same port as before."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=MOST_LINKS)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept_from, args=(listener,), name="proxy", daemon=True).start()

    def refuse(self) -> None:
        """Close every connection and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Closing alone would leave the thread waiting in `accept`.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.hang_up()

    def hang_up(self, *, reset: bool = False) -> None:
        """Close every connection, with an RST where `reset` says so; new ones are let in."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            link.close(reset=reset)

    def lose(self, loss: Loss, times: int = 1, names: Collection[str] = CHUNKS, data: bytes = b"") -> None:
        """Let the next requests of these names meet this."""
        with self._lock:
            self._faults.append(Fault(loss, times, names, data))

    def forgive(self) -> None:
        """Take back what was not met yet, and be as quick as can be."""
        self.delay, self.rate, self.largest = 0.0, 0, 0
        with self._lock:
            self._faults = []

    @property
    def is_done(self) -> bool:
        """True when everything that was to be lost is."""
        return not self._faults

    def lost_all(self, seconds: float = 20) -> None:
        """Wait until it is done."""
        eventually(lambda: self.is_done, seconds)

    def _accept_from(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        link = _Link(self, client, server)
        with self._lock:
            assert len(self._links) < MOST_LINKS, "more connections than any test needs"
            self._links.add(link)
        if self._listener is None:
            link.close()
        link.start()

    def _arrived(self, name: str) -> Fault | None:
        with self._lock:
            self.requests[name] += 1
            for fault in self._faults:
                if name in fault.names:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                    self.met[fault.loss] += 1
                    return fault
        return None

    def _replied(self, name: str) -> None:
        with self._lock:
            self.replies[name] += 1

    def _left(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)


class _Link:
    """One connection: a thread for the requests, one for the replies."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._asked: deque[tuple[str, Loss | None]] = deque()
        self._closing = threading.Lock()

    def start(self) -> None:
        for step in (self._pass_requests, self._pass_replies):
            threading.Thread(target=self._run, args=(step,), name=f"proxy-{step.__name__}", daemon=True).start()

    def close(self, *, reset: bool = False) -> None:
        if not self._closing.acquire(blocking=False):
            return
        for end in (self._client, self._server):
            with suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # The other thread waits in `recv`; closing alone would leave it there, and the connection open.
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            end.close()
        self._proxy._left(self)

    def _run(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError:
            pass
        finally:
            self.close()

    def _pass_requests(self) -> None:
        buffer = bytearray()
        while received := self._client.recv(_RECEIVED):
            if 0 < self._proxy.largest < len(received):
                self._swallow()
                return
            buffer += received
            for request in values(buffer):
                self._pass_request(request)

    def _swallow(self) -> None:
        self._proxy.vanished += 1
        while self._client.recv(_RECEIVED):
            pass

    def _pass_request(self, request: bytes) -> None:
        name = name_of(request)
        fault = self._proxy._arrived(name)
        loss = fault.loss if fault else None
        if fault and loss is Loss.ANSWER:
            self._client.sendall(fault.data)
            return
        if loss is Loss.REQUEST:
            raise ConnectionAbortedError
        if loss is Loss.HALF_REQUEST:
            self._server.sendall(request[: len(request) // 2])
            raise ConnectionAbortedError
        self._asked.append((name, loss))
        self._send(self._server, fault.data if fault and loss is Loss.REPLACE else request)

    def _pass_replies(self) -> None:
        buffer = bytearray()
        while received := self._server.recv(_RECEIVED):
            buffer += received
            for reply in values(buffer):
                self._pass_reply(reply)

    def _pass_reply(self, reply: bytes) -> None:
        name, loss = self._asked.popleft()
        self._proxy._replied(name)
        if loss is Loss.REPLY:
            raise ConnectionAbortedError
        if loss is Loss.HALF_REPLY:
            self._client.sendall(reply[: len(reply) // 2])
            self.close(reset=True)
        elif loss is not Loss.SILENCE:
            self._send(self._client, reply)

    def _send(self, end: socket.socket, data: bytes) -> None:
        proxy = self._proxy
        if proxy.delay:
            time.sleep(proxy.delay)
        if not proxy.rate:
            end.sendall(data)
            return
        piece = max(1, proxy.rate // 50)
        for start in range(0, len(data), piece):
            end.sendall(data[start : start + piece])
            time.sleep(piece / proxy.rate if proxy.rate else 0)
