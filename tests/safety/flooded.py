"""The application of `test_random_requests`: whatever it is asked, it answers, and tags the call with what the client says."""

from __future__ import annotations

import json
import os

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from usage_middleware import Usage, UsageMiddleware, track

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "MKCOL"]

usage = Usage(
    os.environ.get("USAGE_REDIS_URL"),
    namespace=os.environ.get("USAGE_NAMESPACE", "usage"),
    dimensions=("project",),
    counters=("records",),
    max_members={"project": 100},
    exclude="/control/*",
    flush_interval=1,
)


async def answer(request: Request) -> Response:
    """A status that the client chooses."""
    track(request).tag(project=request.headers.get("x-project")).count(records=1)
    return PlainTextResponse("ok", int(request.path_params.get("status", 200)))


def flush(_: Request) -> Response:
    """Deliver now; says whether everything is."""
    return Response(json.dumps(usage.flush()))


def stats(_: Request) -> Response:
    """How the recorder is doing."""
    return Response(msgspec.json.encode(usage.recorder.stats()))


app = UsageMiddleware(
    Starlette(
        routes=[
            Route("/items/{id}", answer, methods=METHODS),
            Route("/status/{status:int}", answer, methods=METHODS),
            Route("/control/flush", flush),
            Route("/control/stats", stats),
        ]
    ),
    usage,
)
