"""Bottle: it leaves the route in the environ."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.framework import Framework, Route, declared
from usage_middleware.capture.frameworks.under import applications
from usage_middleware.capture.templates import template_of

_PARAMETER = re.compile(r"<(\w*)(?::(?:\\.|[^>\\])*)?>|(?<=/):([a-zA-Z_]\w*)(?:#.*?#)?")


class Bottle(Framework):
    """Bottle."""

    routed_key = "bottle.route"

    def template(self, call: Call, error: BaseException | None = None) -> str | None:
        """See `Framework.template`."""
        route = call.notes["bottle.route"]
        return None if route is None else bottle_template(route.rule)

    def routes(self, app: Any) -> Iterable[Route]:
        """The routes, without those that lead to a mounted application of WSGI."""
        for one in applications(app):
            for route in one.routes if hasattr(one, "routes") and hasattr(one, "add_hook") else ():
                if "mountpoint.target" not in route.config:
                    for method in declared([route.method], ("ANY", "PROXY")):
                        yield Route(method, bottle_template(route.rule))


@lru_cache(maxsize=1024)
def bottle_template(rule: str) -> str:
    """A rule of Bottle, which writes `<name:filter>`, or in its old syntax `:name#regex#`.

    >>> bottle_template("/packages/:filename#.*#"), bottle_template("/mounted/<:re:.*>")
    ('/packages/{filename}', '/mounted/{path}')
    """
    return template_of(_PARAMETER.sub(lambda found: f"{{{found[1] or found[2] or 'path'}}}", rule))
