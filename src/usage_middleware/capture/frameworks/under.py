"""What a middleware was given to wrap, and all applications under it: in other middlewares, mounts and closures."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any

from usage_middleware.capture.frameworks.framework import routes_of

#: Where frameworks and middlewares keep what they call.
_ATTRIBUTES = ("__self__", "app", "asgi", "asgi_app", "wsgi", "wsgi_app", "application", "wsgi_application", "middleware")
#: Where they keep several applications by name or path.
_MAPPINGS = ("mounts", "application_mapping")
#: So many things are looked at, in one process once for each middleware.
_MOST = 500


def applications(app: Any) -> list[Any]:
    """An application and what is under it, as far as that can be seen, each once."""
    seen: dict[int, Any] = {}
    waiting = [app]
    while waiting and len(seen) < _MOST:
        one = waiting.pop()
        if id(one) not in seen:
            seen[id(one)] = one
            waiting.extend(reversed([inner for inner in _inside(one) if callable(inner)]))
    return list(seen.values())


def _inside(app: Any) -> Iterator[Any]:
    if isinstance(app, type):
        return
    if isinstance(app, FunctionType):
        yield from _closed_over(app)
        return
    for name in _ATTRIBUTES:
        yield _attribute(app, name)
    for name in _MAPPINGS:
        mapping = _attribute(app, name)
        yield from mapping.values() if isinstance(mapping, dict) else ()
    yield from _mounted(app)


def _mounted(app: Any) -> Iterator[Any]:
    """What the mounts and hosts of an application lead to; routes with an endpoint of their own lead nowhere."""
    for route in routes_of(app):
        contexts = _attribute(route, "effective_route_contexts")
        routes = [_attribute(context, "starlette_route") for context in contexts()] if callable(contexts) else [route]
        for one in routes:
            if _attribute(one, "endpoint") is None:
                yield _attribute(one, "app")


def _closed_over(function: FunctionType) -> Iterator[Any]:
    """What a function that is an application, of two or three arguments, calls in its turn."""
    if function.__code__.co_argcount in (2, 3):
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not set yet
                continue


def _attribute(thing: Any, name: str) -> Any:
    """An attribute, or None: some objects, such as Flask's proxies, raise anything."""
    try:
        return getattr(thing, name, None)
    except Exception:
        return None
