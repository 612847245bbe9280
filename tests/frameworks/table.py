"""The one table of applications: the same API in every framework, and where their labels differ."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.capture.recording import Usage
from tests.capture.shells import Answer, ask_asgi, ask_wsgi
from tests.frameworks.api import Api, nothing
from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.capture.wsgi import WSGIUsageMiddleware

UNMATCHED = "(unmatched)"
NAMED = "/items/{id}"


@dataclass(frozen=True)
class Application:
    """The API in one framework.

    Attributes:
        module: of `tests.frameworks.apps`, and the function in it that makes the application.
        is_asgi: its protocol.
        refused: status and template of a method that `/items/{id}` does not have.
        labels: further paths with their templates.
        websockets: True if it has `/ws`.
        raises: True if an exception of the application goes on to the server.
        posts: True if its routes tell methods apart.
        unlisted: methods that its views have and its list of routes does not show.
    """

    name: str
    module: str
    is_asgi: bool
    make: str = "make"
    refused: tuple[int, str] = (405, UNMATCHED)
    labels: Mapping[str, str] = field(default_factory=dict)
    websockets: bool = False
    raises: bool = False
    posts: bool = True
    unlisted: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    def application(self, api: Api) -> Any:
        """The framework's own application; skips the test where the framework is not installed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the frameworks import
            try:
                module = importlib.import_module(f"tests.frameworks.apps.{self.module}")
            except ImportError as error:
                pytest.skip(f"{self.name} is not installed: {error}")
        return getattr(module, self.make)(api)

    def wrapped(self, usage: Usage, act: Any = nothing) -> Wrapped:
        """The application inside a middleware, as a user would write it."""
        app = self.application(Api(usage, act))
        return Wrapped(self, UsageMiddleware(app, usage=usage) if self.is_asgi else WSGIUsageMiddleware(app, usage))


@dataclass(frozen=True)
class Wrapped:
    """An application inside a middleware."""

    application: Application
    app: Any

    def ask(self, method: str = "GET", path: str = "/items/5", headers: dict[str, str] | None = None, **more: Any) -> Answer:
        """One request, as a server would pass it on."""
        ask = ask_asgi if self.application.is_asgi else ask_wsgi
        return ask(self.app, method, path, {"host": "test", **(headers or {})}, **more)


APPLICATIONS = (
    Application("Starlette", "starlette_app", True, refused=(405, NAMED), websockets=True, raises=True),
    Application("FastAPI", "fastapi_app", True, refused=(405, NAMED), websockets=True, raises=True),
    Application("Litestar", "litestar_app", True, websockets=True),
    Application("Quart", "quart_app", True, websockets=True),
    Application("Falcon (ASGI)", "falcon_asgi_app", True, refused=(405, NAMED), websockets=True),
    Application("Connexion", "connexion_app", True),
    Application("Connexion (Flask)", "connexion_app", True, make="make_flask", labels={"/plain/5": "/plain/{id}"}),
    Application(
        "Datasette",
        "datasette_app",
        True,
        refused=(200, NAMED),
        posts=False,
        labels={
            "/": "/",
            "/-/versions.json": "/-/versions",
            "/-/static/app.css": "/-/static/{path}",
            "/_memory": "/{database}",
        },
    ),
    Application(
        "Django (ASGI)",
        "django_site",
        True,
        make="make_asgi",
        refused=(405, NAMED),
        labels={"/async/x": "/async/{which}", "/api/1/things/": "/api/{version}/things/"},
    ),
    Application(
        "Django",
        "django_site",
        False,
        refused=(405, NAMED),
        labels={
            "/async/x": "/async/{which}",
            "/years/2026/": "/years/{year}/",
            "/years/2026/page-2/": "/years/{year}/",
            "/unnamed/1/b": "/unnamed/{arg1}/{arg2}",
            "/api/1/": "/api/{version}/",
            "/api/1/things/": "/api/{version}/things/",
            "/api/1/things/7/": "/api/{version}/things/{pk}/",
            "/api/1/things.json": "/api/{version}/things.{format}",
            "/admin/": "/admin/",
            "/admin/login/": "/admin/login/",
            "/admin/auth/user/3/change/": "/admin/auth/user/{object_id}/change/",
            "/items": UNMATCHED,
            "/api/1/things": UNMATCHED,  # redirected
        },
    ),
    Application("Flask", "flask_app", False),
    Application("Falcon", "falcon_app", False, refused=(405, NAMED)),
    Application("Bottle", "bottle_app", False),
    Application("Pyramid", "pyramid_app", False, refused=(404, NAMED), raises=True),
)
