"""The usage API as a Starlette application, to be mounted in Starlette and FastAPI."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import Any

from anyio import from_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response as StarletteResponse
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from usage_middleware.credentials import Credentials
from usage_middleware.request_keys import leave_out
from usage_middleware.web.auth import Auth, places_of, require_auth
from usage_middleware.web.handler import Handler, HasReports
from usage_middleware.web.http import Request


def usage_app(usage: HasReports, *, auth: Auth | None, cache_seconds: int = 60) -> Starlette:
    """The usage API. It needs no lifespan: hosts don't run that of a mounted application.

        app.mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys)))

    Args:
        auth: callable(starlette.requests.Request) -> Viewer, or None for 401; sync (run in the thread pool) or async.
            `KeyAuth(usage.keys)` is one.
        cache_seconds: seconds that Redis keeps an answer; 0: none is kept, and nothing is written.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    app = Starlette()
    authenticate = require_auth(auth, usage.credentials, may_be_async=True)
    shell = _shell(Handler(usage.reader, cache_seconds), authenticate, places_of(authenticate, usage.credentials))
    app.router = Router(redirect_slashes=False, default=shell)
    return app


def _shell(handler: Handler, auth: Auth, places: Credentials) -> ASGIApp:
    async def shell(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        leave_out(scope)
        request = StarletteRequest(scope, receive)
        asked = _request(request, places)
        found = await run_in_threadpool(handler.answer, asked, partial(_ask, auth, request))
        await StarletteResponse(found.body, found.status, dict(found.headers))(scope, receive, send)

    return shell


def _ask(auth: Auth, request: StarletteRequest) -> object:
    """Runs in the thread pool; an async `auth` is awaited on the event loop."""
    found: Any = auth(request)
    return from_thread.run(_awaited, found) if isinstance(found, Awaitable) else found


async def _awaited(found: Awaitable[object]) -> object:
    return await found


def _request(request: StarletteRequest, places: Credentials) -> Request:
    path, root = _split(request.scope)
    query = places.without_secrets(request.scope.get("query_string", b""))
    return Request(request.method, path, query, request.headers.get("accept", ""), root)


def _split(scope: Scope) -> tuple[str, str]:
    """The path under the mount, and the mount. Some servers leave their own prefix out of `path`, so both are tried."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    server_root = str(scope.get("app_root_path", "")).rstrip("/")
    for prefix in (root, root.removeprefix(server_root)):
        if path == prefix or path.startswith(f"{prefix}/"):
            return path[len(prefix) :], root
    return path, root
