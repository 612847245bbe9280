"""The usage API as a Quart blueprint."""

from __future__ import annotations

from typing import Any, Unpack

import quart

from usage_middleware.request_keys import USAGE_APP, leave_out
from usage_middleware.web.app_options import ViewOptions
from usage_middleware.web.auth import Auth
from usage_middleware.web.handler import HasReports
from usage_middleware.web.http import Request, Response
from usage_middleware.web.wsgi import handler_of

#: Quart passes all of them on, so that the error of a method that is not possible is ours.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def usage_blueprint(
    usage: HasReports, *, auth: Auth | None, name: str = "usage", **options: Unpack[ViewOptions]
) -> quart.Blueprint:
    """The usage API.

        quart_app.register_blueprint(usage_blueprint(usage, auth=KeyAuth(usage.keys)), url_prefix="/usage")

    Args:
        auth: callable(quart.request) -> Viewer, or None for 401; run in a thread. `KeyAuth(usage.keys)` is one.
        name: the blueprint's and the usage app's; choose another for a second one.
        options: as of `usage_app`.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    handler = handler_of(usage, auth, {**options, "name": name})
    blueprint = quart.Blueprint(name, __name__)

    async def answer(path: str = "", **_: Any) -> quart.Response:
        leave_out(quart.request.scope)  # type: ignore[arg-type]
        asked = _request(path)
        found: Response = await quart.utils.run_sync(handler.answer)(asked, quart.request)
        response = quart.Response(found.body, found.status)
        # After the constructor, which sets the length of an answer to HEAD to that of its empty body.
        response.headers.update(dict(found.headers))
        return response

    # The middleware then doesn't list it among the application's endpoints.
    vars(answer)[USAGE_APP] = True
    rule: dict[str, Any] = {"methods": _METHODS, "strict_slashes": False, "provide_automatic_options": False}
    blueprint.add_url_rule("/", "usage", answer, **rule)
    blueprint.add_url_rule("/<path:path>", "usage", answer, **rule)
    return blueprint


def _request(path: str) -> Request:
    request, headers = quart.request, quart.request.headers
    root = request.root_path.rstrip("/") + request.path.removesuffix(path).rstrip("/")
    return Request(
        request.method,
        f"/{path}",
        request.query_string,
        root,
        lambda name: headers.get(name, ""),
        request.remote_addr or "",
    )
