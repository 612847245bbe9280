"""The API in Connexion, asynchronous, from a specification."""

from __future__ import annotations

from typing import Any

import connexion
from starlette.responses import Response, StreamingResponse

from tests.frameworks.api import Api

_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
_TENANT = {"name": "tenant", "in": "path", "required": True, "schema": {"type": "string"}}
_CODE = {"name": "code", "in": "path", "required": True, "schema": {"type": "integer"}}


def specification() -> dict[str, Any]:
    """An OpenAPI document, with two paths for one operation."""

    def operation(name: str, *parameters: dict[str, Any]) -> dict[str, Any]:
        return {"operationId": name, "parameters": [*parameters], "responses": {"200": {"description": "ok"}}}

    return {
        "openapi": "3.0.0",
        "info": {"title": "Items", "version": "1"},
        "servers": [{"url": "/"}],
        "paths": {
            "/items/{id}": {"get": operation("items", _ID), "post": operation("items_post", _ID)},
            "/stream": {"get": operation("stream")},
            "/boom": {"get": operation("boom")},
            "/status/{code}": {"get": operation("status", _CODE)},
            "/track": {"get": operation("track")},
            "/nested/{tenant}/items/{id}": {"get": operation("nested", _TENANT, _ID)},
        },
    }


def functions(api: Api) -> dict[str, Any]:
    """The functions of the operations."""

    def items(id: int) -> Any:
        return Response(b"hello")

    def tracked() -> Any:
        api.act(connexion.request.scope)
        return Response(b"ok")

    return {
        "items": items,
        "items_post": lambda id: Response(b"hello"),
        "nested": lambda tenant, id: Response(b"hello"),
        "stream": lambda: StreamingResponse(api.apieces()),
        "boom": api.boom,
        "status": lambda code: Response(b"no", code),
        "track": tracked,
    }


def make(api: Api) -> Any:
    """The application."""
    app = connexion.AsyncApp("items")
    app.add_api(specification(), resolver=connexion.Resolver(functions(api).__getitem__))
    return app


def make_flask(api: Api) -> Any:
    """Connexion around Flask."""
    from flask import Response as FlaskResponse
    from flask import request

    def tracked() -> Any:
        api.act(request)
        return FlaskResponse(b"ok")

    found = {
        "items": lambda id: FlaskResponse(b"hello"),
        "items_post": lambda id: FlaskResponse(b"hello"),
        "nested": lambda tenant, id: FlaskResponse(b"hello"),
        "stream": lambda: FlaskResponse(api.pieces()),
        "boom": api.boom,
        "status": lambda code: FlaskResponse(b"no", code),
        "track": tracked,
    }
    app = connexion.FlaskApp("items")
    app.add_api(specification(), resolver=connexion.Resolver(found.__getitem__))
    app.app.add_url_rule("/plain/<int:id>", "plain", lambda id: FlaskResponse(b"plain"))
    return app
