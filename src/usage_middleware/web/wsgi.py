"""The usage API as a plain WSGI application, for Flask under a DispatcherMiddleware, or any other host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from usage_middleware.credentials import Credentials
from usage_middleware.request_keys import leave_out, wsgi_text
from usage_middleware.web.auth import Auth, places_of, require_auth
from usage_middleware.web.handler import Handler, HasReports
from usage_middleware.web.http import Request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def usage_wsgi_app(usage: HasReports, *, auth: Auth | None, cache_seconds: int = 60) -> WSGIApplication:
    """The usage API.

        flask_app.wsgi_app = DispatcherMiddleware(
            flask_app.wsgi_app, {"/usage": usage_wsgi_app(usage, auth=KeyAuth(usage.keys))}
        )

    Args:
        auth: callable(environ) -> Viewer, or None for 401. `KeyAuth(usage.keys)` is one.
        cache_seconds: seconds that Redis keeps an answer; 0: none is kept, and nothing is written.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    handler, authenticate = Handler(usage.reader, cache_seconds), require_auth(auth, usage.credentials)
    places = places_of(authenticate, usage.credentials)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        leave_out(environ)
        response = handler.answer(request_of(environ, places), lambda: authenticate(environ))
        start_response(response.status_line, list(response.headers.items()))
        return [response.body]

    # Pyramid then doesn't list it among the application's endpoints.
    vars(application)["include_in_schema"] = False
    return application


def request_of(environ: dict[str, Any], places: Credentials) -> Request:
    """The request of an environ, without the API keys that its query has in these places."""
    return Request(
        environ["REQUEST_METHOD"],
        wsgi_text(environ.get("PATH_INFO", "")),
        places.without_secrets(environ.get("QUERY_STRING", "").encode("latin-1", "replace")),
        environ.get("HTTP_ACCEPT", ""),
        wsgi_text(environ.get("SCRIPT_NAME", "")),
    )
