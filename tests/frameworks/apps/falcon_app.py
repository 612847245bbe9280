"""The API in Falcon, WSGI."""

from __future__ import annotations

from typing import Any

import falcon

from tests.frameworks.api import Api


def make(api: Api) -> Any:
    """The application."""

    class Items:
        def on_get(self, req: Any, resp: Any, **_: Any) -> None:
            resp.data = b"hello"

        on_post = on_get

    class Stream:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.stream = api.pieces()

    class Breaks:
        def on_get(self, req: Any, resp: Any) -> None:
            api.boom()

    class Status:
        def on_get(self, req: Any, resp: Any, code: int) -> None:
            resp.status, resp.data = code, b"no"

    class Tracked:
        def on_get(self, req: Any, resp: Any) -> None:
            api.act(req)
            resp.data = b"ok"

    app = falcon.App()
    app.add_route("/items/{id:int}", Items())
    app.add_route("/stream", Stream())
    app.add_route("/boom", Breaks())
    app.add_route("/status/{code:int}", Status())
    app.add_route("/track", Tracked())
    app.add_route("/nested/{tenant}/items/{id:int}", Items())
    return app
