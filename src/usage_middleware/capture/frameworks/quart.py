"""Quart: a function before each request leaves its rule."""

from __future__ import annotations

import sys
from typing import Any

from usage_middleware.capture.frameworks.hooked import Hooked, leave
from usage_middleware.capture.templates import template_of


class Quart(Hooked):
    """Quart. Its routes are listed as those of Flask."""

    def hook(self, app: Any) -> bool:
        """See `Hooked.hook`."""
        if not (hasattr(app, "asgi_app") and hasattr(app, "before_request_funcs") and "quart" in sys.modules):
            return False
        before = app.before_request_funcs.setdefault(None, [])
        if _leave not in before:
            before.insert(0, _leave)
        return True


async def _leave() -> None:
    request = sys.modules["quart"].request
    rule = request.url_rule
    leave(request.scope, None if rule is None else template_of(rule.rule))
