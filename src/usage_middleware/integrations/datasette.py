"""Datasette: a plugin hook that counts its requests and serves the usage API under a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.usage import Usage
from usage_middleware.web.app_options import UsageAppOptions
from usage_middleware.web.auth import Auth
from usage_middleware.web.starlette import usage_app


def asgi_wrapper(
    usage: Usage, *, auth: Auth | None, path: str = "/-/usage", **options: Unpack[UsageAppOptions]
) -> Callable[[Any], Any]:
    """What the plugin hook `asgi_wrapper` of Datasette returns.

        @hookimpl
        def asgi_wrapper(datasette):
            return usage_middleware.integrations.datasette.asgi_wrapper(usage, auth=KeyAuth(usage.keys))

    Args:
        auth: callable(starlette.requests.Request) -> Viewer, or None for 401.
        path: where the usage API answers.
        options: as of `usage_app`.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    views = usage_app(usage, auth=auth, **options)

    def wrap(app: Any) -> Any:
        counted = UsageMiddleware(app, usage=usage)

        async def either(scope: Any, receive: Any, send: Any) -> None:
            asked = scope.get("path", "")
            if scope["type"] == "http" and (asked == path or asked.startswith(path + "/")):
                await views({**scope, "root_path": scope.get("root_path", "") + path}, receive, send)
            else:
                await counted(scope, receive, send)

        return either

    return wrap
