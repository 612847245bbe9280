"""Litestar: it leaves the template of the route in the scope."""

from __future__ import annotations

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.framework import Framework
from usage_middleware.capture.templates import template_of


class Litestar(Framework):
    """Litestar. Its routes are not listed."""

    routed_key = "path_template"

    def template(self, call: Call, error: BaseException | None = None) -> str | None:
        """See `Framework.template`."""
        found = call.notes["path_template"]
        return None if found is None else template_of(found)
