"""Which route answered a request that came by ASGI: read where each framework leaves it, without matching again."""

from __future__ import annotations

from typing import Any

from usage_middleware.capture.identity import Scope
from usage_middleware.capture.places import MOUNTED, Place, routes_of, walk
from usage_middleware.capture.templates import best, relative_path, template_of
from usage_middleware.request_keys import ROUTE

#: Leaves that no walk found. Beyond so many, an application that makes routes as it goes no longer costs a walk each.
_MAX_UNKNOWN = 64
_MAX_INDEXES = 64


class _Leaf:
    """All places of one route, or of one endpoint. Holds on to it, so that no other object gets its id."""

    __slots__ = ("endpoint", "routed", "templates", "thing")

    def __init__(self, thing: Any, place: Place) -> None:
        self.thing = thing
        self.endpoint = place.endpoint
        self.routed = place.routed
        self.templates = [place.template]


class RouteIndex:
    """The full templates of all routes of one Starlette router, mounts and included routers within it as well."""

    def __init__(self, router: Any) -> None:
        self.router = router
        self._leaves: dict[int, _Leaf] = {}
        self._mounts: list[str] = []
        self._unknown: dict[int, Any] = {}
        #: By id of a route whose template is the same whatever the request: its endpoint and template, and what holds on to it.
        self.plain: dict[int, tuple[Any, str, _Leaf]] = {}
        self._build()

    def _build(self) -> None:
        leaves: dict[int, _Leaf] = {}
        mounts: list[str] = []
        for place in walk(routes_of(self.router)):
            for thing in (place.leaf, place.endpoint):
                leaf = leaves.setdefault(id(thing), _Leaf(thing, place))
                if place.template not in leaf.templates:
                    leaf.templates.append(place.template)
            if place.prefix is not None:
                mounts.append(place.prefix)
        self._leaves, self._mounts = leaves, mounts
        self.plain.clear()

    def find(self, thing: Any) -> _Leaf | None:
        """What is known of a route, a FastAPI route context or an endpoint; walks again for one not seen before."""
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

    def mount_of(self, path: str) -> str | None:
        """The template of the mount with this concrete path, for an application behind it whose routes can't be walked."""
        return best(self._mounts, path)


class ScopeTemplates:
    """Reads the template of an answered request out of its ASGI scope."""

    def __init__(self) -> None:
        self._indexes: dict[int, RouteIndex] = {}

    def template(self, scope: Scope, path: str, status: int) -> str | None:
        """The template under which the request was answered; None where nothing matched.

        `path` is the path as it was before the application ran.
        """
        given = scope.get(ROUTE)
        if given is not None:
            return template_of(given)
        router = scope.get("router")
        if router is None:
            given = scope.get("path_template")  # Litestar
            return given if given is None else template_of(given)
        index = self._indexes.get(id(router))
        if index is None or index.router is not router:
            index = self._indexed(router)
        route = scope.get("route")
        thing = _leaf_of(scope, route) if "fastapi" in scope else route
        plain = index.plain.get(id(thing))
        if plain is not None and plain[0] is scope.get("endpoint"):
            return plain[1]
        return _starlette(index, scope, thing, path, status)

    def _indexed(self, router: Any) -> RouteIndex:
        if len(self._indexes) >= _MAX_INDEXES:
            self._indexes.clear()
        index = self._indexes[id(router)] = RouteIndex(router)
        return index


def _starlette(index: RouteIndex, scope: Scope, thing: Any, path: str, status: int) -> str | None:
    endpoint = scope.get("endpoint")
    if thing is None and endpoint is None:
        return _frontend(index, scope, path, status)
    leaf = None if thing is None else index.find(thing)
    if endpoint is not None and (leaf is None or leaf.endpoint is not endpoint):
        # No route in the scope (old Starlette, FastAPI's plain routes), or one that a router further out left there.
        leaf = index.find(endpoint) or leaf
    if leaf is not None and leaf.routed and status == 404:
        return None
    if leaf is not None and len(leaf.templates) == 1:
        if leaf.thing is thing and leaf.endpoint is endpoint and not leaf.routed:
            index.plain[id(thing)] = endpoint, leaf.templates[0], leaf
        return leaf.templates[0]
    found = None if leaf is None else best(leaf.templates, _within(scope, path))
    return found or _unwalked(index, scope, thing, status)


def _leaf_of(scope: Scope, route: Any) -> Any:
    """FastAPI's context of the route, which knows the prefixes of routers included; else the route."""
    notes = scope.get("fastapi")
    if notes:
        context = notes.get("effective_route_context")
        if context is not None and context.original_route is route:
            return context
    return route


def _frontend(index: RouteIndex, scope: Scope, path: str, status: int) -> str | None:
    """The template of files that FastAPI serves as a frontend; it leaves the file's path and nothing else."""
    file = (scope.get("fastapi") or {}).get("frontend_path")
    if file is None or status == 404:
        return None
    mount = _mount(index, scope)
    relative = _within(scope, path)[len(_mounted_at(scope)) :]
    return None if mount is None else mount + relative.removesuffix(file).rstrip("/") + MOUNTED


def _unwalked(index: RouteIndex, scope: Scope, route: Any, status: int) -> str | None:
    """The template of a route within a mounted application that hides its routes: the mount's and, if known, its own."""
    relative = getattr(route, "path_format", None)
    mount = _mount(index, scope)
    if relative is None and mount and status != 404:
        relative = MOUNTED
    return None if relative is None or mount is None else mount + relative


def _mount(index: RouteIndex, scope: Scope) -> str | None:
    concrete = _mounted_at(scope)
    return index.mount_of(concrete) if concrete else ""


def _mounted_at(scope: Scope) -> str:
    """The concrete path of the mounts that the request passed, which the last of them left in `root_path`."""
    root: str = scope.get("root_path", "")
    return root[len(scope["app_root_path"]) :] if "app_root_path" in scope else ""


def _within(scope: Scope, path: str) -> str:
    """A path without the prefix of the deployment."""
    return relative_path(path, scope.get("app_root_path", scope.get("root_path", "")))
