"""Flask, also under Werkzeug's DispatcherMiddleware and ProxyFix: the rule of its request in the environ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.framework import MAX_DEPTH, Framework, Route, declared
from usage_middleware.capture.frameworks.wsgi_mounts import WSGIMounts
from usage_middleware.capture.templates import template_of
from usage_middleware.request_keys import USAGE_APP
from usage_middleware.seen_request import Notes


class Flask(Framework):
    """Flask. Its template has to be read when the response starts: Flask empties the environ at the end."""

    routed_key = "werkzeug.request"

    def __init__(self) -> None:
        self._mounts = WSGIMounts()

    def template(self, call: Call, error: BaseException | None = None) -> str | None:
        """See `Framework.template`."""
        notes = call.notes
        rule = getattr(notes.get("werkzeug.request"), "url_rule", None)  # As in `flask_rule`, without a call.
        if rule is None:
            rule = flask_rule(notes, error)
            if rule is None:
                return None
        # Most are mounted nowhere: their requests call one function less.
        return self._mounts.path(notes) + template_of(rule.rule) if notes.get("SCRIPT_NAME") else template_of(rule.rule)

    def routes(self, app: Any) -> Iterable[Route]:
        """The rules of the application, and of those mounted beside it with DispatcherMiddleware."""
        for flask, prefix in _flasks(app):
            for rule in flask.url_map.iter_rules():
                automatic = ("OPTIONS",) if getattr(rule, "provide_automatic_options", False) else ()
                for method in declared(rule.methods, automatic) if _is_listed(flask, rule) else ():
                    yield Route(method, prefix + template_of(rule.rule))

    def has_routes(self, app: Any) -> bool:
        """See `Framework.has_routes`."""
        return any(True for _ in _flasks(app))

    def is_debug(self, app: Any) -> bool:
        """See `Framework.is_debug`."""
        return any(getattr(flask, "debug", False) is True for flask, _ in _flasks(app))


def flask_rule(notes: Notes, error: BaseException | None = None) -> Any:
    """The rule of a request; None if no rule matched."""
    rule = getattr(notes.get("werkzeug.request"), "url_rule", None)
    return _rule_in(error.__traceback__, notes) if rule is None and error is not None else rule


def _rule_in(traceback: TracebackType | None, notes: Notes) -> Any:
    """The rule of a request whose exception Flask let through (PROPAGATE_EXCEPTIONS).

    No response has started, and the environ is empty already. The frame of Flask's `wsgi_app` still holds the request.
    """
    while traceback is not None:
        request = getattr(traceback.tb_frame.f_locals.get("ctx"), "request", None)
        rule = getattr(request, "url_rule", None)
        if rule is not None and getattr(request, "environ", None) is notes:
            return rule
        traceback = traceback.tb_next
    return None


def _is_listed(flask: Any, rule: Any) -> bool:
    """True for a view of the application: neither files nor the usage app. Flask has no schema, so none of them is public."""
    if rule.build_only or rule.websocket or str(rule.endpoint).rpartition(".")[2] == "static":
        return False
    return not getattr(flask.view_functions.get(rule.endpoint), USAGE_APP, False)


def _flasks(app: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[Any, str]]:
    """The Flask applications under middlewares (`.app`), `wsgi_app` methods and DispatcherMiddleware, with their prefixes."""
    if app is None or depth > MAX_DEPTH:
        return
    if hasattr(app, "url_map"):
        yield app, prefix
        return
    yield from _flasks(getattr(app, "app", None) or getattr(app, "__self__", None), prefix, depth + 1)
    mounts = getattr(app, "mounts", None)
    for path, mounted in mounts.items() if isinstance(mounts, dict) else ():
        yield from _flasks(mounted, prefix + path, depth + 1)
