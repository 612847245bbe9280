"""The application that the page's tests look at: `app` for uvicorn, `wsgi` for gunicorn. Who looks is in a cookie."""

from __future__ import annotations

import os
from http.cookies import SimpleCookie
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse, PlainTextResponse

from usage_middleware import Usage, UsageMiddleware, Viewer, WSGIUsageMiddleware
from usage_middleware.web import BrowserAuth, KeyAuth, mount_usage, usage_wsgi_app

usage = Usage(
    os.environ["USAGE_REDIS_URL"],
    namespace=os.environ["USAGE_NAMESPACE"],
    credentials=("x-api-key",),
    dimensions=("project",),
    flush_interval=0.2,
)


def viewer_of(cookies: str) -> Viewer | None:
    """Who a cookie names: `operator`, an organisation, or `organisation:key`."""
    found = SimpleCookie(cookies).get("who")
    if found is None:
        return None
    org, _, key = found.value.partition(":")
    if org == "operator":
        return Viewer.operator()
    return Viewer.key(org, key) if key else Viewer.organization(org)


def auth(request: Any) -> Viewer | None:
    """The viewer of a Starlette request."""
    return viewer_of(request.headers.get("cookie", ""))


app = FastAPI()
app.add_middleware(UsageMiddleware, usage=usage)
options: Any = {"cache_seconds": 0, "limit": None}
mount_usage(app, "/usage", usage, auth=auth, name="site", embed_origins=[os.environ["PORTAL"]], **options)
mount_usage(app, "/people", usage, auth=BrowserAuth(KeyAuth(usage.keys)), name="people", **options)


@app.get("/v1/items/{item}")
def item(item: int, status: int = 200) -> PlainTextResponse:
    """Answers with the status that is asked for."""
    return PlainTextResponse(str(item), status)


#: A page of somebody else, which shows ours in a frame and has a new token for it.
AROUND = """<!doctype html><body><iframe id="usage" width="900" height="700" src="{src}"></iframe><script>
addEventListener("message", (event) => {{
  if (event.data.type !== "usage:renew") return;
  document.body.dataset.asked = event.origin;
  event.source.postMessage({{type: "usage:token", token: "{token}"}}, event.origin);
}});
</script>"""


@app.get("/around")
def around(src: str, token: str) -> HTMLResponse:
    """A page around ours."""
    return HTMLResponse(AROUND.format(src=src, token=token))


views = usage_wsgi_app(usage, auth=lambda environ: viewer_of(environ.get("HTTP_COOKIE", "")), cache_seconds=0, limit=None)


def _wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    if environ["PATH_INFO"].startswith("/my/usage"):
        rest = environ["PATH_INFO"].removeprefix("/my/usage")
        return views({**environ, "SCRIPT_NAME": "/my/usage", "PATH_INFO": rest}, start_response)
    start_response("404 Not Found", [])
    return [b""]


wsgi = WSGIUsageMiddleware(_wsgi, usage)
