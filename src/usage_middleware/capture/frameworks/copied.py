"""A mounted Starlette or FastAPI behind a middleware that works on a copy of the scope: its match is carried back."""

from __future__ import annotations

from typing import Any

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.framework import MAX_DEPTH
from usage_middleware.request_keys import CALL

#: What Starlette and FastAPI leave in the scope when a route matches.
_MATCH = ("route", "endpoint", "root_path", "app_root_path", "fastapi")


def see_through(app: Any) -> None:
    """If an application is a middleware around a router, have that router carry its match back; else do nothing."""
    router = None if hasattr(app, "routes") else _router_in(app)
    stack = getattr(router, "middleware_stack", None)
    if stack is not None and not isinstance(stack, _CarryingBack):
        router.middleware_stack = _CarryingBack(stack)  # type: ignore[union-attr]


def _router_in(app: Any) -> Any:
    for _ in range(MAX_DEPTH):
        if hasattr(app, "routes"):
            return getattr(app, "router", app)
        app = getattr(app, "app", None)
    return None


class _CarryingBack:
    """In place of a router's own stack of middlewares."""

    def __init__(self, stack: Any) -> None:
        self._stack = stack

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        call = scope.get(CALL)
        if not isinstance(call, Call) or call.notes is scope:
            await self._stack(scope, receive, send)
            return

        async def carrying(message: Any) -> None:
            call.notes.update({key: scope[key] for key in _MATCH if key in scope})
            await send(message)

        await self._stack(scope, receive, carrying)
