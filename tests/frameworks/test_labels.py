"""Labels of applications within others, and of what frameworks have beside routes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.capture.recording import Usage
from tests.capture.shells import ask_asgi, ask_wsgi
from tests.frameworks.api import Api
from tests.frameworks.table import APPLICATIONS, Application
from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.capture.call import track
from usage_middleware.capture.frameworks.bottle import bottle_template
from usage_middleware.capture.frameworks.django import django_template
from usage_middleware.capture.frameworks.pyramid import pyramid_template
from usage_middleware.capture.regexes import regex_template
from usage_middleware.capture.wsgi import WSGIUsageMiddleware

ASGI = [application for application in APPLICATIONS if application.is_asgi]
WSGI = [application for application in APPLICATIONS if not application.is_asgi]


def labels(app: Any, *paths: str) -> list[str]:
    """The labels of requests to an ASGI application, one after another."""
    usage = Usage()
    wrapped = UsageMiddleware(app, usage=usage)
    for path in paths:
        ask_asgi(wrapped, "GET", path, {"host": "test"})
    return usage.labels


def wsgi_labels(app: Any, *paths: str) -> list[str]:
    """The same of a WSGI application."""
    usage = Usage()
    wrapped = WSGIUsageMiddleware(app, usage)
    for path in paths:
        ask_wsgi(wrapped, "GET", path, {"host": "test"})
    return usage.labels


_NO_MOUNT = {"Connexion", "Connexion (Flask)", "Falcon (ASGI)", "Datasette"}
PATHS = ("/items/5", "/nested/acme/items/5", "/nothing/at/all/here")


@pytest.mark.parametrize("application", ASGI, ids=str)
def test_mounted_in_starlette(application: Application) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    if application.name in _NO_MOUNT:
        pytest.skip("it takes the mount for a part of its own paths")
    app = Starlette(routes=[Mount("/t/{who}", app=application.application(Api(Usage())))])
    found = labels(app, *(f"/t/x{path}" for path in PATHS))
    assert found == ["GET /t/{who}/items/{id}", "GET /t/{who}/nested/{tenant}/items/{id}", "GET (unmatched)"]


@pytest.mark.parametrize("adapter", ["a2wsgi", "starlette", "asgiref", "of its own"])
@pytest.mark.parametrize("application", WSGI, ids=str)
def test_a_wsgi_application_in_fastapi(application: Application, adapter: str) -> None:
    from fastapi import FastAPI

    app, usage = FastAPI(openapi_url=None), Usage()
    app.mount("/old", bridged(application.application(Api(usage, lambda request: track(request).tag(project="p"))), adapter))
    wrapped = UsageMiddleware(app, usage=usage)
    for path in (*PATHS, "/track"):
        ask_asgi(wrapped, "GET", f"/old{path}", {"host": "test"})
    expected = ["GET /old/items/{id}", "GET /old/nested/{tenant}/items/{id}", "GET (unmatched)", "GET /old/track"]
    assert usage.labels == expected
    assert usage.recording.seen[-1].tags[0] == "p"


def bridged(app: Any, adapter: str) -> Any:
    """A WSGI application as an ASGI one."""
    import a2wsgi
    from asgiref.wsgi import WsgiToAsgi

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.middleware.wsgi import WSGIMiddleware, WSGIResponder
    if adapter == "starlette":
        return WSGIMiddleware(app)
    if adapter == "of its own":
        return OwnAdapter(app, WSGIResponder)
    return a2wsgi.WSGIMiddleware(app) if adapter == "a2wsgi" else WsgiToAsgi(app)  # type: ignore[no-untyped-call]


class OwnAdapter:
    """As MLflow's server has one: a class without a base, around Starlette's responder."""

    def __init__(self, app: Any, responder: Any) -> None:
        self.app = app
        self.responder = responder

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.responder(self.app, scope)(receive, send)


@pytest.mark.parametrize("application", WSGI, ids=str)
def test_a_wsgi_application_that_is_all_of_fastapi(application: Application) -> None:
    from fastapi import FastAPI

    app = FastAPI(openapi_url=None)
    app.mount("/", bridged(application.application(Api(Usage())), "starlette"))
    expected = ["GET /items/{id}", "GET /nested/{tenant}/items/{id}", "GET (unmatched)"]
    assert labels(app, *PATHS) == expected


@pytest.mark.parametrize("application", [one for one in WSGI if one.name != "Bottle"], ids=str)
def test_under_a_dispatcher(application: Application) -> None:
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    app = DispatcherMiddleware(lambda *_: [], {"/api": application.application(Api(Usage()))})
    found = wsgi_labels(app, *(f"/api{path}" for path in PATHS))
    assert found == ["GET /api/items/{id}", "GET /api/nested/{tenant}/items/{id}", "GET (unmatched)"]


def test_a_dispatchers_mount_in_other_letters() -> None:
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    (application,) = [one for one in WSGI if one.name == "Falcon"]
    mount = "/ä".encode().decode("latin-1")
    app = DispatcherMiddleware(lambda *_: [], {mount: application.application(Api(Usage()))})
    assert wsgi_labels(app, f"{mount}/items/5") == ["GET /ä/items/{id}"]


@pytest.mark.parametrize("name", ["Quart", "Django (ASGI)"])
def test_under_hypercorns_dispatcher(name: str) -> None:
    from hypercorn.middleware.dispatcher import AsyncioDispatcherMiddleware

    (application,) = [one for one in ASGI if one.name == name]
    app = AsyncioDispatcherMiddleware({"/api": application.application(Api(Usage()))})
    assert labels(app, "/api/items/5") == ["GET /api/items/{id}"]


@pytest.mark.parametrize("prefix", ["", "/", "/api"])
def test_a_fastapi_in_a_mount_behind_a_middleware_that_copies_the_scope(prefix: str) -> None:
    from fastapi import APIRouter, FastAPI

    class Copying:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(dict(scope), receive, send)

    outer, inner, router = FastAPI(), FastAPI(), APIRouter(prefix="/r")
    inner.get("/items/{id}")(lambda: "ok")
    router.get("/{q}")(lambda: "ok")
    inner.include_router(router)
    outer.mount(prefix, Copying(inner))
    root = prefix.rstrip("/")
    found = labels(outer, f"{root}/items/5", f"{root}/r/5", f"{root}/nothing/here")
    assert found == [f"GET {root}/items/{{id}}", f"GET {root}/r/{{q}}", "GET (unmatched)"]


def test_falcons_sinks_and_files(tmp_path: Path) -> None:
    import falcon

    (tmp_path / "a.txt").write_text("a")
    app = falcon.App()
    app.add_sink(lambda req, resp, **_: None, r"/sink/(?P<name>\w+)")
    app.add_static_route("/files", tmp_path)
    found = wsgi_labels(app, "/sink/a/b", "/files/a.txt", "/files/missing.txt", "/nothing")
    assert found == ["GET /sink/{name}/{path}", "GET /files/{path}", "GET (unmatched)", "GET (unmatched)"]


def test_a_falcon_component_that_refuses() -> None:
    """It raises after the match, before the resource."""
    import falcon

    class Auth:
        def process_resource(self, req: Any, resp: Any, resource: Any, params: Any) -> None:
            raise falcon.HTTPUnauthorized

    class Items:
        def on_get(self, req: Any, resp: Any, id: str) -> None:
            raise AssertionError

    for independent in (True, False):
        app = falcon.App(middleware=[Auth()], independent_middleware=independent)
        app.add_route("/items/{id}", Items())
        assert wsgi_labels(app, "/items/5") == ["GET /items/{id}"]


def test_pyramids_traversal() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyramid.config import Configurator
        from pyramid.response import Response

    with Configurator(root_factory=lambda request: {"a": {}}) as config:
        config.add_view(lambda context, request: Response(), context=dict)
        config.add_route("rest", "/rest/*fizzle")
        config.add_view(lambda request: Response(), route_name="rest")
    found = wsgi_labels(config.make_wsgi_app(), "/a", "/a/b", "/rest/1/2")
    assert found == ["GET /{traverse}", "GET (unmatched)", "GET /rest/{fizzle}"]


def test_bottles_old_syntax_and_mounts() -> None:
    assert bottle_template("/packages/:filename#.*#") == "/packages/{filename}"
    assert bottle_template("/simple/:project/") == "/simple/{project}/"
    assert bottle_template(r"/<path:re:[a-z<]+>/<x:int>/<y>") == "/{path}/{x}/{y}"


@pytest.mark.parametrize(
    ("route", "template"),
    [
        ("items/<int:id>/", "/items/{id}/"),
        ("api/<int:version>/^items/(?P<pk>[^/.]+)/$", "/api/{version}/items/{pk}/"),
        (r"^items\.(?P<format>[a-z0-9]+)/?$", "/items.{format}"),
        (r"^years/([0-9]{4})/(?:page-(?P<page>\d+)/)?$", "/years/{arg1}/"),
        (r"^((?:[\w\-]+/)*)$", "/{arg1}"),
        (r"^files/.*$", "/files/*"),
        (r"^(?:en|de)/x\.html$", "/(en|de)/x.html"),
        (r"^(?i)a(?!b)(?#c)\Z", "/a"),
        ("", "/"),
        ("a+b/c.d", "/a+b/c.d"),
    ],
)
def test_djangos_routes(route: str, template: str) -> None:
    assert django_template(route) == template


@pytest.mark.parametrize("broken", ["(", ")", "[", "(?P<", "a{2", "\\", "(?", "*"])
def test_no_expression_is_too_odd(broken: str) -> None:
    assert isinstance(regex_template(broken), str)


def test_pyramids_syntax() -> None:
    assert pyramid_template(r"a/{x:\d{2}}/:y/*rest") == "/a/{x}/{y}/{rest}"
    assert pyramid_template("/usage*subpath") == "/usage/{subpath}"
