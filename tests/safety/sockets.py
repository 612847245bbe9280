"""The usage API in each shell behind a real server, and a client that sends any bytes over a socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import uvicorn
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.support import eventually, received
from usage_middleware.web import usage_app, usage_wsgi_app
from usage_middleware.web.flask import usage_blueprint

if TYPE_CHECKING:
    from usage_middleware import Usage

#: Longer answers end a test.
MOST_BYTES = 8_000_000


class Answer(NamedTuple):
    """What came over the socket."""

    status: int
    head: bytes
    body: bytes


class Line:
    """A connection that stays open, and is made anew where the server closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def get(self, target: bytes, *headers: tuple[bytes, bytes], method: bytes = b"GET") -> Answer:
        """Send a request as it is, and read its answer to the end."""
        lines = [method + b" " + target + b" HTTP/1.1", b"Host: localhost", *(b": ".join(header) for header in headers)]
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        self._socket.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        answer = self._read(self._socket, has_body=method != b"HEAD")
        if b"connection: close" in answer.head.lower():
            self.close()
        return answer

    def _read(self, peer: socket.socket, *, has_body: bool) -> Answer:
        got = b""
        while b"\r\n\r\n" not in got:
            more = received(peer)
            assert more, f"the server hung up after {got!r}"
            got += more
        head, _, body = got.partition(b"\r\n\r\n")
        length = self._length(head) if has_body else 0
        while length is None or len(body) < length:
            more = received(peer)
            if not more:
                assert length is None, "the answer is shorter than it says"
                self.close()
                break
            body += more
            assert len(body) <= MOST_BYTES
        return Answer(int(head.split(b" ", 2)[1]), head, body)

    @staticmethod
    def _length(head: bytes) -> int | None:
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                return int(value)
        return None

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


def _by_uvicorn(usage: Usage, auth: Any) -> Any:
    return served(Starlette(routes=[Mount("/usage", usage_app(usage, auth=auth, limit=None))]))


@contextmanager
def served(app: Any) -> Iterator[int]:
    """The port of a server of an ASGI application."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        eventually(lambda: server.started)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


@contextmanager
def _by_werkzeug(app: Any) -> Iterator[int]:
    server: Any = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(20)
        server.server_close()


def _wsgi(usage: Usage, auth: Any) -> Any:
    """Mounted by hand: `SCRIPT_NAME` is the mount's path."""
    inner = usage_wsgi_app(usage, auth=auth, limit=None)

    def mounted(environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"].removeprefix("/usage")
        return inner({**environ, "SCRIPT_NAME": "/usage", "PATH_INFO": path}, start_response)

    return _by_werkzeug(mounted)


def _flask(usage: Usage, auth: Any) -> Any:
    app = Flask(__name__)
    app.register_blueprint(usage_blueprint(usage, auth=auth, limit=None), url_prefix="/usage")
    return _by_werkzeug(app)


Serve = Callable[["Usage", Any], Any]
SHELLS: dict[str, Serve] = {"starlette": _by_uvicorn, "wsgi": _wsgi, "flask": _flask}
