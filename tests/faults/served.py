"""The application of these tests for real servers: `served:app` (ASGI) and `served:wsgi` (Flask), set up by variables."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Flask
from flask import Response as FlaskResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.faults.harness import IMPATIENT, application, usage_of
from usage_middleware import UsageMiddleware, WSGIUsageMiddleware
from usage_middleware.store import engine

if os.environ.get("USAGE_PATIENT") != "1":
    engine.WRITE_LIMITS = IMPATIENT
if "USAGE_FILE_BYTES" in os.environ:
    # The disk is full after so many bytes of a file, in the middle of whatever is written; but not of Python's own files.
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["USAGE_FILE_BYTES"]),) * 2)

usage = usage_of(
    os.environ["USAGE_REDIS_URL"],
    os.environ["USAGE_NAMESPACE"],
    exclude=["/control/*", "/usage/*"],
    **json.loads(os.environ.get("USAGE_OPTIONS", "{}")),
)


def flush(_: Request) -> Response:
    """Deliver now; says whether everything is."""
    return Response(json.dumps(usage.flush()))


def stats(_: Request) -> Response:
    """How the recorder is doing."""
    return Response(msgspec.json.encode(usage.recorder.stats()))


async def late(request: Request) -> Response:
    """An answer that begins so many milliseconds after the request."""
    await asyncio.sleep(request.path_params["ms"] / 1000)
    return Response("begunended")


starlette = application(Route("/slow/{ms:int}", late), Route("/control/flush", flush), Route("/control/stats", stats))
app = UsageMiddleware(starlette, usage)

flask = Flask(__name__)


@flask.get("/items/<item>")
def item(item: str) -> tuple[str, int]:
    """As in `application`."""
    return "found", 404 if item == "none" else 200


@flask.post("/items")
def create() -> tuple[str, int]:
    """As in `application`."""
    return "created", 201


@flask.get("/broken")
def broken() -> tuple[str, int]:
    """As in `application`."""
    return "sorry", 500


@flask.get("/slow/<int:ms>")
def slow(ms: int) -> FlaskResponse:
    """An answer that ends so many milliseconds after it has begun."""

    def pieces() -> Iterator[bytes]:
        yield b"begun"
        time.sleep(ms / 1000)
        yield b"ended"

    return FlaskResponse(pieces(), headers={"content-length": "10"})


@flask.get("/control/pid")
def pid() -> dict[str, Any]:
    """Which worker answers."""
    return {"pid": os.getpid()}


flask.wsgi_app = WSGIUsageMiddleware(flask.wsgi_app, usage)  # type: ignore[method-assign]
wsgi = flask
