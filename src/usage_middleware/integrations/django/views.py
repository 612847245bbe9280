"""The usage API as URL patterns of Django."""

from __future__ import annotations

from typing import Any, Unpack

from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from django.views.decorators.csrf import csrf_exempt

from usage_middleware.request_keys import USAGE_APP, leave_out
from usage_middleware.web.app_options import UsageAppOptions
from usage_middleware.web.auth import Auth
from usage_middleware.web.handler import HasReports
from usage_middleware.web.http import Request
from usage_middleware.web.wsgi import handler_of


def usage_urls(usage: HasReports, *, auth: Auth | None, **options: Unpack[UsageAppOptions]) -> list[Any]:
    """The usage API.

        urlpatterns = [path("usage/", include(usage_urls(usage, auth=KeyAuth(usage.keys))))]

    Args:
        auth: callable(django.http.HttpRequest) -> Viewer, or None for 401. `KeyAuth(usage.keys)` is one.
        options: as of `usage_app`.

    Raises:
        ConfigurationError: an argument is not possible; says which.
    """
    handler = handler_of(usage, auth, options)

    @csrf_exempt
    def answer(request: HttpRequest, path: str = "", **_: Any) -> HttpResponse:
        leave_out(request.scope if hasattr(request, "scope") else request.META)
        found = handler.answer(_request(request, path), request)
        response = HttpResponse(found.body, status=found.status, reason=found.status_line.split(" ", 1)[1])
        for name, value in found.headers.items():
            response[name] = value
        return response

    # It is then not listed among the project's endpoints.
    vars(answer)[USAGE_APP] = True
    return [re_path(r"^(?P<path>.*)$", answer, name="usage")]


def _request(request: Any, path: str) -> Request:
    root = request.path.removesuffix(path).rstrip("/")
    query = request.META.get("QUERY_STRING", "").encode("latin-1", "replace")
    peer = request.META.get("REMOTE_ADDR") or ""
    return Request(request.method, f"/{path}", query, root, lambda name: request.headers.get(name, ""), peer)
