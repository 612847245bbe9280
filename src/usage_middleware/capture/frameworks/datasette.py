"""Datasette: each view is wrapped in a function that leaves the route's template."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import update_wrapper
from typing import Any

from usage_middleware.capture.frameworks.framework import Route
from usage_middleware.capture.frameworks.hooked import Hooked, leave
from usage_middleware.capture.frameworks.under import applications
from usage_middleware.capture.regexes import regex_template
from usage_middleware.capture.templates import template_of


class Datasette(Hooked):
    """Datasette. Its routes are regular expressions, matched one after another."""

    def hook(self, app: Any) -> bool:
        """See `Hooked.hook`."""
        if not _is_datasette(app):
            return False
        app.routes[:] = [(regex, _leaving(regex, view)) for regex, view in app.routes]
        return True

    def routes(self, app: Any) -> Iterable[Route]:
        """The pages, as GET, without static files."""
        for one in applications(app):
            if _is_datasette(one):
                for regex, view in one.routes:
                    if not getattr(view, "_datasette_static", False):
                        yield Route("GET", _template(regex))


def _is_datasette(app: Any) -> bool:
    return hasattr(app, "route_path") and hasattr(app, "ds") and isinstance(getattr(app, "routes", None), list)


def _leaving(regex: Any, view: Any) -> Callable[..., Any]:
    if getattr(view, "leaves_template", False):
        return view  # type: ignore[no-any-return]
    template = _template(regex)

    def leaving(request: Any, send: Any) -> Any:
        leave(request.scope, template)
        return view(request, send)

    update_wrapper(leaving, view)
    # Datasette knows its icon by the function, and every other file by this mark.
    is_file = getattr(view, "_datasette_static", False) or getattr(view, "__name__", "") == "favicon"
    vars(leaving).update(leaves_template=True, _datasette_static=is_file)
    return leaving


def _template(regex: Any) -> str:
    return template_of(regex_template(regex.pattern))
