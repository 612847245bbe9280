"""Bottle: it leaves the route in the environ."""

from __future__ import annotations

import re
from functools import lru_cache

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.framework import Framework
from usage_middleware.capture.templates import template_of

_PARAMETER = re.compile(r"<(\w*)(?::(?:\\.|[^<>\\])*)?>|(?<=/):([a-zA-Z_]\w*)(?:#.*?#)?")


class Bottle(Framework):
    """Bottle. Its routes are not listed."""

    routed_key = "bottle.route"

    def template(self, call: Call, error: BaseException | None = None) -> str | None:
        """See `Framework.template`."""
        route = call.notes["bottle.route"]
        return None if route is None else bottle_template(route.rule)


@lru_cache(maxsize=1024)
def bottle_template(rule: str) -> str:
    """A rule of Bottle, which writes `<name:filter>` where others write `<converter:name>`."""
    return template_of(_PARAMETER.sub(r"{\1}", rule))
