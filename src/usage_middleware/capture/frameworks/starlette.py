"""Starlette: its routes under mounts and hosts, and the route that it leaves in the scope."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.copied import see_through
from usage_middleware.capture.frameworks.framework import (
    MAX_DEPTH,
    Framework,
    Route,
    declared,
    is_usage_app,
    routed_of,
    routes_of,
)
from usage_middleware.capture.frameworks.hooked import LEFT, root_left, template_left
from usage_middleware.capture.frameworks.hooks import hook
from usage_middleware.capture.templates import best, relative_path, template_of
from usage_middleware.seen_request import Notes

#: How the template of a mount ends.
MOUNTED = "/{path}"
#: Routes in the scope that no walk found. After this many, an application that makes routes on the fly costs no more walks.
_MAX_UNKNOWN = 64
_MAX_INDEXES = 64
_VERBS = ("get", "post", "put", "patch", "delete", "options", "trace")


class Place(NamedTuple):
    """One route at one place of an application. A router that is mounted twice has two places for each of its routes."""

    leaf: Any
    endpoint: Any
    template: str
    methods: Collection[str] | None
    public: bool
    #: How the paths below a mount begin; None for what is not a mount.
    prefix: str | None = None
    #: True for a mount whose application has routes, or a hook, of its own: they are the leaves.
    routed: bool = False


Walk: TypeAlias = Callable[[Iterable[Any]], Iterator[Place]]


class Starlette(Framework):
    """Starlette, and what is built on it."""

    routed_key = "router"

    def __init__(self, notes_key: str = "") -> None:
        self._indexes: dict[int, RouteIndex] = {}
        #: The one that was used last: most applications have one router.
        self._last: RouteIndex | None = None
        #: The key under which a framework built on Starlette leaves its own notes; see `leaf`.
        self._notes_key = notes_key

    def template(self, call: Call, error: BaseException | None = None) -> str | None:
        """See `Framework.template`. A route that stands at one place only is found by two look-ups."""
        notes = call.notes
        router = notes["router"]
        index = self._last
        if index is None or index.router is not router:
            index = self._last = self._index(router)
        leaf = notes.get("route")
        if self._notes_key in notes:
            leaf = self.leaf(notes, leaf)
        plain = index.plain.get(id(leaf))
        if plain is not None and plain[0] is notes.get("endpoint"):
            return plain[1]
        if LEFT in notes:
            return _left(index, call)
        if leaf is None and notes.get("endpoint") is None:
            return self.without_route(index, call)
        return _resolve(index, call, leaf)

    def routes(self, app: Any) -> Iterable[Route]:
        """The routes of the application, without its mounts."""
        for place in self.walk(routes_of(app), public=_has_schema(app)):
            for method in declared(place.methods):
                yield Route(method, place.template, place.public)

    def is_usage_redirect(self, call: Call) -> bool:
        """See `Framework.is_usage_redirect`."""
        router = call.notes.get("router")
        if router is None:
            return False
        return best(self._index(router).usage_mounts, within(call)) is not None

    def leaf(self, notes: Notes, route: Any) -> Any:
        """What stands for the route in a walk."""
        return route

    def without_route(self, index: RouteIndex, call: Call) -> str | None:
        """The template of a request that reached neither a route nor an endpoint."""
        return None

    def walk(self, routes: Iterable[Any], prefix: str = "", public: bool = True, depth: int = 0) -> Iterator[Place]:
        """Every place under these routes, in the order in which they match. `public`: their application has a schema."""
        if depth <= MAX_DEPTH:
            for route in tuple(routes):
                yield from self.places(route, prefix, public, depth)

    def places(self, route: Any, prefix: str, public: bool, depth: int) -> Iterator[Place]:
        """The place of a route; of a mount also every place under it."""
        path = getattr(route, "path_format", None)
        endpoint = getattr(route, "endpoint", None)
        app = getattr(route, "app", None)
        if endpoint is not None and path is not None:
            yield Place(route, endpoint, prefix + path, _methods(route, endpoint), public and in_schema(route))
        elif app is not None and (path is not None or hasattr(route, "host_format")):
            under = prefix + (path or "").removesuffix(MOUNTED)
            inner = routes_of(app)
            see_through(app)
            yield Place(route, app, under + MOUNTED, None, False, under, hook(app) or bool(inner))
            yield from self.walk(inner, under, _has_schema(app), depth + 1)

    def _index(self, router: Any) -> RouteIndex:
        index = self._indexes.get(id(router))
        if index is None or index.router is not router:
            if len(self._indexes) >= _MAX_INDEXES:
                self._indexes.clear()
            index = self._indexes[id(router)] = RouteIndex(router, self.walk)
        return index


class _Leaf(NamedTuple):
    """All places of one route, or of one endpoint. Keeps it alive, so that its id is not reused."""

    thing: Any
    endpoint: Any
    routed: bool
    templates: list[str]


class RouteIndex:
    """The full templates of all routes of one router, those under its mounts included."""

    def __init__(self, router: Any, walk: Walk) -> None:
        self.router = router
        self._walk = walk
        self._unknown: dict[int, Any] = {}
        #: By id of a route whose template does not depend on the request: its endpoint, its template, and the leaf that
        #: keeps it alive.
        self.plain: dict[int, tuple[Any, str, _Leaf]] = {}
        self._build()

    def _build(self) -> None:
        leaves: dict[int, _Leaf] = {}
        mounts: list[str] = []
        self.usage_mounts: list[str] = []
        for place in self._walk(routes_of(self.router)):
            for thing in (place.leaf, place.endpoint):
                leaf = leaves.setdefault(id(thing), _Leaf(thing, place.endpoint, place.routed, []))
                if place.template not in leaf.templates:
                    leaf.templates.append(place.template)
            if place.prefix is not None:
                mounts.append(place.prefix)
                if is_usage_app(place.endpoint):
                    self.usage_mounts.append(place.prefix)
        self._leaves, self._mounts = leaves, mounts
        self.plain.clear()

    def find(self, thing: Any) -> _Leaf | None:
        """What is known of a leaf or an endpoint; walks again for one not seen before."""
        leaf = self._leaves.get(id(thing))
        if leaf is not None and leaf.thing is thing:
            return leaf
        if id(thing) in self._unknown or len(self._unknown) >= _MAX_UNKNOWN:
            return None
        self._build()
        leaf = self._leaves.get(id(thing))
        if leaf is None:
            self._unknown[id(thing)] = thing
        return leaf

    def mount(self, notes: Notes) -> str | None:
        """The template of the mounts that a request passed: "" if none, None if they can't be walked."""
        concrete = mounted_at(notes)
        return best(self._mounts, concrete) if concrete else ""


def mounted_at(notes: Notes) -> str:
    """The concrete path of the mounts that the request passed. The last of them leaves it in `root_path`."""
    root: str = notes.get("root_path", "")
    return root[len(notes["app_root_path"]) :] if "app_root_path" in notes else ""


def within(call: Call) -> str:
    """The path of a request without the prefix of the deployment."""
    notes = call.notes
    return relative_path(call.path, notes.get("app_root_path", notes.get("root_path", "")))


def _left(index: RouteIndex, call: Call) -> str | None:
    """The template of another framework's application that is mounted here: the mount's, and what its hook has left."""
    template, root, outer = template_left(call), root_left(call), mounted_at(call.notes)
    mount = index.mount(call.notes) if outer and root.startswith(outer) else None
    return template and (root if mount is None else mount + root[len(outer) :]) + template


def _resolve(index: RouteIndex, call: Call, thing: Any) -> str | None:
    endpoint = call.notes.get("endpoint")
    leaf = None if thing is None else index.find(thing)
    if endpoint is not None and (leaf is None or leaf.endpoint is not endpoint):
        # The scope has no route (old Starlette, FastAPI's plain routes), or one that an outer router left there.
        leaf = index.find(endpoint) or leaf
    if leaf is not None and leaf.routed:
        inner = call.notes.get("path_template")  # Litestar's
        if inner is not None:
            return (index.mount(call.notes) or "") + template_of(inner)
        if call.status in (404, 405):
            return None
    if leaf is not None and len(leaf.templates) == 1:
        if leaf.thing is thing and leaf.endpoint is endpoint and not leaf.routed:
            index.plain[id(thing)] = endpoint, leaf.templates[0], leaf
        return leaf.templates[0]
    found = None if leaf is None else best(leaf.templates, within(call))
    return found or _unwalked(index, call, thing)


def _unwalked(index: RouteIndex, call: Call, route: Any) -> str | None:
    """The template of a route in a mounted application that hides its routes: the mount's and, if known, its own."""
    relative = getattr(route, "path_format", None)
    mount = index.mount(call.notes)
    if relative is None and mount and call.status != 404:
        relative = MOUNTED
    return None if relative is None or mount is None else mount + relative


def _has_schema(app: Any) -> bool:
    """True for an application that serves a schema of its own routes, which is one of FastAPI's with an `openapi_url`.

    A middleware that is added to it wraps its router alone, which has the route of the schema.
    """
    return bool(getattr(routed_of(app), "openapi_url", None)) or any(_serves_schema(route) for route in routes_of(app))


def _serves_schema(route: Any) -> bool:
    return getattr(getattr(route, "endpoint", None), "__qualname__", "") == "FastAPI.setup.<locals>.openapi"


def in_schema(route: Any) -> bool:
    """True for a route that its application's schema lists: one of FastAPI's own that is not hidden."""
    return hasattr(route, "dependant") and bool(getattr(route, "include_in_schema", True))


def _methods(route: Any, endpoint: Any) -> Collection[str] | None:
    """The methods of a route; of a class with a method for each (`HTTPEndpoint`) those that it has."""
    methods: Collection[str] | None = getattr(route, "methods", None)
    if methods is None and isinstance(endpoint, type):
        methods = [verb.upper() for verb in _VERBS if hasattr(endpoint, verb)]
    return methods
