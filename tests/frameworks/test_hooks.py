"""What the hooks of a wrapped application do to it: nothing that it would notice."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from tests.capture.recording import Usage
from tests.capture.shells import http_scope
from tests.frameworks.api import Api
from tests.frameworks.table import APPLICATIONS, Application
from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.capture.frameworks import routes
from usage_middleware.capture.wsgi import WSGIUsageMiddleware

API_ROUTES = {
    ("GET", "/items/{id}"),
    ("POST", "/items/{id}"),
    ("GET", "/stream"),
    ("GET", "/boom"),
    ("GET", "/status/{code}"),
    ("GET", "/track"),
    ("GET", "/nested/{tenant}/items/{id}"),
}


@pytest.fixture(params=APPLICATIONS, ids=str)
def application(request: pytest.FixtureRequest) -> Application:
    found: Application = request.param
    return found


def wrap(application: Application, app: Any, usage: Usage) -> Any:
    return UsageMiddleware(app, usage=usage) if application.is_asgi else WSGIUsageMiddleware(app, usage)


def test_routes_are_listed_without_a_call(application: Application) -> None:
    if application.name.startswith("Connexion"):
        pytest.skip("its routes are known once it has started")
    found = {(method, template) for method, template, _ in routes(application.application(Api(Usage())))}
    expected = API_ROUTES if application.posts else {route for route in API_ROUTES if route[0] == "GET"}
    assert expected <= {*found, *((method, path) for method, path in API_ROUTES if method in application.unlisted)}
    assert not [route for route in found if route[0] in ("HEAD", "OPTIONS")]


def test_connexions_routes_are_listed_once_it_has_started() -> None:
    for application in APPLICATIONS:
        if application.name.startswith("Connexion"):
            wrapped = application.wrapped(Usage())
            wrapped.ask()
            assert {(method, template) for method, template, _ in routes(wrapped.app)} >= API_ROUTES


def test_the_application_ends_with_its_middleware(application: Application) -> None:
    """Nothing of ours keeps it alive, also after it has answered."""
    usage = Usage()

    def use() -> None:
        app = application.application(Api(usage, act := Act()))
        watched.append(act)
        wrapped = wrap(application, app, usage)
        application_of(application, wrapped).ask(path="/items/1")

    watched: list[Act] = []
    if application.name in _KEPT:
        pytest.skip(_KEPT[application.name])
    use()
    gc.collect()
    assert len(gc.get_referrers(watched[0])) <= 2  # the list, and this frame


class Act:
    """What an application refers to, and nothing else does."""

    def __call__(self, request: Any) -> None:
        pass


#: Keep what they have imported or registered by themselves.
_KEPT = {"Django": "its URLconf is a module", "Django (ASGI)": "its URLconf is a module", "Datasette": "it keeps its threads"}


def application_of(application: Application, app: Any) -> Any:
    from tests.frameworks.table import Wrapped

    return Wrapped(application, app)


def test_websockets_pass_untouched(application: Application) -> None:
    if not application.is_asgi:
        pytest.skip("WSGI has none")
    plain = application.application(Api(Usage()))
    usage = Usage()
    wrapped = wrap(application, application.application(Api(usage)), usage)
    sent = conversation(plain)
    assert conversation(wrapped) == sent
    if application.websockets:
        assert [message.get("text") for message in sent if message["type"] == "websocket.send"] == ["hello"]
    assert not usage.recording.seen


def conversation(app: Any) -> list[dict[str, Any]]:
    """What an application sends to a client that connects, says hello, and leaves; its exception is the last message."""
    scope = {**http_scope(path="/ws", headers={"host": "test"}), "type": "websocket", "subprotocols": [], "scheme": "ws"}
    del scope["method"]
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}]
    sent: list[dict[str, Any]] = []
    answered = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop(0)
        await answered.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] != "websocket.accept":
            answered.set()
        sent.append({"type": message["type"], **{key: message[key] for key in ("text", "code") if key in message}})

    try:
        asyncio.run(app(scope, receive, send))
    except Exception as error:
        sent.append({"type": type(error).__name__})
    return sent


def test_hooked_once(application: Application) -> None:
    """Two middlewares around one application give it one hook."""
    app = application.application(Api(Usage()))
    for _ in range(2):
        wrap(application, app, Usage())
    found: dict[str, Any] = {
        "_view_middleware": lambda: [one for one in app._view_middleware if one.__module__.startswith("usage_middleware")],
        "_unprepared_middleware": lambda: [
            one for one in app._unprepared_middleware if "usage_middleware" in type(one).__module__
        ],
        "before_request_funcs": lambda: [one for one in app.before_request_funcs.get(None, ()) if "usage" in one.__module__],
    }
    for attribute, hooks in found.items():
        if hasattr(app, attribute):
            assert len(hooks()) <= 1


@pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi")
def test_a_wsgi_application_inside_may_name_what_it_hands_to_its_server() -> None:
    from starlette.applications import Starlette
    from starlette.middleware.wsgi import WSGIMiddleware
    from starlette.routing import Mount
    from starlette.testclient import TestClient

    def inner(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status="200 OK", response_headers=[], exc_info=None)
        return [b"ok"]

    usage = Usage()
    client = TestClient(UsageMiddleware(Starlette(routes=[Mount("/old", WSGIMiddleware(inner))]), usage=usage))
    assert client.get("/old/a").text == "ok"
