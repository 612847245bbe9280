"""The usage API as a Flask blueprint."""

from __future__ import annotations

from typing import Any

import flask

from usage_middleware.request_keys import leave_out
from usage_middleware.web.auth import Auth, places_of, require_auth
from usage_middleware.web.handler import Handler, HasReports
from usage_middleware.web.wsgi import request_of

#: Flask passes all of them on, so that the error of a method that is not possible is ours.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def usage_blueprint(usage: HasReports, *, auth: Auth | None, cache_seconds: int = 60, name: str = "usage") -> flask.Blueprint:
    """The usage API.

        flask_app.register_blueprint(usage_blueprint(usage, auth=KeyAuth(usage.keys)), url_prefix="/usage")

    Args:
        auth: callable(flask.request) -> Viewer, or None for 401. `KeyAuth(usage.keys)` is one.
        cache_seconds: seconds that Redis keeps an answer; 0: none is kept, and nothing is written.
        name: the blueprint's; choose another for a second one.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    handler, authenticate = Handler(usage.reader, cache_seconds), require_auth(auth, usage.credentials)
    places = places_of(authenticate, usage.credentials)
    blueprint = flask.Blueprint(name, __name__)

    def answer(path: str = "", **_: Any) -> flask.Response:
        leave_out(flask.request.environ)
        request = request_of(flask.request.environ, places)
        mount = request.root + request.path.removesuffix(path).rstrip("/")
        found = handler.answer(request._replace(path=f"/{path}", root=mount), lambda: authenticate(flask.request))
        response = flask.Response(found.body, found.status_line)
        # After the constructor, which sets the length of an answer to HEAD to that of its empty body.
        response.headers.update(dict(found.headers))
        return response

    # The middleware then doesn't list it among the application's endpoints.
    vars(answer)["include_in_schema"] = False
    options: dict[str, Any] = {"methods": METHODS, "strict_slashes": False, "provide_automatic_options": False}
    blueprint.add_url_rule("/", "usage", answer, **options)
    blueprint.add_url_rule("/<path:path>", "usage", answer, **options)
    return blueprint
