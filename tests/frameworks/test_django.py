# ruff: noqa: E402 - what needs Django is imported where Django is installed
"""Django's own means: the entry of `MIDDLEWARE`, the settings, the system checks, the URLs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

django = pytest.importorskip("django")
pytest.importorskip("rest_framework")

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, HttpResponse
from django.test import override_settings

from tests.capture import recording
from tests.capture.shells import ask_asgi, ask_wsgi
from tests.frameworks.api import Api
from tests.frameworks.apps import (
    django_site,  # noqa: F401 - it configures Django
    django_urls,
)
from usage_middleware import Caller, Usage, track
from usage_middleware.capture.asgi import UsageMiddleware
from usage_middleware.capture.capture import Capture
from usage_middleware.capture.wsgi import WSGIUsageMiddleware
from usage_middleware.credentials import credential_digest
from usage_middleware.errors import ConfigurationError
from usage_middleware.integrations.django import get_usage
from usage_middleware.integrations.django.checks import MIDDLEWARE, check_middleware, check_settings

ASKS: dict[str, Any] = {"wsgi": (WSGIHandler, ask_wsgi), "asgi": (ASGIHandler, ask_asgi)}


class Recorded(Usage):
    """A `Usage` whose calls stay in a list."""

    def __init__(self, **options: Any) -> None:
        super().__init__("redis://127.0.0.1:1")
        self.recording = recording.Recording()
        self.timer = recording.Timer()
        self.capture = Capture(self.recording, recording.SETTINGS, timer=self.timer, **options)


@pytest.fixture(params=ASKS)
def protocol(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def usage() -> Iterator[Recorded]:
    with project(usage := Recorded()):
        yield usage


def project(usage: Usage, **more: Any) -> Any:
    """The settings of a project that uses the middleware, first of all."""
    before = [name for name in settings.MIDDLEWARE if not name.startswith("usage_middleware")]
    return override_settings(**{"USAGE_MIDDLEWARE": {"usage": usage}, "MIDDLEWARE": [MIDDLEWARE, *before], **more})


def ask(protocol: str, method: str = "GET", path: str = "/items/5", **headers: str) -> Any:
    handler, asked = ASKS[protocol]
    return asked(
        handler(), method, path, {"host": "test", **{name.replace("_", "-"): value for name, value in headers.items()}}
    )


def test_an_ordinary_call(usage: Recorded, protocol: str) -> None:
    assert ask(protocol, x_api_key="sk_1") == (200, b"hello")
    seen = usage.recording.only
    assert (seen.endpoint, seen.status, seen.sent, seen.caller) == ("GET /items/{id}", 200, 5, credential_digest("sk_1"))


@pytest.mark.parametrize(
    ("path", "label", "status"),
    [
        ("/nested/acme/items/5", "GET /nested/{tenant}/items/{id}", 200),
        ("/api/1/things/7/", "GET /api/{version}/things/{pk}/", 200),
        ("/async/x", "GET /async/{which}", 200),
        ("/status/503", "GET /status/{code}", 503),
        ("/boom", "GET /boom", 500),
        ("/nothing", "GET (unmatched)", 404),
        ("/admin/", "GET /admin/", 302),
    ],
)
def test_labels(usage: Recorded, protocol: str, path: str, label: str, status: int) -> None:
    django_urls.API = Api(recording.Usage())
    assert ask(protocol, path=path).status == status
    assert (usage.recording.only.endpoint, usage.recording.only.status) == (label, status)


def test_a_stream_is_counted_to_its_end(usage: Recorded, protocol: str) -> None:
    django_urls.API = Api(usage)  # type: ignore[arg-type]
    assert ask(protocol, path="/stream") == (200, b"abcde")
    seen = usage.recording.only
    assert (seen.endpoint, seen.sent, seen.latency_us) == ("GET /stream", 5, 500_000)


def test_a_file_is_left_to_the_server(usage: Recorded, tmp_path: Any) -> None:
    from usage_middleware.integrations.django.call import begin

    path = tmp_path / "a.txt"
    path.write_bytes(b"12345678")
    from django.test import RequestFactory

    request = RequestFactory().get("/file")
    call = begin(usage.capture, request)
    assert call is not None
    response = FileResponse(path.open("rb"))
    file = response.file_to_stream
    assert call.respond(response).file_to_stream is file
    response.close()
    assert usage.recording.only.sent == 8


def test_the_request_is_tracked(usage: Recorded, protocol: str) -> None:
    for path in ("/track", "/api/1/things/7/"):
        django_urls.API = Api(recording.Usage(), lambda request: track(request).tag(project="p").identify(org="acme", key="k"))
        assert ask(protocol, path=path).status == 200
    for seen in usage.recording.seen:
        assert (seen.tags, seen.caller) == (("p", "home"), ("acme", "k"))
    assert len(usage.recording.seen) == 2


def test_counted_once_with_a_middleware_around_it(usage: Recorded, protocol: str) -> None:
    handler, asked = ASKS[protocol]
    app = handler()
    outer = recording.Usage()
    wrapped = UsageMiddleware(app, usage=outer) if protocol == "asgi" else WSGIUsageMiddleware(app, outer)
    asked(wrapped, "GET", "/items/5", {"host": "test"})
    assert (outer.labels, usage.recording.seen) == (["GET /items/{id}"], [])


def test_what_is_not_counted(protocol: str) -> None:
    usage = Recorded(exclude=["/status/*"])
    with project(usage):
        ask(protocol, path="/status/200")
        ask(protocol, "OPTIONS", origin="https://a.example", access_control_request_method="POST")
        ask(protocol, "OPTIONS", origin="https://a.example", access_control_request_method="POST", x_api_key="sk_1")
        assert ask(protocol, path="/items/5").status == 200
    assert [seen.endpoint for seen in usage.recording.seen] == ["OPTIONS /items/{id}", "GET /items/{id}"]


def test_identify(protocol: str) -> None:
    usage = Recorded(identify=lambda request: Caller(org=request.headers["x-org"], key="k"))
    with project(usage):
        ask(protocol, x_org="acme")
        ask(protocol)
    assert [seen.caller for seen in usage.recording.seen] == [("acme", "k"), ("default", "(anonymous)")]
    assert usage.recording.reasons == {"identify raised": 1}


def test_an_async_identify_is_awaited() -> None:
    async def identify(request: Any) -> Caller:
        await asyncio.sleep(0)
        return Caller("acme", "k")

    usage = Recorded(identify=identify)
    with project(usage):
        ask("asgi")
    assert usage.recording.only.caller == ("acme", "k")


def test_the_projects_routes_are_listed(usage: Recorded, protocol: str) -> None:
    handler = ASKS[protocol][0]()
    found = [(route.method, route.template) for route in usage.capture.routes()]
    assert {("GET", "/items/{id}"), ("POST", "/items/{id}"), ("GET", "/api/{version}/things/{pk}/")} <= set(found)
    assert not [template for _, template in found if "admin" in template or "format" in template]
    assert handler


def test_the_test_client_is_counted(usage: Recorded) -> None:
    from django.test import Client

    assert Client().get("/items/5").status_code == 200
    assert usage.recording.only.endpoint == "GET /items/{id}"


def test_a_sync_middleware_between_is_no_matter(usage: Recorded, protocol: str) -> None:
    with override_settings(MIDDLEWARE=["tests.frameworks.test_django.sync_only", MIDDLEWARE]):
        assert ask(protocol).status == 200
    assert usage.recording.only.endpoint == "GET /items/{id}"


def sync_only(get_response: Any) -> Any:
    def middleware(request: Any) -> HttpResponse:
        response: HttpResponse = get_response(request)
        return response

    return middleware


# --- settings and checks


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (None, "must be a dictionary"),
        ({"rediss": "x"}, "'rediss' is no option; allowed are "),
        ({"redis": "redis://localhost", "identify": "no.such.thing"}, "identify: No module named 'no'"),
        ({"usage": "tests.frameworks.test_django.sync_only"}, "must be a Usage"),
        ({"usage": "no.such"}, "usage: No module named 'no'"),
        ({"redis": "redis://localhost", "namespace": "a b"}, "namespace"),
    ],
)
def test_a_wrong_setting_is_found_by_the_check(setting: Any, message: str) -> None:
    with override_settings(USAGE_MIDDLEWARE=setting):
        (error,) = check_settings()
        assert (error.id, message in error.msg) == ("usage_middleware.E001", True), error.msg
        with pytest.raises(ConfigurationError):
            get_usage()


def test_the_setting_makes_a_usage() -> None:
    setting = {"redis": "redis://localhost:1", "dimensions": ("project",), "identify": "tests.frameworks.test_django.sync_only"}
    with override_settings(USAGE_MIDDLEWARE=setting):
        assert check_settings() == []
        usage = get_usage()
        assert usage is get_usage()
        assert (usage.settings.dimensions, usage.capture.identify) == (("project",), sync_only)


@pytest.mark.parametrize(
    ("middleware", "ids"),
    [
        ([MIDDLEWARE, "a.B"], []),
        (["a.B"], []),
        (["a.B", MIDDLEWARE], ["usage_middleware.W001"]),
        ([MIDDLEWARE, "a.B", MIDDLEWARE], ["usage_middleware.E002"]),
    ],
)
def test_the_middlewares_place_is_checked(middleware: list[str], ids: list[str]) -> None:
    with override_settings(MIDDLEWARE=middleware):
        assert [message.id for message in check_middleware()] == ids
