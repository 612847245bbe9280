"""A small API for a container: two workers count each call in one Valkey, and each customer sees its own under /usage."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from usage_middleware import Usage, UsageMiddleware
from usage_middleware.web import KeyAuth, usage_app

usage = Usage(
    os.environ.get("USAGE_REDIS_URL", "redis://localhost:6379/0"),
    namespace=os.environ.get("USAGE_NAMESPACE", "usage"),
    spool=os.environ.get("USAGE_SPOOL", "usage-spool"),
)


async def item(request: Request) -> JSONResponse:
    """One item."""
    return JSONResponse({"id": request.path_params["id"], "worker": os.getpid()})


app = UsageMiddleware(
    Starlette(
        routes=[
            Route("/items/{id}", item),
            Mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys))),
        ]
    ),
    usage=usage,
)
