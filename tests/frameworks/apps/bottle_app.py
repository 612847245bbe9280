"""The API in Bottle, with a mounted application."""

from __future__ import annotations

from typing import Any

import bottle

from tests.frameworks.api import Api


def make(api: Api) -> Any:
    """The application."""
    app, nested = bottle.Bottle(), bottle.Bottle()

    def items(id: int, **_: str) -> bytes:
        return b"hello"

    def status(code: int) -> Any:
        return bottle.HTTPResponse(b"no", code)

    def tracked() -> bytes:
        api.act(bottle.request)
        return b"ok"

    app.route("/items/<id:int>", ["GET", "POST"], items)
    app.route("/stream", "GET", api.pieces)
    app.route("/boom", "GET", api.boom)
    app.route("/status/<code:int>", "GET", status)
    app.route("/track", "GET", tracked)
    nested.route("/<tenant>/items/<id:re:[0-9]+>", "GET", items)
    app.mount("/nested/", nested)
    return app
