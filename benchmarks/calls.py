"""Calls applications directly, without a socket, and measures the CPU time of a request."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, MutableMapping
from typing import Any, NamedTuple, TypeAlias

from benchmarks.apps import KINDS

KEYS = 100

AsgiApp: TypeAlias = Any
WsgiApp: TypeAlias = Any


class Cost(NamedTuple):
    """CPU time of a request in microseconds: in the thread that answers it, and in all threads."""

    request: float
    process: float


def cost_since(begun: Cost, requests: int) -> Cost:
    """The mean cost of a request since `begun` (a `cpu_now()`)."""
    now = cpu_now()
    return Cost(*((end - begin) / requests for begin, end in zip(begun, now, strict=True)))


def cpu_now() -> Cost:
    """The CPU time of this thread and of this process so far."""
    return Cost(time.thread_time() * 1e6, time.process_time() * 1e6)


def scopes() -> list[dict[str, Any]]:
    """ASGI scopes as uvicorn makes them: each endpoint with each of a hundred API keys."""
    return [_scope(kind, number) for kind in KINDS for number in range(KEYS)]


def _scope(kind: str, number: int) -> dict[str, Any]:
    path = f"/v1/{kind}/{number}"
    headers = [
        (b"host", b"api.example.com"),
        (b"user-agent", b"python-httpx/0.28.1"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"connection", b"keep-alive"),
        (b"x-api-key", b"sk_live_%026d" % number),
    ]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
    }


def environs() -> list[dict[str, Any]]:
    """The same requests as WSGI environs."""
    return [_environ(kind, number) for kind in KINDS for number in range(KEYS)]


def _environ(kind: str, number: int) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": f"/v1/{kind}/{number}",
        "QUERY_STRING": "",
        "SERVER_NAME": "api.example.com",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "api.example.com",
        "HTTP_USER_AGENT": "python-httpx/0.28.1",
        "HTTP_ACCEPT": "*/*",
        "HTTP_ACCEPT_ENCODING": "gzip, deflate",
        "HTTP_X_API_KEY": f"sk_live_{number:026d}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": None,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def asgi_sampler(app: AsgiApp, loop: asyncio.AbstractEventLoop, requests: int) -> Callable[[], Cost]:
    """A function that makes this many requests and returns the mean cost of one."""
    described = scopes()

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: MutableMapping[str, Any]) -> None:
        return None

    async def drive() -> Cost:
        begun = cpu_now()
        for number in range(requests):
            await app({**described[number % len(described)], "state": {}}, receive, send)
        return cost_since(begun, requests)

    return lambda: loop.run_until_complete(drive())


def wsgi_sampler(app: WsgiApp, requests: int) -> Callable[[], Cost]:
    """The same as `asgi_sampler` for a WSGI application."""
    described = environs()

    def write(_: bytes) -> None:
        return None

    def start_response(_status: str, _headers: object, _exc_info: object = None) -> Callable[[bytes], None]:
        return write

    def drive() -> Cost:
        begun = cpu_now()
        for number in range(requests):
            body = app(dict(described[number % len(described)]), start_response)
            b"".join(body)
            close = getattr(body, "close", None)
            if close is not None:
                close()
        return cost_since(begun, requests)

    return drive
