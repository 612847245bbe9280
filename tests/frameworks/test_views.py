"""The usage API, mounted in each framework by its own means; nothing of it is counted."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable

import pytest

from tests.web.hosts import Send, over_asgi, over_wsgi
from usage_middleware import KeyInfo, Usage, UsageMiddleware, WSGIUsageMiddleware
from usage_middleware.web import KeyAuth, usage_app, usage_wsgi_app


def in_litestar(usage: Usage) -> Send:
    from litestar import Litestar, asgi

    mounted = asgi("/usage", is_mount=True, copy_scope=True)(usage_app(usage, auth=KeyAuth(usage.keys)))
    return over_asgi(UsageMiddleware(Litestar([mounted], openapi_config=None), usage=usage))


def in_quart(usage: Usage) -> Send:
    from quart import Quart

    from usage_middleware.integrations.quart import usage_blueprint

    app = Quart("app")
    app.register_blueprint(usage_blueprint(usage, auth=KeyAuth(usage.keys)), url_prefix="/usage")
    return over_asgi(UsageMiddleware(app, usage=usage))


def in_falcon(usage: Usage) -> Send:
    import falcon

    from usage_middleware.integrations.falcon import usage_sink

    app = falcon.App()
    app.add_sink(usage_sink(usage, "/usage", auth=KeyAuth(usage.keys)), "/usage")
    return over_wsgi(WSGIUsageMiddleware(app, usage))


def in_falcon_asgi(usage: Usage) -> Send:
    import falcon.asgi

    from usage_middleware.integrations.falcon import usage_async_sink

    app = falcon.asgi.App()
    app.add_sink(usage_async_sink(usage, "/usage", auth=KeyAuth(usage.keys)), "/usage")
    return over_asgi(UsageMiddleware(app, usage=usage))


def in_bottle(usage: Usage) -> Send:
    import bottle

    app = bottle.Bottle()
    app.mount("/usage/", usage_wsgi_app(usage, auth=KeyAuth(usage.keys)))
    return over_wsgi(WSGIUsageMiddleware(app, usage))


def in_pyramid(usage: Usage) -> Send:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyramid.config import Configurator
        from pyramid.wsgi import wsgiapp2

    with Configurator() as config:
        config.add_route("usage", "/usage*subpath")
        config.add_view(wsgiapp2(usage_wsgi_app(usage, auth=KeyAuth(usage.keys))), route_name="usage")
    return over_wsgi(WSGIUsageMiddleware(config.make_wsgi_app(), usage))


def in_connexion(usage: Usage) -> Send:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import connexion

    from usage_middleware.web.flask import usage_blueprint

    app = connexion.FlaskApp("app")
    app.app.register_blueprint(usage_blueprint(usage, auth=KeyAuth(usage.keys)), url_prefix="/usage")
    return over_asgi(UsageMiddleware(app, usage=usage))


def in_datasette(usage: Usage) -> Send:
    from datasette.app import Datasette

    from usage_middleware.integrations.datasette import asgi_wrapper

    wrap = asgi_wrapper(usage, auth=KeyAuth(usage.keys), path="/usage")
    return over_asgi(wrap(Datasette([], memory=True).app()))


def in_django(usage: Usage) -> Send:
    from django.core.handlers.wsgi import WSGIHandler

    with_urls(usage)
    return over_wsgi(WSGIUsageMiddleware(WSGIHandler(), usage))


def in_django_asgi(usage: Usage) -> Send:
    from django.core.handlers.asgi import ASGIHandler

    with_urls(usage)
    return over_asgi(UsageMiddleware(ASGIHandler(), usage=usage))


def with_urls(usage: Usage) -> None:
    from django.urls import clear_url_caches, include, path

    importlib.import_module("tests.frameworks.apps.django_site")
    from tests.frameworks.apps import django_urls
    from usage_middleware.integrations.django import usage_urls

    pattern = path("usage/", include((usage_urls(usage, auth=KeyAuth(usage.keys)), "usage")))
    django_urls.urlpatterns[:] = [one for one in django_urls.urlpatterns if "usage/" not in str(one.pattern)] + [pattern]
    clear_url_caches()


HOSTS: dict[str, Callable[[Usage], Send]] = {
    "Litestar": in_litestar,
    "Quart": in_quart,
    "Falcon": in_falcon,
    "Falcon (ASGI)": in_falcon_asgi,
    "Bottle": in_bottle,
    "Pyramid": in_pyramid,
    "Connexion": in_connexion,
    "Datasette": in_datasette,
    "Django": in_django,
    "Django (ASGI)": in_django_asgi,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:pkg_resources")
@pytest.mark.parametrize("name", HOSTS)
def test_the_usage_api_in(name: str, make_usage: Callable[..., Usage]) -> None:
    usage = make_usage()
    try:
        send = HOSTS[name](usage)
    except ImportError as error:
        pytest.skip(f"{name} is not installed: {error}")
    usage.keys.put("acme", KeyInfo(id="key_7", name="Search backend"), secret="sk_acme")
    key = {"x-api-key": "sk_acme"}
    found = send("GET", "/usage/summary?period=7d", key)
    assert (found.status, found.headers["content-type"], found.json["org_id"]) == (200, "application/json", "acme")
    assert found.json["total_calls"] == 0
    assert send("GET", "/usage/summary", {}).status == 401
    assert send("GET", "/usage/nothing", key).code == "not_found"
    assert send("GET", "/usage/summary?nothing=1", key).status == 422
    assert send("GET", "/usage/", key).json["success"] is True
    assert (send("HEAD", "/usage/summary", key).status, send("HEAD", "/usage/summary", key).body) == (200, b"")
    assert send("POST", "/usage/summary", key).status == 405
    assert usage.flush()
    assert send("GET", "/usage/summary", key).json["total_calls"] == 0
    assert not [label for label in usage.routes() if "/usage" in label]
