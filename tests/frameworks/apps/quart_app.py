"""The API in Quart, with a blueprint."""

from __future__ import annotations

from typing import Any

import quart

from tests.frameworks.api import Api


def make(api: Api) -> Any:
    """The application."""
    app = quart.Quart(__name__)
    nested = quart.Blueprint("nested", __name__, url_prefix="/nested/<tenant>")

    async def items(id: int, tenant: str = "") -> quart.Response:
        return quart.Response(b"hello")

    async def stream() -> quart.Response:
        return quart.Response(api.apieces())

    async def boom() -> None:
        api.boom()

    async def status(code: int) -> quart.Response:
        return quart.Response(b"no", code)

    async def tracked() -> quart.Response:
        api.act(quart.request)
        return quart.Response(b"ok")

    async def echo() -> None:
        await quart.websocket.send(await quart.websocket.receive())

    app.add_url_rule("/items/<int:id>", "items", items, methods=["GET", "POST"])
    app.add_url_rule("/stream", "stream", stream)
    app.add_url_rule("/boom", "boom", boom)  # type: ignore[arg-type]
    app.add_url_rule("/status/<int:code>", "status", status)
    app.add_url_rule("/track", "track", tracked)
    nested.add_url_rule("/items/<int:id>", "items", items)
    app.register_blueprint(nested)
    app.add_websocket("/ws", "ws", echo)
    return app
