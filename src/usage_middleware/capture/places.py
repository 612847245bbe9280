"""Walks the routes of an application: every place of every route, under mounts and in included routers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

#: How a mount's path goes on.
MOUNTED = "/{path}"
#: So deep applications may stand in each other; beyond, one stands in itself.
MAX_DEPTH = 16
_VERBS = ("get", "post", "put", "patch", "delete", "options", "trace")


class Place(NamedTuple):
    """One route at one place of an application. A router that is mounted twice has two places for each of its routes."""

    leaf: Any
    endpoint: Any
    template: str
    methods: Collection[str] | None
    public: bool
    #: How its mounts' paths begin; None for what is not a mount.
    prefix: str | None = None
    #: True for a mount whose application has routes of its own: it is no leaf, they are.
    routed: bool = False


def routes_of(app: Any) -> Sequence[Any]:
    """The routes of an application under any number of middlewares that keep it as `.app`; empty where it has none."""
    for _ in range(MAX_DEPTH):
        routes = getattr(app, "routes", None)
        if isinstance(routes, (list, tuple)):
            return routes
        app = getattr(app, "app", None)
        if app is None:
            break
    return ()


def walk(routes: Iterable[Any], prefix: str = "", public: bool = True, depth: int = 0) -> Iterator[Place]:
    """Every place under these routes, mounts and included routers included, in the order in which they match."""
    if depth > MAX_DEPTH:
        return
    for route in tuple(routes):
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield from _places(route, prefix, public, depth)
        else:
            for context in tuple(contexts()):
                yield from _included(context, prefix, public, depth)


def _included(context: Any, prefix: str, public: bool, depth: int) -> Iterator[Place]:
    """The place of a route in a router that FastAPI (0.137 and later) includes without copying it."""
    plain = getattr(context, "starlette_route", None)
    if plain is not None:
        yield from _places(plain, prefix, public, depth)
    elif context.path_format:
        shown = public and context.include_in_schema
        yield Place(context, context.endpoint, prefix + context.path_format, context.methods, shown)


def _places(route: Any, prefix: str, public: bool, depth: int) -> Iterator[Place]:
    public = public and getattr(route, "include_in_schema", True)
    path = getattr(route, "path_format", None)
    endpoint = getattr(route, "endpoint", None)
    app = getattr(route, "app", None)
    if endpoint is not None and path is not None:
        yield Place(route, endpoint, prefix + path, _methods(route, endpoint), public)
    elif app is not None and (path is not None or hasattr(route, "host_format")):
        under = prefix + (path or "").removesuffix(MOUNTED)
        inner = routes_of(app)
        yield Place(route, app, under + MOUNTED, None, False, under, bool(inner))
        yield from walk(inner, under, public, depth + 1)


def _methods(route: Any, endpoint: Any) -> Collection[str] | None:
    """The methods of a route; of a class with a method for each (`HTTPEndpoint`) those that it has."""
    methods: Collection[str] | None = getattr(route, "methods", None)
    if methods is None and isinstance(endpoint, type):
        methods = [verb.upper() for verb in _VERBS if hasattr(endpoint, verb)]
    return methods
