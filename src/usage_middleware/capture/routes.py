"""The application's own routes, called or not: what it declares to the public."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from usage_middleware.capture.places import MAX_DEPTH, routes_of, walk
from usage_middleware.capture.templates import template_of

_BODYLESS = frozenset({"HEAD"})


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
    if app is None or depth > MAX_DEPTH:
        return []
    if hasattr(app, "url_map"):
        return [(app, prefix)]
    inner = getattr(app, "app", None) or getattr(app, "__self__", None)
    found = _flasks(inner, prefix, depth + 1)
    mounts = getattr(app, "mounts", None)
    for path, mounted in mounts.items() if isinstance(mounts, dict) else ():
        found += _flasks(mounted, prefix + path, depth + 1)
    return found
