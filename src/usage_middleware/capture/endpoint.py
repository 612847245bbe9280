"""Which route answered: its template, read where each framework leaves it, by duck typing and without matching again."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from usage_middleware.capture.identity import Environ, Scope
from usage_middleware.marks import ROUTE

_MOUNTED = "/{path}"
_MAX_DEPTH = 16
#: Leaves that no walk found. Beyond so many, an application that makes routes as it goes no longer costs a walk each.
_MAX_UNKNOWN = 64
_MAX_INDEXES = 64

_BRACED = re.compile(r"\{\s*([^{}:]+?)\s*(?::[^{}]*)?\}")
_ANGLED = re.compile(r"<(?:[^<>]*:)?\s*(\w+)\s*>")
_BOTTLED = re.compile(r"<(\w*)(?::[^<>]*)?>")
_PARAMETER = re.compile(r"\{[^{}]*\}")
_VERBS = ("get", "post", "put", "patch", "delete", "options", "trace")
_BODYLESS = frozenset({"HEAD"})


# --- the syntax of templates


@lru_cache(maxsize=4096)
def template_of(rule: str) -> str:
    """A route's rule as we write it, whatever its framework's syntax.

    >>> template_of("/items/<int:id>"), template_of("items/{id:int}"), template_of("^items/(?P<id>[0-9]+)/$")
    ('/items/{id}', '/items/{id}', '/items/{id}/')
    """
    if "(?P<" in rule:
        rule = _without_groups(rule)
    rule = _ANGLED.sub(r"{\1}", _BRACED.sub(r"{\1}", rule))
    return rule if rule.startswith("/") else "/" + rule


@lru_cache(maxsize=1024)
def bottle_template(rule: str) -> str:
    """A rule of Bottle, which writes `<name:filter>` where others write `<converter:name>`."""
    return template_of(_BOTTLED.sub(r"{\1}", rule))


def _without_groups(pattern: str) -> str:
    """A regular expression with `{name}` for each of its named groups."""
    while (start := pattern.find("(?P<")) >= 0:
        name, _, rest = pattern[start + 4 :].partition(">")
        pattern = f"{pattern[:start]}{{{name}}}{rest[_closing(rest) :]}"
    return pattern.removeprefix("^").removesuffix("$").removesuffix("\\Z").replace("\\", "")


def _closing(text: str) -> int:
    """Where the group ends that is open at the beginning of `text`."""
    depth, escaped = 1, False
    for position, character in enumerate(text):
        if not escaped:
            depth += (character == "(") - (character == ")")
        escaped = character == "\\" and not escaped
        if depth == 0:
            return position + 1
    return len(text)


@lru_cache(maxsize=4096)
def _pattern(template: str, value: str) -> re.Pattern[str]:
    """What a concrete path of this template looks like, if parameters look like `value`."""
    return re.compile(value.join(re.escape(part) for part in _PARAMETER.split(template)))


def _best(templates: Sequence[str], path: str) -> str | None:
    """The first of these templates that the path fits. Only asked where there are several."""
    for value in ("[^/]+", ".*"):
        for template in templates:
            if _pattern(template, value).fullmatch(path):
                return template
    return None


# --- walking an application's routes


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
    for _ in range(_MAX_DEPTH):
        routes = getattr(app, "routes", None)
        if isinstance(routes, (list, tuple)):
            return routes
        app = getattr(app, "app", None)
        if app is None:
            break
    return ()


def walk(routes: Iterable[Any], prefix: str = "", public: bool = True, depth: int = 0) -> Iterator[Place]:
    """Every place under these routes, mounts and included routers included, in the order in which they match."""
    if depth > _MAX_DEPTH:
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
        under = prefix + (path or "").removesuffix(_MOUNTED)
        inner = routes_of(app)
        yield Place(route, app, under + _MOUNTED, None, False, under, bool(inner))
        yield from walk(inner, under, public, depth + 1)


def _methods(route: Any, endpoint: Any) -> Collection[str] | None:
    """The methods of a route; of a class with a method for each (`HTTPEndpoint`) those that it has."""
    methods: Collection[str] | None = getattr(route, "methods", None)
    if methods is None and isinstance(endpoint, type):
        methods = [verb.upper() for verb in _VERBS if hasattr(endpoint, verb)]
    return methods


# --- ASGI


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
        return _best(self._mounts, path)


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
    found = None if leaf is None else _best(leaf.templates, _within(scope, path))
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
    return None if mount is None else mount + relative.removesuffix(file).rstrip("/") + _MOUNTED


def _unwalked(index: RouteIndex, scope: Scope, route: Any, status: int) -> str | None:
    """The template of a route within a mounted application that hides its routes: the mount's and, if known, its own."""
    relative = getattr(route, "path_format", None)
    mount = _mount(index, scope)
    if relative is None and mount and status != 404:
        relative = _MOUNTED
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


def relative_path(path: str, root: str) -> str:
    """A path without the prefix of the deployment, which some servers leave in it and others don't.

    >>> relative_path("/api/items", "/api"), relative_path("/items", "/api"), relative_path("/apis", "/api")
    ('/items', '/items', '/apis')
    """
    root = root.rstrip("/")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path


# --- WSGI


def environ_template(environ: Environ, deployment: str) -> str | None:
    """The template of a request out of its WSGI environ, to be read when the response starts: Flask empties it later."""
    given = environ.get(ROUTE)
    if given is not None:
        return template_of(given)
    request = environ.get("werkzeug.request")
    if request is not None:
        rule = getattr(request, "url_rule", None)
        return None if rule is None else script_prefix(environ, deployment) + template_of(rule.rule)
    route = environ.get("bottle.route")
    return None if route is None else bottle_template(route.rule)


def traceback_template(error: BaseException, environ: Environ, deployment: str) -> str | None:
    """The template of a request whose exception Flask let through (PROPAGATE_EXCEPTIONS).

    No response has started, and Flask has already emptied the environ; the frame of its `wsgi_app` still holds the request.
    """
    step = error.__traceback__
    while step is not None:
        request = getattr(step.tb_frame.f_locals.get("ctx"), "request", None)
        rule = getattr(request, "url_rule", None)
        if rule is not None and getattr(request, "environ", None) is environ:
            return script_prefix(environ, deployment) + template_of(rule.rule)
        step = step.tb_next
    return None


def script_prefix(environ: Environ, deployment: str) -> str:
    """Where the answering application is mounted (DispatcherMiddleware): `SCRIPT_NAME` as it is now, less the deployment's.

    The deployment's prefix is the process's own `SCRIPT_NAME` (gunicorn) and what `ProxyFix` took from
    `X-Forwarded-Prefix`; no other can be told from a mount.
    """
    script = wsgi_text(environ.get("SCRIPT_NAME", ""))
    if not script:
        return ""
    forwarded = environ.get("HTTP_X_FORWARDED_PREFIX", "") if "werkzeug.proxy_fix.orig" in environ else ""
    for prefix in (deployment, *forwarded.split(",")):
        script = _less(script, prefix.strip().rstrip("/"))
    return script.rstrip("/")


def _less(path: str, prefix: str) -> str:
    return path[len(prefix) :] if prefix and (path == prefix or path.startswith(prefix + "/")) else path


def deployment_prefix() -> str:
    """The prefix that the process was deployed under, as gunicorn takes it from its own environment."""
    return os.environ.get("SCRIPT_NAME", "").rstrip("/")


def wsgi_text(value: str) -> str:
    """A string of an environ, which carries bytes as Latin-1, read as UTF-8."""
    return value if value.isascii() else value.encode("latin-1", "replace").decode("utf-8", "replace")


# --- the application's own routes


def has_routes(app: Any) -> bool:
    """True for an application, under any middlewares, whose routes can be listed."""
    return bool(routes_of(app)) or bool(_flasks(app))


def routes(app: Any) -> list[tuple[str, str]]:
    """The application's own public routes as (method, template), in the order in which it declares them.

    Those in its public schema: without routes hidden by `include_in_schema=False`, without the HEAD and OPTIONS that
    frameworks add by themselves, without files and the usage app. Understands Starlette, FastAPI and Flask, under
    middlewares and mounts, and `DispatcherMiddleware`. No request need have been made.
    """
    found = [(method, place.template) for place in walk(routes_of(app)) if place.public for method in _declared(place.methods)]
    for flask, prefix in _flasks(app):
        found += _rules(flask, prefix)
    return list(dict.fromkeys(found))


def _declared(methods: Collection[str] | None, automatic: Collection[str] = ()) -> list[str]:
    """Methods without those that nobody declared. Frameworks add HEAD wherever there is GET."""
    known = sorted(methods or ())
    added = {*automatic, *(_BODYLESS if "GET" in known else ())}
    return [method for method in known if method not in added]


def _rules(flask: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for rule in flask.url_map.iter_rules():
        automatic = ("OPTIONS",) if getattr(rule, "provide_automatic_options", False) else ()
        for method in _declared(rule.methods, automatic) if _is_public(flask, rule) else ():
            yield method, prefix + template_of(rule.rule)


def _is_public(flask: Any, rule: Any) -> bool:
    """Flask has no schema: public is every view that does not say otherwise by an attribute, but files."""
    if rule.build_only or rule.websocket or str(rule.endpoint).rpartition(".")[2] == "static":
        return False
    return bool(getattr(flask.view_functions.get(rule.endpoint), "include_in_schema", True))


def _flasks(app: Any, prefix: str = "", depth: int = 0) -> list[tuple[Any, str]]:
    """The Flask applications under middlewares (`.app`), `wsgi_app` methods and DispatcherMiddleware, each with its prefix."""
    if app is None or depth > _MAX_DEPTH:
        return []
    if hasattr(app, "url_map"):
        return [(app, prefix)]
    inner = getattr(app, "app", None) or getattr(app, "__self__", None)
    found = _flasks(inner, prefix, depth + 1)
    mounts = getattr(app, "mounts", None)
    for path, mounted in mounts.items() if isinstance(mounts, dict) else ():
        found += _flasks(mounted, prefix + path, depth + 1)
    return found
