"""A WSGI application within an ASGI one, by the adapters of Starlette, a2wsgi, asgiref or a host's own: its route."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, iscoroutinefunction, signature
from typing import Any

from usage_middleware.capture.call import Call
from usage_middleware.capture.frameworks.bottle import bottle_template
from usage_middleware.capture.frameworks.flask import flask_rule
from usage_middleware.capture.frameworks.hooked import LEFT, Hooked, leave
from usage_middleware.capture.templates import template_of
from usage_middleware.request_keys import CALL

#: Where adapters keep their application.
_PLACES = ("wsgi_application", "app")


class Bridge(Hooked):
    """Adapters from ASGI to WSGI. They make an environ of their own, which the middleware doesn't see."""

    def hook(self, app: Any) -> bool:
        """See `Hooked.hook`."""
        place = _place(app) if iscoroutinefunction(type(app).__call__) else None
        if place is None:
            return False
        inner = getattr(app, place)
        if not isinstance(inner, _Bridged):
            setattr(app, place, _Bridged(inner))
        return True


def _place(app: Any) -> str | None:
    """Where an ASGI application keeps a WSGI one that it passes requests on to; None if it has none."""
    return next((place for place in _PLACES if _is_wsgi(getattr(app, place, None))), None)


def _is_wsgi(app: Any) -> bool:
    """True for what is called with an environ and `start_response`, and doesn't have to be awaited."""
    if isinstance(app, _Bridged):
        return True
    if not callable(app) or isinstance(app, type) or iscoroutinefunction(app) or iscoroutinefunction(type(app).__call__):
        return False
    try:
        given = signature(app).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return len(given) == 2 and all(one.kind in kinds and one.default is Parameter.empty for one in given)


class _Bridged:
    """Takes the call of the scope over into the environ, and a route of Flask or Bottle back."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __getattr__(self, name: str) -> Any:
        # A host may ask its application for more than to be called. A copy in the making has no application yet.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.app, name)

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
