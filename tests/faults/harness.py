"""A world with a fault in it: a real Valkey, a proxy before it, an application behind the middleware, and its traffic."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.faults.ledger import Call, Ledger, assert_equal
from tests.faults.proxy import Proxy
from tests.support import ServerProcess, eventually
from usage_middleware import Caller, KeyInfo, Usage, UsageMiddleware
from usage_middleware.store.address import Limits

#: Set it to 1 for outages as long as the documentation says; a run takes minutes then.
FULL = os.environ.get("USAGE_FULL_FAULTS") == "1"

#: How long the writer waits in these tests, in seconds; 1 and 3 elsewhere, which would make every test as slow.
IMPATIENT = Limits(connect=0.3, answer=0.5)

ORGANISATIONS = ("acme", "globex", "initech")
KEYS = ("key_1", "key_2")
PATHS = (
    ("GET", "/items/7", "GET /items/{item}", 200),
    ("GET", "/items/8", "GET /items/{item}", 200),
    ("POST", "/items", "POST /items", 201),
    ("GET", "/items/none", "GET /items/{item}", 404),
    ("GET", "/broken", "GET /broken", 500),
    ("GET", "/nowhere", "GET (unmatched)", 404),
)


def seconds(full: float, short: float) -> float:
    """How long a fault lasts: in a full run, and in every other."""
    return full if FULL else short


def application(*more: Route) -> Starlette:
    """An API of three endpoints, and more."""

    async def item(request: Request) -> Response:
        return Response("found", 404 if request.path_params["item"] == "none" else 200)

    async def create(_: Request) -> Response:
        return Response("created", 201)

    async def broken(_: Request) -> Response:
        return Response("sorry", 500)

    return Starlette(
        routes=[
            Route("/items/{item}", item),
            Route("/items", create, methods=["POST"]),
            Route("/broken", broken),
            *more,
        ]
    )


def identify(request: Any) -> Caller:
    """Half of the callers are known by name, the others by a secret that the directory knows."""
    secret = request.headers.get("x-api-key")
    if secret:
        return Caller(credential=secret)
    return Caller(request.headers.get("x-org"), request.headers.get("x-key"))


def secret_of(org: str, key: str) -> str:
    """The credential of a key."""
    return f"secret-{org}-{key}"


def usage_of(url: str, namespace: str, **options: Any) -> Usage:
    """A `Usage` that flushes often."""
    return Usage(url, **{"namespace": namespace, "identify": identify, "flush_interval": 0.05, "pepper": "p", **options})


def put_keys(usage: Usage) -> None:
    """Tell the directory of every key."""
    for org in ORGANISATIONS:
        for key in KEYS:
            usage.keys.put(org, KeyInfo(id=key, name=key), secret=secret_of(org, key))


async def request(app: Any, method: str, path: str, headers: dict[str, str]) -> int:
    """One request to an ASGI application; the status of its answer."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path, "root_path": "",
        "raw_path": path.encode(), "query_string": b"", "scheme": "http", "server": ("test", 80), "client": ("test", 1),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    await app(scope, receive, send)
    return statuses[0]


class Client:
    """Draws calls at random, makes them, and keeps count."""

    def __init__(self, app: Any, ledger: Ledger, seed: int = 1) -> None:
        self._app = app
        self._random = random.Random(seed)
        self.ledger = ledger

    async def call(self) -> float:
        """One call; how long the application took for it, seconds."""
        draw = self._random.choice
        org, key, (method, path, endpoint, status) = draw(ORGANISATIONS), draw(KEYS), draw(PATHS)
        headers = draw(({"x-org": org, "x-key": key}, {"x-api-key": secret_of(org, key)}))
        began = time.perf_counter()
        answered = await request(self._app, method, path, headers)
        took = time.perf_counter() - began
        assert answered == status
        self.ledger.add(Call(org, key, endpoint, answered))
        return took


class Traffic(threading.Thread):
    """Calls an application in an event loop of its own until it is told to stop.

    Attributes:
        pause: how long it waits between calls, seconds.
        latencies: how long each request took, seconds.
    """

    def __init__(self, client: Client, pause: float = 0.001) -> None:
        super().__init__(name="traffic", daemon=True)
        self._client = client
        self.pause = pause
        self._stopped = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._rests = threading.Event()
        self.latencies: list[float] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        """Until `stop`."""
        try:
            asyncio.run(self._call())
        except BaseException as error:
            self.error = error

    async def _call(self) -> None:
        while not self._stopped.is_set():
            if not self._running.is_set():
                self._rests.set()
                self._running.wait()
            self.latencies.append(await self._client.call())
            await asyncio.sleep(self.pause)

    def go_on(self, calls: int = 50) -> None:
        """Wait until so many more calls were answered."""
        wanted = len(self.latencies) + calls
        eventually(lambda: len(self.latencies) >= wanted or not self.is_alive())
        assert self.error is None, self.error

    def go_on_for(self, duration: float) -> None:
        """Wait so many seconds; requests must be answered all the while."""
        began, answered = time.monotonic(), len(self.latencies)
        eventually(lambda: time.monotonic() - began >= duration, duration + 60)
        assert len(self.latencies) - answered > 20 * duration, "requests waited"

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside it, no call is made."""
        self._rests.clear()
        self._running.clear()
        assert self._rests.wait(60)
        yield
        self._running.set()

    def stop(self) -> None:
        """No more calls."""
        self._running.set()
        self._stopped.set()
        self.join(10)
        assert self.error is None, self.error


class World:
    """One worker, and its traffic.

    Attributes:
        usage: the worker's.
        ledger: what the client was answered.
        traffic: that which runs now.
    """

    def __init__(self, namespace: str, url: str, client: Callable[[], Any], **options: Any) -> None:
        self.namespace = namespace
        self.client = client
        self.ledger = Ledger()
        self.usage = usage_of(url, namespace, **options)
        self.app = UsageMiddleware(application(), self.usage)
        self.traffic = Traffic(Client(self.app, self.ledger))

    @contextmanager
    def admin(self) -> Iterator[Any]:
        """As `client`, closed at the end."""
        with self.client() as found:
            yield found

    def start(self) -> None:
        """Tell the directory of the keys, begin the traffic, and let some of it be counted."""
        put_keys(self.usage)
        self.traffic.start()
        self.traffic.go_on()
        eventually(self.usage.flush)

    @property
    def state(self) -> str:
        """What the recorder says of Redis."""
        return self.usage.recorder.stats().state

    def is_away(self) -> None:
        """Wait until the recorder has noticed."""
        eventually(lambda: self.state == "away")

    def is_back(self, duration: float = 20) -> None:
        """Wait until the recorder writes again."""
        eventually(lambda: self.state == "ok", duration)

    def finish_abandoned(self, duration: float = 20) -> None:
        """End the traffic and deliver everything."""
        self.traffic.stop()
        eventually(self.usage.flush, duration)
        assert self.usage.recorder.stats().backlog_calls == 0

    def check(self, without: tuple[str, ...] = ()) -> None:
        """End the traffic, deliver, and compare every number."""
        self.traffic.go_on()
        self.finish_abandoned()
        for org, calls in self.usage.recorder.stats().dropped.items():
            assert calls == self.ledger.dropped[org], f"{calls} calls of {org} were dropped"
        self.check_stored(without)

    def check_stored(self, without: tuple[str, ...] = ()) -> None:
        """Compare every number."""
        with self.client() as client:
            assert_equal(client, self.namespace, self.ledger, without)

    def close(self) -> None:
        """End all that this world began."""
        self.traffic._stopped.set()
        if self.traffic.is_alive():
            self.traffic.join(10)
        self.usage.close()


class ServerWorld(World):
    """A world with one server, and a proxy before it. `client` goes past the proxy."""

    def __init__(self, server: ServerProcess, proxy: Proxy, namespace: str, **options: Any) -> None:
        self.server = server
        self.proxy = proxy
        super().__init__(namespace, proxy.url, server.client, **options)
