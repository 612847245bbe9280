"""What customers ask about their usage is not usage: no shell's own requests are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.web.conftest import ACME
from tests.web.hosts import HOSTS, Api, Host, Send, over_asgi, over_wsgi
from usage_middleware import UsageMiddleware, WSGIUsageMiddleware
from usage_middleware.web import KeyAuth, usage_app, usage_wsgi_app
from usage_middleware.web.flask import usage_blueprint

if TYPE_CHECKING:
    from usage_middleware import Usage


def in_starlette(usage: Usage) -> Send:
    app = Starlette(routes=[Mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys)))])
    app.add_middleware(UsageMiddleware, usage=usage)
    return over_asgi(app)


def in_fastapi(usage: Usage) -> Send:
    app = FastAPI()
    app.mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys)))
    return over_asgi(UsageMiddleware(app, usage))


def outside_a_dispatcher(usage: Usage) -> Send:
    app: Any = DispatcherMiddleware(Flask(__name__), {"/usage": usage_wsgi_app(usage, auth=KeyAuth(usage.keys))})
    return over_wsgi(WSGIUsageMiddleware(app, usage))


def inside_a_dispatcher(usage: Usage) -> Send:
    app: Any = WSGIUsageMiddleware(usage_wsgi_app(usage, auth=KeyAuth(usage.keys)), usage)
    return over_wsgi(DispatcherMiddleware(Flask(__name__), {"/usage": app}))


def behind_a_copied_scope(usage: Usage) -> Send:
    inner = Starlette(routes=[Mount("/usage", usage_app(usage, auth=KeyAuth(usage.keys)))])

    async def copying(scope: Any, receive: Any, send: Any) -> None:
        await inner(dict(scope), receive, send)

    return over_asgi(UsageMiddleware(copying, usage))


def behind_a_copied_environ(usage: Usage) -> Send:
    inner: Any = DispatcherMiddleware(Flask(__name__), {"/usage": usage_wsgi_app(usage, auth=KeyAuth(usage.keys))})

    def copying(environ: Any, start_response: Any) -> Any:
        return inner({**environ}, start_response)

    return over_wsgi(WSGIUsageMiddleware(copying, usage))


def by_blueprint(usage: Usage) -> Send:
    app = Flask(__name__)
    app.register_blueprint(usage_blueprint(usage, auth=KeyAuth(usage.keys)), url_prefix="/usage")
    return over_wsgi(WSGIUsageMiddleware(app, usage))


BUILDS = (
    in_starlette,
    in_fastapi,
    outside_a_dispatcher,
    behind_a_copied_scope,
    behind_a_copied_environ,
    inside_a_dispatcher,
    by_blueprint,
)


@pytest.mark.parametrize("build", BUILDS)
def test_nothing_under_the_mount_is_counted(usage: Usage, build: Callable[[Usage], Send]) -> None:
    api = Api(Host("", "/usage", build), build(usage), ACME)
    for path in ("/summary", "/", "/by-key/", "/openapi.json", "/nothing", "/by-group?range=2h"):
        api.get(path)
        api.with_key(None).get(path)
        api.call("POST", path)
        api.call("HEAD", path)
    assert usage.flush()
    fresh = Api(HOSTS[4], HOSTS[4].make(usage, auth=KeyAuth(usage.keys), cache_seconds=0), ACME)
    assert fresh.get("/summary").json["total_calls"] == 0
    assert usage.reader.summary().total_calls == 0


@pytest.mark.parametrize("build", BUILDS[:5])
def test_the_rest_of_the_application_is(usage: Usage, build: Callable[[Usage], Send]) -> None:
    Api(Host("", "", build), build(usage), ACME).get("/elsewhere")
    assert usage.flush()
    assert usage.reader.summary(org="acme").total_calls == 1
