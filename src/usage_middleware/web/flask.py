"""The usage API as a Flask blueprint."""

from __future__ import annotations

from typing import Any, Unpack

import flask

from usage_middleware.request_keys import USAGE_APP, leave_out
from usage_middleware.web.app_options import ViewOptions
from usage_middleware.web.auth import Auth
from usage_middleware.web.handler import HasReports
from usage_middleware.web.wsgi import handler_of, request_of

#: Flask passes all of them on, so that the error of a method that is not possible is ours.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def usage_blueprint(
    usage: HasReports, *, auth: Auth | None, name: str = "usage", **options: Unpack[ViewOptions]
) -> flask.Blueprint:
    """The usage API.

        flask_app.register_blueprint(usage_blueprint(usage, auth=KeyAuth(usage.keys)), url_prefix="/usage")

    Args:
        auth: callable(flask.request) -> Viewer, or None for 401. `KeyAuth(usage.keys)` is one.
        name: the blueprint's and the usage app's; choose another for a second one.
        options: as of `usage_app`; `client_address` gets Flask's request.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    handler = handler_of(usage, auth, {**options, "name": name})
    blueprint = flask.Blueprint(name, __name__)

    def answer(path: str = "", **_: Any) -> flask.Response:
        leave_out(flask.request.environ)
        request = request_of(flask.request.environ)
        mount = request.root + request.path.removesuffix(path).rstrip("/")
        found = handler.answer(request._replace(path=f"/{path}", root=mount), flask.request)
        response = flask.Response(found.body, found.status_line)
        # After the constructor, which sets the length of an answer to HEAD to that of its empty body, and a type for any.
        response.headers.clear()
        response.headers.update(dict(found.headers))
        return response

    vars(answer)[USAGE_APP] = True
    rule: dict[str, Any] = {"methods": METHODS, "strict_slashes": False, "provide_automatic_options": False}
    blueprint.add_url_rule("/", "usage", answer, **rule)
    blueprint.add_url_rule("/<path:path>", "usage", answer, **rule)
    return blueprint
