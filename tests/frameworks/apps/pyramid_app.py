"""The API in Pyramid, with an included part."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.response import Response

from tests.frameworks.api import Api


def make(api: Api) -> Any:
    """The application."""

    def items(request: Any) -> Any:
        return Response(body=b"hello")

    def tracked(request: Any) -> Any:
        api.act(request)
        return Response(body=b"ok")

    views = {
        "/stream": lambda request: Response(app_iter=api.pieces()),
        "/boom": lambda request: api.boom(),
        "/status/{code}": lambda request: Response(body=b"no", status=int(request.matchdict["code"])),
        "/track": tracked,
    }

    def nested(config: Any) -> None:
        config.add_route("nested", "/items/{id}")
        config.add_view(items, route_name="nested", request_method="GET")

    with Configurator() as config:
        config.add_route("items", r"/items/{id:\d+}")
        config.add_view(items, route_name="items", request_method=("GET", "POST"))
        for path, view in views.items():
            config.add_route(path, path)
            config.add_view(view, route_name=path, request_method="GET")
        config.include(nested, route_prefix="/nested/{tenant}")
    return config.make_wsgi_app()
