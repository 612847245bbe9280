"""The usage API as a plain WSGI application, for Flask under a DispatcherMiddleware, or any other host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Unpack

from usage_middleware.request_keys import USAGE_APP, leave_out, wsgi_text
from usage_middleware.web.app_options import AppOptions, UsageAppOptions
from usage_middleware.web.auth import Auth, places_of, require_auth
from usage_middleware.web.handler import Handler, HasReports, bound, sign_in_of
from usage_middleware.web.http import Request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def usage_wsgi_app(usage: HasReports, *, auth: Auth | None, **options: Unpack[UsageAppOptions]) -> WSGIApplication:
    """The usage API.

        flask_app.wsgi_app = DispatcherMiddleware(
            flask_app.wsgi_app, {"/usage": usage_wsgi_app(usage, auth=KeyAuth(usage.keys))}
        )

    Args:
        auth: callable(environ) -> Viewer, or None for 401. `KeyAuth(usage.keys)` is one.
        options: as of `usage_app`; `client_address` gets the environ.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    handler = handler_of(usage, auth, options)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        leave_out(environ)
        response = handler.answer(request_of(environ), environ)
        start_response(response.status_line, list(response.headers.items()))
        return [response.body]

    # Pyramid then doesn't list it among the application's endpoints.
    vars(application)[USAGE_APP] = True
    return application


def handler_of(usage: HasReports, auth: Auth | None, options: UsageAppOptions) -> Handler:
    """The handler of a shell whose `auth` is called as it is.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    given = AppOptions(**options)
    authenticate = bound(require_auth(auth, usage.credentials), usage, given)
    return Handler(
        usage.reader, authenticate, given, places_of(authenticate, usage.credentials), sign_in=sign_in_of(authenticate)
    )


def request_of(environ: dict[str, Any]) -> Request:
    """The request of an environ."""
    return Request(
        environ["REQUEST_METHOD"],
        wsgi_text(environ.get("PATH_INFO", "")),
        environ.get("QUERY_STRING", "").encode("latin-1", "replace"),
        wsgi_text(environ.get("SCRIPT_NAME", "")),
        lambda name: environ.get(f"HTTP_{name.upper().replace('-', '_')}", ""),
        environ.get("REMOTE_ADDR") or "",
    )
