"""The frameworks that are understood. A new one is a file in this package, and a line in `ASGI` or in `WSGI`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.bottle import Bottle
from usage_middleware.capture.frameworks.fastapi import FastAPI
from usage_middleware.capture.frameworks.flask import Flask
from usage_middleware.capture.frameworks.framework import Framework, Route, routes_of
from usage_middleware.capture.frameworks.hooked import Hooked
from usage_middleware.capture.frameworks.hooks import HOOKED, hook
from usage_middleware.capture.frameworks.litestar import Litestar
from usage_middleware.capture.templates import template_of
from usage_middleware.request_keys import ROUTE
from usage_middleware.store.members import UNKNOWN, UNMATCHED

#: For each protocol, in the order in which they are asked. FastAPI answers for Starlette too, `Hooked` for all in `HOOKED`.
ASGI: Sequence[type[Framework]] = (FastAPI, Litestar, Hooked)
WSGI: Sequence[type[Framework]] = (Flask, Bottle, Hooked)

logger = logging.getLogger("usage_middleware.capture")

_ALL = (*(framework() for framework in dict.fromkeys((*ASGI, *WSGI))), *HOOKED)


def routes(app: Any) -> list[Route]:
    """The application's own routes, in the order in which it declares them.

    Without the HEAD and OPTIONS that frameworks add, without files and the usage app. Each says whether it is in the schema
    that the application serves. No request has to be made first.
    """
    return list(dict.fromkeys(Route(*route) for framework in _ALL for route in framework.routes(app)))


def prepare(app: Any) -> bool:
    """Give an application, and all under it, what lets their routes be seen. True if it has a hook, and so tells each route."""
    is_hooked = hook(app) and not routes_of(app)
    for _ in FastAPI().walk(routes_of(app)):
        pass  # the walk prepares what is mounted
    return is_hooked


class TemplateFinder:
    """Finds the template of each call that a middleware counts.

    Args:
        frameworks: `ASGI` or `WSGI`.
        app: what the middleware wraps.
        count_error: called with the reason if a scope or environ can't be read.
    """

    def __init__(self, frameworks: Sequence[type[Framework]], app: Any, count_error: Callable[[str], None]) -> None:
        self._frameworks = [framework() for framework in frameworks]
        self._asked = [(framework.routed_key, framework.template) for framework in self._frameworks]
        self.first_key, self.first = self._asked[0]
        self._app = app
        self._count_error = count_error
        self._warned = False
        self._is_hooked = False
        try:
            self._is_hooked = prepare(app)
        except Exception:
            count_error("framework not hooked")

    def find(self, call: Call, error: BaseException | None = None) -> str | None:
        """The template under which a call was answered; None if no route is seen, `(unknown)` if the call can't be read."""
        notes = call.notes
        try:
            given = notes.get(ROUTE)
            if given is not None:
                return template_of(given)
            for routed_key, template in self._asked:
                if routed_key in notes:
                    return template(call, error)
        except Exception:
            return self.unreadable()
        return None

    def unreadable(self) -> str:
        """Note that a scope or environ can't be read; what stands for the template then."""
        self._count_error("template unreadable")
        return UNKNOWN

    def is_usage_redirect(self, call: Call) -> bool:
        """True for a request to the usage app's mount without the slash at its end, which the router redirected."""
        try:
            return any(framework.is_usage_redirect(call) for framework in self._frameworks)
        except Exception:
            self._count_error("template unreadable")
            return False

    def fallback(self, call: Call) -> str:
        """What stands for the template where none was found.

        `(unmatched)` if no route was reached. `(unknown)` if one may have been that can't be seen: of a framework without an
        adapter, or because a middleware in between works on a copy of the scope or environ.
        """
        try:
            if self._is_hooked or any(routed_key in call.notes for routed_key, _ in self._asked):
                return UNMATCHED
            if any(framework.has_routes(self._app) for framework in _ALL):
                if 300 <= call.status < 500:
                    return UNMATCHED
            elif call.status in (404, 405):
                return UNMATCHED
        except Exception:
            self._count_error("template unreadable")
            return UNKNOWN
        if call.status < 400 and not self._warned:
            self._warned = True
            logger.warning(
                "a request was answered and its route can't be seen: there is no adapter for the framework, or a middleware "
                "inside this one answers by itself or passes on a copy of the scope (environ). Such calls count as "
                "'GET (unknown)'. Install the other middleware outside, or leave the template of the route in "
                "scope['usage.route'] (environ['usage.route'])."
            )
        return UNKNOWN

    def is_debug(self) -> bool:
        """True if the application runs with `debug=True`."""
        return any(framework.is_debug(self._app) for framework in _ALL)
