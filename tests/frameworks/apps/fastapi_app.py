"""The API in FastAPI, with an included router."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse

from tests.frameworks.api import Api


def make(api: Api) -> Any:
    """The application."""
    app, nested = FastAPI(openapi_url=None), APIRouter()

    def items(id: int) -> Any:
        return Response(b"hello")

    def status(code: int) -> Any:
        return Response(b"no", code)

    def tracked(request: Request) -> Any:
        api.act(request)
        return Response(b"ok")

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    app.api_route("/items/{id}", methods=["GET", "POST"])(items)
    app.get("/stream")(lambda: StreamingResponse(api.apieces()))
    app.get("/boom")(lambda: api.boom())
    app.get("/status/{code}")(status)
    app.get("/track")(tracked)
    nested.get("/items/{id}")(items)
    app.include_router(nested, prefix="/nested/{tenant}")
    app.websocket("/ws")(echo)
    return app
