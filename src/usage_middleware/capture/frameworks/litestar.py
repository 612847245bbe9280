"""Litestar: it leaves the template of the route in the scope. Its own middlewares see no request that matches no route."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.framework import MAX_DEPTH, Framework, Route, declared
from usage_middleware.capture.frameworks.under import applications
from usage_middleware.capture.templates import template_of


class Litestar(Framework):
    """Litestar."""

    routed_key = "path_template"

    def template(self, call: Call, error: BaseException | None = None) -> str | None:
        """See `Framework.template`."""
        found = call.notes["path_template"]
        return None if found is None else template_of(found)

    def routes(self, app: Any) -> Iterable[Route]:
        """The routes of the application's schema: without those hidden by `include_in_schema=False`."""
        for one in applications(app):
            for route in one.routes if hasattr(one, "asgi_router") else ():
                for handler in getattr(route, "route_handlers", ()):
                    if handler.resolve_include_in_schema():
                        for method in declared(handler.http_methods, ("OPTIONS",)):
                            yield Route(method, template_of(route.path_format))


def wrap_litestar(middleware: Any) -> None:
    """If a middleware is one of Litestar's own, have its like wrap the whole application when that starts.

    Litestar runs its middlewares for each route, after the match: a 404 without a route would reach none of them.
    """
    litestar = _litestar_around(middleware.app)
    if litestar is None or not any(_kind(one) is type(middleware) for one in litestar.middleware):
        return
    if not any(isinstance(hook, partial) and hook.func is _install for hook in litestar.on_startup):
        litestar.on_startup.append(partial(_install, middleware))


def _install(middleware: Any, litestar: Any) -> None:
    if not isinstance(litestar.asgi_handler, type(middleware)):
        # The middleware has a `capture`, as a `Usage` has, and that is all that one needs.
        litestar.asgi_handler = type(middleware)(litestar.asgi_handler, middleware)


def _kind(middleware: Any) -> Any:
    """What a middleware in Litestar's list makes: it may be a class, a `DefineMiddleware` or a partial."""
    return getattr(middleware, "middleware", None) or getattr(middleware, "func", None) or middleware


def _litestar_around(app: Any) -> Any:
    """The Litestar application of which `app` answers a route; None for anything else."""
    for one in applications(app):
        route = getattr(one, "__self__", None)
        owner = next(iter(getattr(route, "route_handlers", ())), None) or getattr(route, "route_handler", None)
        for _ in range(MAX_DEPTH):
            if owner is None or hasattr(owner, "asgi_router"):
                break
            owner = getattr(owner, "owner", None)
        if owner is not None:
            return owner
    return None
