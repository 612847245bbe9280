"""The middleware under asgiref: its communicator as the server, and its adapter for WSGI applications."""

from __future__ import annotations

from typing import Any

import flask
from asgiref.testing import ApplicationCommunicator
from asgiref.wsgi import WsgiToAsgi
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.capture.recording import Usage
from tests.capture.shells import http_scope
from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.capture.call import track
from usage_middleware.capture.wsgi import WSGIUsageMiddleware

#: asgiref has no types.
Communicator: Any = ApplicationCommunicator
Adapter: Any = WsgiToAsgi
#: How long a slow machine may take, seconds.
PATIENCE = 10


async def ask(app: Any, path: str) -> tuple[int, bytes]:
    """The status and the body that the server gets."""
    server = Communicator(app, http_scope(path=path))
    await server.send_input({"type": "http.request", "body": b"", "more_body": False})
    started = await server.receive_output(PATIENCE)
    body = b""
    while True:
        message = await server.receive_output(PATIENCE)
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await server.wait(PATIENCE)
    return started["status"], body


async def items(request: Request) -> PlainTextResponse:
    track(request).tag(project="search")
    return PlainTextResponse("hello")


async def test_a_request_is_counted() -> None:
    usage = Usage()
    app = UsageMiddleware(Starlette(routes=[Route("/items/{id}", items)]), usage)
    assert await ask(app, "/items/1") == (200, b"hello")
    assert usage.only.endpoint == "GET /items/{id}"
    assert (usage.only.tags, usage.only.status, usage.only.sent) == (("search", "home"), 200, 5)


async def test_the_recorder_is_flushed_when_the_application_has_shut_down() -> None:
    usage = Usage()
    server = Communicator(UsageMiddleware(Starlette(), usage), {"type": "lifespan", "asgi": {"version": "3.0"}})
    await server.send_input({"type": "lifespan.startup"})
    assert (await server.receive_output(PATIENCE))["type"] == "lifespan.startup.complete"
    assert usage.recording.flushes == 0
    await server.send_input({"type": "lifespan.shutdown"})
    assert (await server.receive_output(PATIENCE))["type"] == "lifespan.shutdown.complete"
    await server.wait(PATIENCE)
    assert usage.recording.flushes == 1


def flask_app() -> flask.Flask:
    app = flask.Flask(__name__)
    app.add_url_rule("/items/<id>", "item", lambda id: id)
    return app


async def test_flask_behind_the_adapter_is_counted_once_under_its_template() -> None:
    usage = Usage()
    assert await ask(Adapter(WSGIUsageMiddleware(flask_app(), usage)), "/items/7") == (200, b"7")
    usage.capture.finish_abandoned()  # The adapter does not close responses, so the next request, or a flush, does this.
    assert usage.only.endpoint == "GET /items/{id}"
    assert (usage.only.status, usage.only.sent) == (200, 1)


async def test_an_adapted_flask_application_is_counted_once() -> None:
    usage = Usage()
    assert await ask(UsageMiddleware(Adapter(flask_app()), usage), "/items/7") == (200, b"7")
    assert (usage.only.status, usage.only.sent) == (200, 1)
