"""The API in Litestar, with a router."""

from typing import Any

from litestar import Litestar, Request, Response, Router, WebSocket, get, route, websocket
from litestar.response import Stream

from tests.frameworks.api import Api


def make(api: Api, **options: Any) -> Any:
    """The application."""

    @route("/items/{id:int}", http_method=["GET", "POST"], status_code=200)
    async def items() -> Response[bytes]:
        return Response(b"hello")

    @get("/items/{id:int}")
    async def inner() -> Response[bytes]:
        return Response(b"hello")

    @get("/stream")
    async def stream() -> Stream:
        return Stream(api.apieces())

    @get("/boom")
    async def boom() -> None:
        api.boom()

    @get("/status/{code:int}")
    async def status(request: Request[Any, Any, Any]) -> Response[bytes]:
        return Response(b"no", status_code=request.path_params["code"])

    @get("/track")
    async def tracked(request: Request[Any, Any, Any]) -> Response[bytes]:
        api.act(request)
        return Response(b"ok")

    @websocket("/ws")
    async def echo(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    nested = Router("/nested/{tenant:str}", route_handlers=[inner])
    return Litestar([items, stream, boom, status, tracked, nested, echo], openapi_config=None, **options)
