"""The projects whose tests are run, and how."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Project:
    """A project.

    Attributes:
        name: of its distribution.
        wraps: what of `usage_wrapping` is wrapped.
        folder: where its tests are; empty if its source distribution has none.
        arguments: further ones for its runner.
        is_short: whether it is in the short form.
    """

    name: str
    wraps: tuple[str, ...]
    folder: str = "tests"
    arguments: tuple[str, ...] = ()
    is_short: bool = False

    @property
    def has_own_runner(self) -> bool:
        """Whether its tests are not pytest's."""
        return self.name == "django"


#: Of Django's tests those in which a request goes through a handler or the test client.
_DJANGO = (
    *("admin_views", "asgi", "auth_tests", "builtin_server", "conditional_processing", "csrf_tests", "decorators"),
    *("file_uploads", "flatpages_tests", "generic_views", "handlers", "httpwrappers", "logging_tests", "messages_tests"),
    *("middleware", "middleware_exceptions", "redirects_tests", "requests_tests", "responses", "servers", "sessions_tests"),
    *("sitemaps_tests", "staticfiles_tests", "syndication_tests", "test_client", "test_client_regress", "test_exceptions"),
    *("urlpatterns", "urlpatterns_reverse", "view_tests", "wsgi"),
)

#: Without the servers that Falcon's tests start as processes of their own: nothing is wrapped there.
_FALCON = tuple(f"--ignore=tests/{name}.py" for name in ("asgi/test_asgi_servers", "test_wsgi_servers"))

PROJECTS = (
    Project("starlette", ("starlette", "starlette-client"), arguments=("-p", "anyio"), is_short=True),
    Project("fastapi", ("fastapi", "starlette", "starlette-client"), arguments=("-p", "anyio", "-p", "pytest_timeout")),
    Project("flask", ("flask",)),
    Project("werkzeug", ("werkzeug-client",), arguments=("-m", "not dev_server")),
    Project("django", ("django-wsgi", "django-asgi", "django-client"), arguments=("--parallel=1", *_DJANGO)),
    Project("falcon", ("falcon-asgi", "falcon-wsgi"), arguments=_FALCON),
    Project("bottle", ("bottle",), folder="test", arguments=("-c", os.devnull, "--rootdir", "."), is_short=True),
    Project("quart", ("quart",), folder=""),
    Project("litestar", ("litestar",), folder=""),
)
