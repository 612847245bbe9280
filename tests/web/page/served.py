"""The applications that the page's tests look at: `site` for uvicorn, `wsgi` for gunicorn. Who looks is in a cookie.

Below `/paid` is an application whose customers have plans, below `/apart` one that counts no organisations together.
"""

from __future__ import annotations

import os
from html import escape
from http.cookies import SimpleCookie
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Mount

from tests.web.page import paid
from usage_middleware import Usage, UsageMiddleware, Viewer, WSGIUsageMiddleware
from usage_middleware.store import engine
from usage_middleware.store.address import Limits
from usage_middleware.web import BrowserAuth, KeyAuth, handler, mount_usage, usage_wsgi_app

# Beside a browser, a busy machine may leave an answer without a processor for seconds. These tests are not about that.
engine.READ_LIMITS = Limits(connect=6, answer=6)
handler.ANSWER_SECONDS = 6

usage = Usage(
    os.environ["USAGE_REDIS_URL"],
    namespace=os.environ["USAGE_NAMESPACE"],
    credentials=("x-api-key",),
    dimensions=("project",),
    # Pages of somebody else, what browsers ask for, and what tells that a server answers.
    exclude=("/around", "/chart", "/favicon.ico", "/usage/nothing"),
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
PORTAL = os.environ["PORTAL"]
mount_usage(app, "/usage", usage, auth=auth, name="site", embed_origins=[PORTAL], allow_origins=[PORTAL], **options)
mount_usage(app, "/people", usage, auth=BrowserAuth(KeyAuth(usage.keys)), name="people", **options)
mount_usage(app, "/machines", usage, auth=BrowserAuth(KeyAuth(usage.keys, "key")), name="machines", **options)


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


def mounted(other: Usage) -> FastAPI:
    """An application with a route, whose calls are counted."""
    made = FastAPI()
    made.add_middleware(UsageMiddleware, usage=other)
    made.get("/v1/items/{item}")(item)
    mount_usage(made, "/usage", other, auth=auth, **options)
    return made


url = os.environ["USAGE_REDIS_URL"]
with_plans = Usage(url, flush_interval=0.2, **paid.OPTIONS)
apart = Usage(url, namespace="apart", operator_tree=False, dimensions=("project",), flush_interval=0.2)
site = Starlette(routes=[Mount("/paid", mounted(with_plans)), Mount("/apart", mounted(apart)), Mount("/", app)])

#: A page of somebody else with a chart of ours in it, and with styles that would spoil it.
WITH_CHART = """<!doctype html><html lang="{lang}"><head><meta charset="utf-8"><title>Portal</title>
<link rel="icon" href="data:,"><style>
svg, path, text, h2, li, * {{ color: red; fill: red; stroke: red; display: none; font-size: 1px; }}
html, body, usage-chart {{ display: block; }}
</style><script type="module" src="{script}"></script></head>
<body><usage-chart id="ours" src="{src}" token="{token}" heading="{heading}"></usage-chart></body></html>"""


@app.get("/chart")
def with_chart(script: str, src: str, token: str = "", heading: str = "", lang: str = "en") -> HTMLResponse:
    """A page with a chart."""
    known = {"script": script, "src": src, "token": token, "heading": heading, "lang": lang}
    return HTMLResponse(WITH_CHART.format(**{name: escape(text) for name, text in known.items()}))


views = usage_wsgi_app(usage, auth=lambda environ: viewer_of(environ.get("HTTP_COOKIE", "")), cache_seconds=0, limit=None)


def _wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    if environ["PATH_INFO"].startswith("/my/usage"):
        rest = environ["PATH_INFO"].removeprefix("/my/usage")
        return views({**environ, "SCRIPT_NAME": "/my/usage", "PATH_INFO": rest}, start_response)
    start_response("404 Not Found", [])
    return [b""]


wsgi = WSGIUsageMiddleware(_wsgi, usage)
