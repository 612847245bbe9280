"""Connexion, around Flask and asynchronous: a middleware after its routing leaves the path of the operation."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from usage_middleware.capture.frameworks.framework import Route, declared, routes_of
from usage_middleware.capture.frameworks.hooked import Hooked, leave
from usage_middleware.capture.frameworks.under import applications
from usage_middleware.capture.templates import best, template_of


class Connexion(Hooked):
    """Connexion. Its own routers work on copies of the scope."""

    def hook(self, app: Any) -> bool:
        """See `Hooked.hook`."""
        if not _is_connexion(app):
            return False
        if app.middleware_stack is None and not any(getattr(one, "func", None) is _Leaving for one in app.middlewares):
            position = sys.modules["connexion.middleware"].MiddlewarePosition.BEFORE_SECURITY
            app.add_middleware(_Leaving, position=position, stack=partial(getattr, app, "middleware_stack"))
        return True

    def routes(self, app: Any) -> Iterable[Route]:
        """The operations of the specifications."""
        for one in applications(app):
            if _is_connexion(one):
                for _, method, template in _operations(one.middleware_stack or ()):
                    yield Route(method, template)


class _Leaving:
    """Stands after Connexion's routing, which tells it the operation's id."""

    def __init__(self, app: Any, stack: Any) -> None:
        self._app = app
        self._stack = stack
        self._templates: dict[str, list[str]] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            leave(scope, self._template(scope))
        await self._app(scope, receive, send)

    def _template(self, scope: Any) -> str | None:
        if self._templates is None:
            self._templates = {}
            for operation, _, template in _operations(self._stack()):
                self._templates.setdefault(operation, []).append(template)
        routed = scope.get("extensions", {}).get("connexion_routing", {})
        templates = list(dict.fromkeys(self._templates.get(routed.get("operation_id"), ())))
        return templates[0] if len(templates) == 1 else best(templates, scope["path"])


def _is_connexion(app: Any) -> bool:
    return hasattr(app, "middleware_stack") and hasattr(app, "middlewares") and hasattr(app, "specification_dir")


def _operations(stack: Iterable[Any]) -> Iterator[tuple[str, str, str]]:
    """The operations of a stack of middlewares: id, method and template."""
    routing = [one.router for one in stack if type(one).__name__ == "RoutingMiddleware"]
    for mount in (mount for router in routing for mount in routes_of(router)):
        for route in routes_of(mount):
            for method in declared(getattr(route, "methods", None)):
                yield route.endpoint.operation_id, method, template_of(mount.path.rstrip("/") + route.path_format)
