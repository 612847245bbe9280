"""The interface of an adapter. Adapters read by duck typing: none of them imports its framework."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from usage_middleware.capture.call import Call
from usage_middleware.request_keys import USAGE_APP


class Route(NamedTuple):
    """A route of an application.

    Attributes:
        public: whether the application tells everybody of it, in a schema that it serves.
    """

    method: str
    template: str
    public: bool = False


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
        """The routes of an application, in the order in which it declares them. No request has to be made first."""
        return ()

    def is_usage_redirect(self, call: Call) -> bool:
        """True for a redirect from the path of the usage app's mount to the same with a slash at its end."""
        return False

    def has_routes(self, app: Any) -> bool:
        """True for an application of this framework that has routes, public or not."""
        return bool(routes_of(app))

    def is_debug(self, app: Any) -> bool:
        """True for an application of this framework that runs with `debug=True`, where requests don't say so."""
        return False


def routes_of(app: Any) -> Sequence[Any]:
    """The route objects of an application, also under middlewares that keep it as `.app`; empty if it has none."""
    return getattr(routed_of(app), "routes", ())


def routed_of(app: Any) -> Any:
    """The application that has routes, under middlewares that keep it as `.app`; None if there is none."""
    return next((one for one in _layers(app) if isinstance(getattr(one, "routes", None), (list, tuple))), None)


def is_usage_app(app: Any) -> bool:
    """True for the usage app, also under middlewares."""
    return any(getattr(one, USAGE_APP, False) for one in _layers(app))


def _layers(app: Any) -> Iterator[Any]:
    for _ in range(MAX_DEPTH):
        if app is None:
            return
        yield app
        app = getattr(app, "app", None)


def declared(methods: Collection[str] | None, automatic: Collection[str] = ()) -> list[str]:
    """The methods of a route that somebody declared: without `automatic`, and without the HEAD that comes with GET."""
    known = sorted(methods or ())
    added = {*automatic, *(("HEAD",) if "GET" in known else ())}
    return [method for method in known if method not in added]
