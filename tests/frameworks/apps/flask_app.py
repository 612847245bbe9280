"""The API in Flask, with a blueprint."""

from __future__ import annotations

from typing import Any

import flask

from tests.frameworks.api import Api


def make(api: Api) -> Any:
    """The application."""
    app = flask.Flask(__name__)
    nested = flask.Blueprint("nested", __name__, url_prefix="/nested/<tenant>")

    def items(id: int, tenant: str = "") -> flask.Response:
        return flask.Response(b"hello")

    def boom() -> flask.Response:
        api.boom()
        return flask.Response()

    def tracked() -> flask.Response:
        api.act(flask.request)
        return flask.Response(b"ok")

    app.add_url_rule("/items/<int:id>", "items", items, methods=["GET", "POST"])
    app.add_url_rule("/stream", "stream", lambda: flask.Response(api.pieces()))
    app.add_url_rule("/boom", "boom", boom)
    app.add_url_rule("/status/<int:code>", "status", lambda code: flask.Response(b"no", code))
    app.add_url_rule("/track", "track", tracked)
    nested.add_url_rule("/items/<int:id>", "items", items)
    app.register_blueprint(nested)
    return app
