"""The usage API as a sink of Falcon, WSGI and ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Unpack

from usage_middleware.request_keys import leave_out
from usage_middleware.web.app_options import UsageAppOptions
from usage_middleware.web.auth import Auth
from usage_middleware.web.handler import HasReports
from usage_middleware.web.http import Request, Response
from usage_middleware.web.wsgi import handler_of


def usage_sink(usage: HasReports, prefix: str, *, auth: Auth | None, **options: Unpack[UsageAppOptions]) -> Callable[..., None]:
    """The usage API for `falcon.App`.

        app.add_sink(usage_sink(usage, "/usage", auth=KeyAuth(usage.keys)), "/usage")

    Args:
        prefix: where the sink is added.
        auth: callable(falcon.Request) -> Viewer, or None for 401. `KeyAuth(usage.keys)` is one.
        options: as of `usage_app`.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    handler = handler_of(usage, auth, options)

    def sink(req: Any, resp: Any, **_: Any) -> None:
        leave_out(req.env)
        _write(resp, handler.answer(_request(req, prefix), _Asked(req)))

    return sink


def usage_async_sink(
    usage: HasReports, prefix: str, *, auth: Auth | None, **options: Unpack[UsageAppOptions]
) -> Callable[..., Coroutine[Any, Any, None]]:
    """The usage API for `falcon.asgi.App`, as `usage_sink`. Views run in a thread."""
    handler = handler_of(usage, auth, options)

    async def sink(req: Any, resp: Any, **_: Any) -> None:
        leave_out(req.scope)
        asked = _request(req, prefix)
        _write(resp, await asyncio.to_thread(handler.answer, asked, _Asked(req)))

    return sink


class _Asked:
    """A Falcon request, with headers that are found by names in any case."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self.headers = self

    def get(self, name: str, default: Any = None) -> Any:
        """A header."""
        return self._request.get_header(name, default=default)

    @property
    def environ(self) -> Any:
        """Of WSGI: the request's environ."""
        return self._request.env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def _request(req: Any, prefix: str) -> Request:
    query = (req.query_string or "").encode("latin-1", "replace")
    return Request(
        req.method,
        req.path.removeprefix(prefix),
        query,
        req.root_path + prefix,
        lambda name: req.get_header(name) or "",
        req.remote_addr or "",
    )


def _write(resp: Any, found: Response) -> None:
    resp.status = found.status_line
    resp.data = found.body
    for name, value in found.headers.items():
        # `set_header` refuses cookies.
        (resp.append_header if name == "Set-Cookie" else resp.set_header)(name, value)
