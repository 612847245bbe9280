"""The usage API as a Flask blueprint, for hosts that would rather register than dispatch."""

from __future__ import annotations

from typing import Any

import flask

from usage_middleware.web.auth import Auth, require_auth
from usage_middleware.web.handler import Handler, HasReports, leave_out
from usage_middleware.web.wsgi import request_of

#: All that Flask routes here, so that ours is the answer to the methods that are not possible.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def usage_blueprint(usage: HasReports, *, auth: Auth | None, cache_seconds: int = 60, name: str = "usage") -> flask.Blueprint:
    """The usage API.

        flask_app.register_blueprint(usage_blueprint(usage, auth=KeyAuth(usage.keys)), url_prefix="/usage")

    Args:
        auth: callable(flask.request) -> Viewer, or None for 401. `KeyAuth(usage.keys)` is one.
        cache_seconds: for how long Redis keeps an answer; 0: not at all, and nothing is written.
        name: of the blueprint, where there are two.

    Raises:
        ConfigurationError: an argument that can't be.
    """
    site, asks = Handler(usage.reader, cache_seconds), require_auth(auth)
    blueprint = flask.Blueprint(name, __name__)

    def answer(path: str = "", **_: Any) -> flask.Response:
        request = flask.request
        leave_out(request.environ)
        asked = request_of(request.environ)
        mount = asked.root + asked.path.removesuffix(path).rstrip("/")
        found = site.answer(asked._replace(path=f"/{path}", root=mount), lambda: asks(request))
        response = flask.Response(found.body, found.status_line)
        # Only now: the constructor would set the length of HEAD's answer to that of its empty body.
        response.headers.update(dict(found.headers))
        return response

    # What says to our own middleware that this is none of the application's endpoints.
    vars(answer)["include_in_schema"] = False
    options: dict[str, Any] = {"methods": METHODS, "strict_slashes": False, "provide_automatic_options": False}
    blueprint.add_url_rule("/", "usage", answer, **options)
    blueprint.add_url_rule("/<path:path>", "usage", answer, **options)
    return blueprint
