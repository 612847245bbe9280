"""The API in Starlette, with a mount."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from tests.frameworks.api import Api


def make(api: Api) -> Any:
    """The application."""

    async def items(request: Request) -> Response:
        return Response(b"hello")

    async def stream(request: Request) -> Response:
        return StreamingResponse(api.apieces())

    async def boom(request: Request) -> Response:
        api.boom()
        return Response()

    async def status(request: Request) -> Response:
        return Response(b"no", int(request.path_params["code"]))

    async def tracked(request: Request) -> Response:
        api.act(request)
        return Response(b"ok")

    async def echo(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    return Starlette(
        routes=[
            Route("/items/{id:int}", items, methods=["GET", "POST"]),
            Route("/stream", stream),
            Route("/boom", boom),
            Route("/status/{code:int}", status),
            Route("/track", tracked),
            Mount("/nested/{tenant}", routes=[Route("/items/{id:int}", items)]),
            WebSocketRoute("/ws", echo),
        ]
    )
