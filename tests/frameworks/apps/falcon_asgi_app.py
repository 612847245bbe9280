"""The API in Falcon, ASGI."""

from __future__ import annotations

from typing import Any

import falcon.asgi

from tests.frameworks.api import Api


def make(api: Api) -> Any:
    """The application."""

    class Items:
        async def on_get(self, req: Any, resp: Any, **_: Any) -> None:
            resp.data = b"hello"

        on_post = on_get

    class Stream:
        async def on_get(self, req: Any, resp: Any) -> None:
            resp.stream = api.apieces()

    class Breaks:
        async def on_get(self, req: Any, resp: Any) -> None:
            api.boom()

    class Status:
        async def on_get(self, req: Any, resp: Any, code: int) -> None:
            resp.status, resp.data = code, b"no"

    class Tracked:
        async def on_get(self, req: Any, resp: Any) -> None:
            api.act(req)
            resp.data = b"ok"

    class Echo:
        async def on_websocket(self, req: Any, ws: Any) -> None:
            await ws.accept()
            await ws.send_text(await ws.receive_text())

    app = falcon.asgi.App()
    app.add_route("/items/{id:int}", Items())
    app.add_route("/stream", Stream())
    app.add_route("/boom", Breaks())
    app.add_route("/status/{code:int}", Status())
    app.add_route("/track", Tracked())
    app.add_route("/nested/{tenant}/items/{id:int}", Items())
    app.add_route("/ws", Echo())
    return app
