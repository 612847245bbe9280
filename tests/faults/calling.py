"""Calls to a real server, on connections that stay open, counted by whoever calls."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Self

from tests.faults.harness import KEYS, ORGANISATIONS, PATHS, secret_of
from tests.faults.ledger import Call, Ledger
from tests.support import eventually


class Caller(threading.Thread):
    """Calls the ports in turn until it is told to stop; a call that is not answered is not counted, and not made again."""

    def __init__(self, ports: tuple[int, ...], ledger: Ledger, seed: int, most: int | None = None) -> None:
        super().__init__(name="caller", daemon=True)
        self._ports = ports
        self._ledger = ledger
        self._random = random.Random(seed)
        self._connections: dict[int, HTTPConnection] = {}
        self._left = most
        self.rest = threading.Lock()
        self.stopped = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Until `stopped`, or as many as there are to be made."""
        try:
            while not self.stopped.is_set() and self._left != 0:
                with self.rest:
                    self._call()
        except BaseException as error:
            self.error = error
        for connection in self._connections.values():
            connection.close()

    def _call(self) -> None:
        draw = self._random.choice
        org, key, (method, path, endpoint, status) = draw(ORGANISATIONS), draw(KEYS), draw(PATHS)
        headers = draw(({"x-org": org, "x-key": key}, {"x-api-key": secret_of(org, key)}))
        port = draw(self._ports)
        connection = self._connections.get(port)
        if connection is None:
            connection = self._connections[port] = HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, HTTPException):
            connection.close()
            self.stopped.wait(0.005)
            return
        assert answer.status == status, (method, path, answer.status)
        self._ledger.add(Call(org, key, endpoint, status))
        if self._left is not None:
            self._left -= 1


class Callers:
    """Some callers at once.

    Attributes:
        ledger: what they were answered.
    """

    def __init__(self, *ports: int, ledger: Ledger | None = None, count: int = 2, most: int | None = None) -> None:
        self.ledger = Ledger() if ledger is None else ledger
        each = None if most is None else most // count
        self._threads = [Caller(ports, self.ledger, seed, each) for seed in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.stopped.set()
        for thread in self._threads:
            thread.join(30)
            assert thread.error is None, thread.error

    @property
    def at_work(self) -> bool:
        """True while calls are to be made."""
        return any(thread.is_alive() for thread in self._threads)

    def go_on(self, calls: int = 100) -> None:
        """Wait until so many more calls were answered."""
        wanted = len(self.ledger) + calls
        eventually(lambda: len(self.ledger) >= wanted or not self.at_work, 30)

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
