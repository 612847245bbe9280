"""Pyramid: a subscriber leaves the pattern of the route of each request."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from usage_middleware.capture.frameworks.framework import Route
from usage_middleware.capture.frameworks.hooked import Hooked, leave
from usage_middleware.capture.frameworks.under import applications
from usage_middleware.capture.templates import template_of
from usage_middleware.request_keys import USAGE_APP

_OLD_PARAMETER = re.compile(r"(?<=/):(\w+)")
_REST = re.compile(r"/?\*(\w+)$")
#: The template of what is found by traversal alone, without a route.
TRAVERSED = "/{traverse}"


class Pyramid(Hooked):
    """Pyramid."""

    def hook(self, app: Any) -> bool:
        """See `Hooked.hook`."""
        if not _is_pyramid(app):
            return False
        event = sys.modules["pyramid.interfaces"].IBeforeTraversal
        if not any(handler.handler is _leave for handler in app.registry.registeredHandlers()):
            app.registry.registerHandler(_leave, (event,))
        return True

    def routes(self, app: Any) -> Iterable[Route]:
        """The routes that have views, with the methods of their views; without static files."""
        for one in applications(app):
            if _is_pyramid(one):
                yield from _routes(one.registry.introspector, one.routes_mapper)


def _leave(event: Any) -> None:
    request = event.request
    route = getattr(request, "matched_route", None)
    if route is None:
        leave(request.environ, TRAVERSED, only_if_found=True)
    else:
        leave(request.environ, pyramid_template(route.pattern))


@lru_cache(maxsize=1024)
def pyramid_template(pattern: str) -> str:
    """A pattern of Pyramid, which may end in `*name`, and may have parameters as `:name`.

    >>> pyramid_template("items/{id:[0-9]+}/:part/*rest")
    '/items/{id}/{part}/{rest}'
    """
    return template_of(_REST.sub(r"/{\1}", _OLD_PARAMETER.sub(r"{\1}", template_of(pattern))))


def _is_pyramid(app: Any) -> bool:
    return hasattr(app, "routes_mapper") and hasattr(app, "registry") and hasattr(app, "request_factory")


def _routes(introspector: Any, mapper: Any) -> Iterable[Route]:
    views = [entry["introspectable"] for entry in introspector.get_category("views") or ()]
    for route in mapper.get_routes() if mapper is not None else ():
        methods: set[str] = set()
        for view in views:
            if view["route_name"] == route.name and not getattr(view["callable"], USAGE_APP, False):
                found = view["request_methods"] or ("GET",)
                methods |= {found} if isinstance(found, str) else set(found)
        for method in sorted(methods - {"HEAD"}):
            yield Route(method, pyramid_template(route.pattern))
