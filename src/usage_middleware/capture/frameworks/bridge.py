"""A WSGI application within an ASGI one, by the adapters of Starlette, a2wsgi and asgiref: what it knows of its route."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from typing import Any

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.bottle import bottle_template
from usage_middleware.capture.frameworks.flask import flask_rule
from usage_middleware.capture.frameworks.hooked import LEFT, Hooked, leave
from usage_middleware.capture.templates import template_of
from usage_middleware.request_keys import CALL

#: The adapters by name, and where each keeps its application.
_ADAPTERS = {"WSGIMiddleware": "app", "WsgiToAsgi": "wsgi_application"}


class Bridge(Hooked):
    """Adapters from ASGI to WSGI. They make an environ of their own, which the middleware doesn't see."""

    def hook(self, app: Any) -> bool:
        """See `Hooked.hook`."""
        place = next((_ADAPTERS[kind.__name__] for kind in type(app).__mro__ if kind.__name__ in _ADAPTERS), None)
        if place is None or not iscoroutinefunction(type(app).__call__):
            return False
        inner = getattr(app, place)
        if not isinstance(inner, _Bridged):
            setattr(app, place, _Bridged(inner))
        return True


class _Bridged:
    """Takes the call of the scope over into the environ, and a route of Flask or Bottle back."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        scope = environ.get("asgi.scope") or getattr(getattr(start_response, "__self__", None), "scope", None)
        call = scope.get(CALL) if isinstance(scope, dict) else None
        if not isinstance(call, Call):
            return self.app(environ, start_response)  # type: ignore[no-any-return]
        environ[CALL] = call

        def started(*given: Any, **named: Any) -> Any:
            _leave(environ, call)
            return start_response(*given, **named)

        try:
            return self.app(environ, started)  # type: ignore[no-any-return]
        except BaseException as error:
            _leave(environ, call, error)
            raise


def _leave(environ: dict[str, Any], call: Call, error: BaseException | None = None) -> None:
    """Leave the route of Flask or Bottle; other frameworks have hooks of their own."""
    if "werkzeug.request" in environ or error is not None:
        rule = flask_rule(environ, error)
        if rule is not None or LEFT not in call.notes:
            leave(environ, None if rule is None else template_of(rule.rule))
    elif "bottle.route" in environ:
        leave(environ, bottle_template(environ["bottle.route"].rule))
