"""The API in Datasette, as a plugin with routes."""

from __future__ import annotations

from typing import Any

import datasette.app
from datasette import Response, hookimpl
from datasette.plugins import pm
from datasette.utils.asgi import AsgiStream

from tests.frameworks.api import Api


def make(api: Api) -> Any:
    """The application."""

    async def items(request: Any) -> Any:
        return Response.text("hello")

    async def stream(request: Any) -> Any:
        async def write(writer: Any) -> None:
            async for piece in api.apieces():
                await writer.write(piece.decode())

        return AsgiStream(write)

    async def boom(request: Any) -> None:
        api.boom()

    async def status(request: Any) -> Any:
        return Response("no", int(request.url_vars["code"]))

    async def tracked(request: Any) -> Any:
        api.act(request)
        return Response.text("ok")

    class Plugin:
        __name__ = "usage-tests"

        @hookimpl
        def register_routes(self) -> list[tuple[str, Any]]:
            return [
                (r"^/items/(?P<id>\d+)$", items),
                (r"^/stream$", stream),
                (r"^/boom$", boom),
                (r"^/status/(?P<code>[0-9]{3})$", status),
                (r"^/track$", tracked),
                (r"^/nested/(?P<tenant>[^/]+)/items/(?P<id>\d+)(\.(?P<format>\w+))?$", items),
            ]

    plugin = Plugin()
    pm.register(plugin, name="usage-tests")
    try:
        return datasette.app.Datasette([], memory=True).app()
    finally:
        pm.unregister(plugin)
