"""Django, with Django REST framework: a view middleware leaves the route of each request."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import Any

from usage_middleware.capture.frameworks.framework import MAX_DEPTH, Route
from usage_middleware.capture.frameworks.hooked import Hooked, leave
from usage_middleware.capture.frameworks.under import applications
from usage_middleware.capture.regexes import regex_template
from usage_middleware.capture.templates import template_of
from usage_middleware.request_keys import USAGE_APP

_PARAMETER = re.compile(r"(?<!\?P)<(?:[^<>]*:)?\s*(\w+)>")
_REGEX = re.compile(r"[\^$\\(\[]")
_VERBS = ("get", "post", "put", "patch", "delete")


class Django(Hooked):
    """Django. It never looks at the views: one function runs before each."""

    def hook(self, app: Any) -> bool:
        """See `Hooked.hook`."""
        middlewares = getattr(app, "_view_middleware", None)
        if not isinstance(middlewares, list) or not hasattr(app, "resolve_request"):
            return False
        leaving = _leave_async if iscoroutinefunction(type(app).__call__) else _leave
        if leaving not in middlewares:
            middlewares.insert(0, leaving)
        return True

    def routes(self, app: Any) -> Iterable[Route]:
        """The routes of the project's URLconf, without those of the admin, of files and of Django REST framework's suffixes.

        A function has no methods that can be seen: it is listed under GET.
        """
        if any(hasattr(one, "_view_middleware") or hasattr(one, "lists_django") for one in applications(app)):
            yield from django_routes()

    def is_debug(self, app: Any) -> bool:
        """See `Framework.is_debug`."""
        return any(hasattr(one, "_view_middleware") for one in applications(app)) and bool(
            sys.modules["django.conf"].settings.DEBUG
        )


def django_routes() -> Iterator[Route]:
    """The routes of the project's URLconf; see `Django.routes`."""
    for route, callback in _patterns(sys.modules["django.urls"].get_resolver().url_patterns):
        template = django_template(route)
        is_file = callback.__module__ == "django.views.static"
        if not is_file and "{format}" not in template and not getattr(callback, USAGE_APP, False):
            for method in _methods(callback):
                yield Route(method, template)


def _patterns(patterns: Iterable[Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Each route with its view, in the order in which they match."""
    for pattern in patterns if depth <= MAX_DEPTH else ():
        route = prefix + str(pattern.pattern)
        inner = getattr(pattern, "url_patterns", None)
        if inner is None:
            yield route, pattern.callback
        elif pattern.app_name != "admin":
            yield from _patterns(inner, route, depth + 1)


def _methods(callback: Any) -> list[str]:
    """The methods of a view: of a viewset its actions, of a class those that it has."""
    actions = getattr(callback, "actions", None)
    kind = getattr(callback, "view_class", None) or getattr(callback, "cls", None)
    if actions is None and kind is None:
        return ["GET"]
    return [verb.upper() for verb in _VERBS if (hasattr(kind, verb) if actions is None else verb in actions)]


def _leave(request: Any, view: Any, args: Any, kwargs: Any) -> None:
    leave(request.environ, django_template(request.resolver_match.route))


async def _leave_async(request: Any, view: Any, args: Any, kwargs: Any) -> None:
    leave(request.scope, django_template(request.resolver_match.route))


@lru_cache(maxsize=4096)
def django_template(route: str) -> str:
    r"""A route as Django joins it: of `path()` with `<converter:name>`, of `re_path()` a regular expression, or both.

    >>> django_template("api/<int:version>/^items/(?P<pk>[^/.]+)/$")
    '/api/{version}/items/{pk}/'
    """
    route = _PARAMETER.sub(r"{\1}", route)
    return template_of(regex_template(route) if _REGEX.search(route) else route)
