"""Checks an installed wheel: `python -I tests/installed.py WHEEL`, with the Python of an environment that has nothing else.

`python3 run wheel` makes that environment. No test framework is in it, so this is a script: it compares the wheel's files with
what belongs in it, then counts calls of a Starlette and of a WSGI application with the embedded server, and asks for the views.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from zipfile import ZipFile

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import usage_middleware
from usage_middleware import KeyInfo, Usage, UsageMiddleware, WSGIUsageMiddleware
from usage_middleware.web import KeyAuth, usage_app, usage_wsgi_app

NEEDED = (
    "py.typed",
    "store/apply_batch.lua",
    "usage.py",
    "web/page/static/app.js",
    "web/page/static/page.css",
    "web/page/words/de.json",
)
SECRET = "the key that Acme sends"
CALLS = 3


def check_files(wheel: Path) -> None:
    """The wheel holds the package with its data files, its metadata, and nothing else."""
    with ZipFile(wheel) as opened:
        names = opened.namelist()
    missing = [name for name in NEEDED if f"usage_middleware/{name}" not in names]
    assert not missing, missing
    others = [name for name in names if not name.startswith("usage_middleware/") and ".dist-info/" not in name]
    assert not others, others
    unusual = [
        name
        for name in names
        if name.startswith("usage_middleware/") and not name.endswith((".py", ".lua", ".typed", ".js", ".css", ".json"))
    ]
    assert not unusual, unusual
    assert Path(usage_middleware.__file__).is_relative_to(sys.prefix), usage_middleware.__file__


def check_asgi(usage: Usage) -> None:
    """A Starlette application is counted, and shows its usage."""

    async def item(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.path_params["item"])

    app = Starlette(routes=[Route("/v1/items/{item}", item)])
    app.add_middleware(UsageMiddleware, usage=usage)
    app.mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys), cache_seconds=0))
    for _ in range(CALLS):
        assert asyncio.run(asgi_get(app, "/v1/items/7")) == (200, b"7")
    assert usage.flush()
    check_summary(*asyncio.run(asgi_get(app, "/usage/summary")), calls=CALLS)
    status, page = asyncio.run(asgi_get(app, "/usage/dashboard"))
    assert (status, b"<title>Usage</title>" in page) == (200, True)


async def asgi_get(app: Callable[..., Awaitable[None]], path: str) -> tuple[int, bytes]:
    """The status and the body of a GET request to an ASGI application."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "http_version": "1.1", "scheme": "http"}
    await app({**scope, "headers": [(b"x-api-key", SECRET.encode())]}, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def check_wsgi(usage: Usage) -> None:
    """A WSGI application is counted; the views are an application of their own."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        environ["usage.route"] = "/v1/items/{id}"
        start_response("200 OK", [])
        return [b"7"]

    for _ in range(CALLS):
        assert wsgi_get(WSGIUsageMiddleware(app, usage), "/v1/items/7") == (200, b"7")
    assert usage.flush()
    views = usage_wsgi_app(usage, auth=KeyAuth(usage.keys), cache_seconds=0)
    check_summary(*wsgi_get(views, "/summary"), calls=2 * CALLS)


def wsgi_get(app: Callable[..., Any], path: str) -> tuple[int, bytes]:
    """The status and the body of a GET request to a WSGI application."""
    statuses: list[str] = []

    def start_response(status: str, headers: object, exc_info: object = None) -> Callable[[bytes], None]:
        statuses.append(status)
        return lambda _: None

    environ: dict[str, Any] = {"PATH_INFO": path, "HTTP_X_API_KEY": SECRET}
    setup_testing_defaults(environ)
    answer = app(environ, start_response)
    body = b"".join(answer)
    if hasattr(answer, "close"):
        answer.close()
    return int(statuses[0].split()[0]), body


def check_summary(status: int, body: bytes, *, calls: int) -> None:
    """The customer sees its calls."""
    assert status == 200, body
    summary = json.loads(body)
    assert (summary["org_id"], summary["total_calls"], summary["successful_calls"]) == ("acme", calls, calls), summary


if __name__ == "__main__":
    check_files(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder, Usage(data_dir=Path(folder)) as usage:
        usage.keys.put("acme", KeyInfo(id="key_7", name="Search backend"), secret=SECRET)
        check_asgi(usage)
        check_wsgi(usage)
    print(f"{Path(sys.argv[1]).name}: its files are complete, and it works without the checkout.")
