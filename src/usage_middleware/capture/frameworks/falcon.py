"""Falcon, WSGI and ASGI: a component leaves the template of each request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from usage_middleware.capture.frameworks.framework import Route
from usage_middleware.capture.frameworks.hooked import Hooked, leave
from usage_middleware.capture.frameworks.under import applications
from usage_middleware.capture.regexes import regex_template
from usage_middleware.capture.templates import template_of


class Falcon(Hooked):
    """Falcon."""

    def hook(self, app: Any) -> bool:
        """See `Hooked.hook`."""
        if not _is_falcon(app):
            return False
        if not any(isinstance(one, _Component) for one in getattr(app, "_unprepared_middleware", ())):
            app.add_middleware(_Component(app))
        return True

    def routes(self, app: Any) -> Iterable[Route]:
        """The routes with a resource, without Falcon's own OPTIONS; sinks and static files are none."""
        for one in applications(app):
            if _is_falcon(one):
                yield from _routes(one._router._roots)


class _Component:
    """Runs first of all that see a response, also where another component has refused the request."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def process_response(self, req: Any, resp: Any, resource: Any, req_succeeded: bool) -> None:
        self._leave(req.env, req)

    async def process_response_async(self, req: Any, resp: Any, resource: Any, req_succeeded: bool) -> None:
        self._leave(req.scope, req)

    def _leave(self, notes: Any, req: Any) -> None:
        template = req.uri_template
        if template is not None:
            leave(notes, template_of(template))
        else:
            leave(notes, self._sink(req.path), only_if_found=True)

    def _sink(self, path: str) -> str | None:
        """The template of a sink or of static files, which have no route."""
        for pattern, _, _ in self._app._sinks:
            if pattern.match(path):
                return template_of(regex_template(pattern.pattern)).rstrip("/") + "/{path}"
        for static, _, _ in self._app._static_routes:
            if static.match(path):
                return f"{static._prefix}{{path}}"
        return None


def _is_falcon(app: Any) -> bool:
    return hasattr(app, "add_middleware") and hasattr(app, "add_sink") and hasattr(app, "_router")


def _routes(nodes: Iterable[Any]) -> Iterator[Route]:
    for node in nodes:
        if node.resource is not None:
            for method, responder in sorted((node.method_map or {}).items()):
                if hasattr(node.resource, getattr(responder, "__name__", "")):
                    yield Route(method, template_of(node.uri_template))
        yield from _routes(node.children)
