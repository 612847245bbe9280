"""The usage API as a Quart blueprint."""

from __future__ import annotations

from typing import Any

import quart

from usage_middleware.request_keys import leave_out
from usage_middleware.web.auth import Auth, require_auth
from usage_middleware.web.handler import Handler, HasReports
from usage_middleware.web.http import Request, Response

#: Quart passes all of them on, so that the error of a method that is not possible is ours.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def usage_blueprint(usage: HasReports, *, auth: Auth | None, cache_seconds: int = 60, name: str = "usage") -> quart.Blueprint:
    """The usage API.

        quart_app.register_blueprint(usage_blueprint(usage, auth=KeyAuth(usage.keys)), url_prefix="/usage")

    Args:
        auth: callable(quart.request) -> Viewer, or None for 401; run in a thread. `KeyAuth(usage.keys)` is one.
        cache_seconds: seconds that Redis keeps an answer; 0: none is kept, and nothing is written.
        name: the blueprint's; choose another for a second one.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    handler, authenticate = Handler(usage.reader, cache_seconds), require_auth(auth)
    blueprint = quart.Blueprint(name, __name__)

    async def answer(path: str = "", **_: Any) -> quart.Response:
        leave_out(quart.request.scope)  # type: ignore[arg-type]
        asked = _request(path)
        found: Response = await quart.utils.run_sync(handler.answer)(asked, lambda: authenticate(quart.request))
        response = quart.Response(found.body, found.status)
        # After the constructor, which sets the length of an answer to HEAD to that of its empty body.
        response.headers.update(dict(found.headers))
        return response

    # The middleware then doesn't list it among the application's endpoints.
    vars(answer)["include_in_schema"] = False
    options: dict[str, Any] = {"methods": _METHODS, "strict_slashes": False, "provide_automatic_options": False}
    blueprint.add_url_rule("/", "usage", answer, **options)
    blueprint.add_url_rule("/<path:path>", "usage", answer, **options)
    return blueprint


def _request(path: str) -> Request:
    request = quart.request
    root = request.root_path.rstrip("/") + request.path.removesuffix(path).rstrip("/")
    return Request(request.method, f"/{path}", request.query_string, request.headers.get("Accept", ""), root)
