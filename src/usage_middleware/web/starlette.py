"""The usage API as a Starlette application, to be mounted in Starlette and FastAPI."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import Any, Unpack

from anyio import CapacityLimiter, from_thread, to_thread
from anyio.lowlevel import RunVar, checkpoint
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from usage_middleware.errors import ConfigurationError
from usage_middleware.request_keys import USAGE_APP, leave_out
from usage_middleware.web.app_options import AppOptions, UsageAppOptions
from usage_middleware.web.auth import Auth, places_of, require_auth
from usage_middleware.web.handler import Handler, HasReports, bound, sign_in_of
from usage_middleware.web.http import Request, Response

#: How many requests to the usage API are answered at once in an event loop. They have threads of their own: views that wait
#: for Redis must not take those of the application.
MOST_THREADS = 12
#: How much of an answer is handed to the server at once, bytes.
PIECE = 65_536
_threads: RunVar[CapacityLimiter] = RunVar("usage_middleware_threads")


def usage_app(usage: HasReports, *, auth: Auth | None, **options: Unpack[UsageAppOptions]) -> Starlette:
    """The usage API. It needs no lifespan: hosts don't run that of a mounted application. `mount_usage` mounts it.

        app.mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys)))

    Args:
        auth: callable(starlette.requests.Request) -> Viewer, or None for 401; sync (run in the thread pool) or async.
            `KeyAuth(usage.keys)` is one.
        options: `cache_seconds` and others; `UsageAppOptions` describes each.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    given = AppOptions(**options)
    authenticate = bound(require_auth(auth, usage.credentials, may_be_async=True), usage, given)
    places = places_of(authenticate, usage.credentials)
    handler = Handler(usage.reader, partial(_ask, authenticate), given, places, sign_in=sign_in_of(authenticate))
    app = Starlette()
    vars(app)[USAGE_APP] = True
    app.router = Router(redirect_slashes=False, default=_shell(handler))
    return app


def mount_usage(app: Starlette, path: str, usage: HasReports, *, auth: Auth | None, **options: Unpack[UsageAppOptions]) -> None:
    """Mount the usage API in a Starlette or FastAPI application.

        mount_usage(app, "/usage", usage, auth=KeyAuth(usage.keys))

    `app.mount` alone leaves the path without a slash at its end to the router, which redirects it.

    Args:
        path: where, for instance `/usage`.
        auth: as of `usage_app`.
        options: as of `usage_app`.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    if not isinstance(app, Starlette):
        raise ConfigurationError(f"mount_usage needs a Starlette or FastAPI application, not {type(app).__name__}")
    if not isinstance(path, str) or not path.startswith("/") or path.endswith("/"):
        raise ConfigurationError(f'mount_usage needs a path such as "/usage", without a slash at its end, not {path!r}')
    mounted = usage_app(usage, auth=auth, **options)
    app.router.routes.append(Route(path, _Root(mounted), include_in_schema=False))
    app.mount(path, mounted)


class _Root:
    """The usage app at the path of its mount, without a slash: the scope is made as a mount would make it."""

    def __init__(self, mounted: ASGIApp) -> None:
        self._mounted = mounted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root, path = scope.get("root_path", ""), scope["path"]
        own = path[len(root) :] if path.startswith(f"{root.rstrip('/')}/") else path
        child = {**scope, "root_path": root + own, "app_root_path": scope.get("app_root_path", root)}
        await self._mounted(child, receive, send)


def _shell(handler: Handler) -> ASGIApp:
    async def shell(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        leave_out(scope)
        request = StarletteRequest(scope, receive)
        found = await to_thread.run_sync(handler.answer, _request(request), request, limiter=_limiter())
        await _send(handler, found, send)

    return shell


async def _send(handler: Handler, found: Response, send: Send) -> None:
    """Send an answer in pieces. The server waits with each until the client has taken enough of those before."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in found.headers.items()]
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    pieces = range(0, len(found.body), PIECE)
    with handler.sending(found):
        for begin in pieces[:-1]:
            await send({"type": "http.response.body", "body": found.body[begin : begin + PIECE], "more_body": True})
            # A client that takes it all keeps nobody waiting: others get their turn in the event loop.
            await checkpoint()
        await send({"type": "http.response.body", "body": found.body[pieces[-1] if pieces else 0 :]})


def _limiter() -> CapacityLimiter:
    try:
        return _threads.get()
    except LookupError:
        limiter = CapacityLimiter(MOST_THREADS)
        _threads.set(limiter)
        return limiter


def _ask(auth: Auth, request: StarletteRequest) -> object:
    """Runs in a thread; an async `auth` is awaited on the event loop."""
    found: Any = auth(request)
    return from_thread.run(_awaited, found) if isinstance(found, Awaitable) else found


async def _awaited(found: Awaitable[object]) -> object:
    return await found


def _request(request: StarletteRequest) -> Request:
    path, root = _split(request.scope)
    query = request.scope.get("query_string", b"")
    peer = request.client.host if request.client else ""
    return Request(request.method, path, query, root, lambda name: request.headers.get(name, ""), peer)


def _split(scope: Scope) -> tuple[str, str]:
    """The path under the mount, and the mount. Some servers leave their own prefix out of `path`, so both are tried."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    server_root = str(scope.get("app_root_path", "")).rstrip("/")
    for prefix in (root, root.removeprefix(server_root)):
        if path == prefix or path.startswith(f"{prefix}/"):
            return path[len(prefix) :], root
    return path, root
