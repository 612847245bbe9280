"""The interface of an adapter. Adapters read by duck typing: none of them imports its framework."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeAlias

from usage_middleware.capture.call import Call

#: A method and a template.
Route: TypeAlias = tuple[str, str]

#: Applications, routers and middlewares may be nested this deep. Beyond that, one contains itself.
MAX_DEPTH = 16


class Framework:
    """The adapter of one framework. Each middleware has its own instance, which may cache what it read of the application."""

    #: The key that the framework's router leaves in the scope or environ, whether or not a route matched.
    routed_key: str

    def template(self, call: Call, error: BaseException | None = None) -> str | None:
        """The template of the route that answered a request with `routed_key`; None if no route matched.

        Called after the application has run; under WSGI, when it starts its response, or has raised `error` instead.
        """
        raise NotImplementedError

    def routes(self, app: Any) -> Iterable[Route]:
        """The public routes of an application, in the order in which it declares them. No request has to be made first."""
        return ()

    def has_routes(self, app: Any) -> bool:
        """True for an application of this framework that has routes, public or not."""
        return bool(routes_of(app))

    def is_debug(self, app: Any) -> bool:
        """True for an application of this framework that runs with `debug=True`, where requests don't say so."""
        return False


def routes_of(app: Any) -> Sequence[Any]:
    """The route objects of an application, also under middlewares that keep it as `.app`; empty if it has none."""
    for _ in range(MAX_DEPTH):
        routes = getattr(app, "routes", None)
        if isinstance(routes, (list, tuple)):
            return routes
        app = getattr(app, "app", None)
        if app is None:
            break
    return ()


def declared(methods: Collection[str] | None, automatic: Collection[str] = ()) -> list[str]:
    """The methods of a route that somebody declared: without `automatic`, and without the HEAD that comes with GET."""
    known = sorted(methods or ())
    added = {*automatic, *(("HEAD",) if "GET" in known else ())}
    return [method for method in known if method not in added]
