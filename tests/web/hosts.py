"""Every way to mount the usage API, behind one client that sends exact bytes."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch
from urllib.parse import unquote_to_bytes
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from usage_middleware.web import usage_app, usage_wsgi_app
from usage_middleware.web.flask import usage_blueprint

if TYPE_CHECKING:
    from usage_middleware import Usage


class Reply(NamedTuple):
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(self.json["code"])


Send = Callable[[str, str, Mapping[str, str]], Reply]


def over_asgi(app: Any) -> Send:
    """Send requests to an ASGI application as uvicorn would."""

    def send(method: str, target: str, headers: Mapping[str, str]) -> Reply:
        path, _, query = target.partition("?")
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode("latin-1"),
            "headers": [(b"host", b"testserver"), *raw],
            "server": ("testserver", 80),
            "client": ("127.0.0.1", 1),
        }
        return asyncio.run(exchange(app, scope))

    return send


async def exchange(app: Any, scope: dict[str, Any]) -> Reply:
    sent: list[dict[str, Any]] = []
    incoming = [{"type": "http.request", "body": b"", "more_body": False}]
    answered = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop()
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            answered.set()

    await app(scope, receive, send)
    start = sent[0]
    assert start["type"] == "http.response.start"
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
    return Reply(start["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


def over_wsgi(app: Any) -> Send:
    """Send requests to a WSGI application as gunicorn would, `wsgiref.validate` in between."""
    checked = validator(app)

    def send(method: str, target: str, headers: Mapping[str, str]) -> Reply:
        path, _, query = target.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "SCRIPT_NAME": "",
            "QUERY_STRING": query,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
        }
        setup_testing_defaults(environ)
        environ["wsgi.errors"] = io.StringIO()
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, found: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
            started.append((status, found))
            return lambda _: None

        chunks: Any = checked(environ, start_response)
        try:
            body = b"".join(chunks)
        finally:
            chunks.close()
        status, found = started[0]
        return Reply(int(status[:3]), {name.lower(): value for name, value in found}, body)

    return send


@dataclass(frozen=True)
class Host:
    """One way to mount the usage API."""

    name: str
    prefix: str
    make: Callable[..., Send]
    #: Whether `/usage`, without a slash at its end, gets to the usage app.
    serves_bare_mount: bool = True

    def __str__(self) -> str:
        return self.name


def _starlette(usage: Usage, **options: Any) -> Send:
    return over_asgi(usage_app(usage, **options))


def _in_starlette(usage: Usage, **options: Any) -> Send:
    return over_asgi(Starlette(routes=[Mount("/usage", usage_app(usage, **options))]))


def _in_nested_starlette(usage: Usage, **options: Any) -> Send:
    inner = Mount("/my/usage", usage_app(usage, **options))
    return over_asgi(Starlette(routes=[Mount("/t/{tenant}", routes=[inner])]))


def _in_fastapi(usage: Usage, **options: Any) -> Send:
    app = FastAPI()
    app.mount("/usage", usage_app(usage, **options))
    return over_asgi(app)


def _wsgi(usage: Usage, **options: Any) -> Send:
    return over_wsgi(usage_wsgi_app(usage, **options))


def _in_flask_by_dispatcher(usage: Usage, **options: Any) -> Send:
    app = Flask(__name__)
    return over_wsgi(DispatcherMiddleware(app.wsgi_app, {"/usage": usage_wsgi_app(usage, **options)}))


def _in_flask(usage: Usage, **options: Any) -> Send:
    app = Flask(__name__)
    app.register_blueprint(usage_blueprint(usage, **options), url_prefix="/usage")
    return over_wsgi(app.wsgi_app)


HOSTS = (
    Host("starlette", "", _starlette),
    Host("in starlette", "/usage", _in_starlette, serves_bare_mount=False),
    Host("nested in starlette", "/t/acme/my/usage", _in_nested_starlette, serves_bare_mount=False),
    Host("in fastapi", "/usage", _in_fastapi, serves_bare_mount=False),
    Host("wsgi", "", _wsgi),
    Host("in flask by dispatcher", "/usage", _in_flask_by_dispatcher),
    Host("in flask by blueprint", "/usage", _in_flask),
)


class Api:
    """The usage API as mounted in one host; `key` is the API key that is shown unless told otherwise."""

    def __init__(self, host: Host, send: Send, key: str | None = None) -> None:
        self.host = host
        self._send = send
        self._key = key

    def get(self, path: str = "/", **headers: str) -> Reply:
        """GET a path under the mount."""
        return self.call("GET", path, **headers)

    def call(self, method: str, path: str = "/", **headers: str) -> Reply:
        """Any method; headers by their names with `_` for `-`."""
        shown = {"x_api_key": self._key, **headers}
        named = {name.replace("_", "-"): value for name, value in shown.items() if value is not None}
        return self._send(method, f"{self.host.prefix}{path}", named)

    def with_key(self, key: str | None) -> Api:
        """The same, another key."""
        return Api(self.host, self._send, key)


@contextmanager
def watched(owner: type, name: str) -> Iterator[list[object]]:
    """The results of a method, as it goes on working."""
    results: list[object] = []
    real = getattr(owner, name)

    def watch(*args: Any, **kwargs: Any) -> Any:
        results.append(found := real(*args, **kwargs))
        return found

    with patch.object(owner, name, watch):
        yield results
