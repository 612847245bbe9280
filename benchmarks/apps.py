"""The applications that are measured: the same endpoints in every framework, with and without this package."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from usage_middleware import Usage, UsageMiddleware, WSGIUsageMiddleware, track

ITEM = {"id": 7, "name": "a thing", "tags": ["red", "round"]}
#: Every application has an endpoint for each of these.
KINDS = ("items", "orders", "users", "events", "files")


def new_usage(url: str, **options: Any) -> Usage:
    """A `Usage` that counts all it can: API key, a dimension, a counter."""
    return Usage(url, **{"dimensions": ("project",), "counters": ("records",), **options})


def starlette_app(usage: Usage | None = None) -> Starlette:
    """A Starlette application. With a `usage`, its calls are counted, and its endpoints tag and count."""

    async def plain(_: StarletteRequest) -> JSONResponse:
        return JSONResponse(ITEM)

    async def counted(request: StarletteRequest) -> JSONResponse:
        track(request).tag(project="search").count(records=3)
        return JSONResponse(ITEM)

    app = Starlette(routes=[Route(f"/v1/{kind}/{{item}}", plain if usage is None else counted) for kind in KINDS])
    if usage is not None:
        app.add_middleware(UsageMiddleware, usage=usage)
    return app


def fastapi_app(usage: Usage | None = None) -> FastAPI:
    """The same application in FastAPI."""

    async def plain(item: int, request: Request) -> dict[str, Any]:
        return ITEM

    async def counted(item: int, request: Request) -> dict[str, Any]:
        track(request).tag(project="search").count(records=3)
        return ITEM

    app = FastAPI()
    for kind in KINDS:
        app.get(f"/v1/{kind}/{{item}}")(plain if usage is None else counted)
    if usage is not None:
        app.add_middleware(UsageMiddleware, usage=usage)
    return app


def flask_app(usage: Usage | None = None) -> Flask:
    """The same application in Flask."""

    def plain(item: int) -> dict[str, Any]:
        return ITEM

    def counted(item: int) -> dict[str, Any]:
        track(request).tag(project="search").count(records=3)
        return ITEM

    app = Flask("benchmarks")
    for kind in KINDS:
        app.add_url_rule(f"/v1/{kind}/<int:item>", kind, plain if usage is None else counted)
    if usage is not None:
        app.wsgi_app = WSGIUsageMiddleware(app.wsgi_app, usage)  # type: ignore[method-assign]
    return app
