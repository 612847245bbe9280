"""The URLconf of the tests' site. `API` is the API of the test that runs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import include, path, re_path
from django.views import View
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.viewsets import ViewSet

from tests.capture.recording import Usage
from tests.frameworks.api import Api

API = Api(Usage())


class Items(View):
    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return HttpResponse(b"hello")

    post = get


def stream(request: HttpRequest) -> Any:
    return StreamingHttpResponse(API.apieces() if hasattr(request, "scope") else API.pieces())


def boom(request: HttpRequest) -> HttpResponse:
    API.boom()
    return HttpResponse()


def status(request: HttpRequest, code: int) -> HttpResponse:
    return HttpResponse(b"no", status=code)


def tracked(request: HttpRequest) -> HttpResponse:
    API.act(request)
    return HttpResponse(b"ok")


async def slow(request: HttpRequest, which: str) -> HttpResponse:
    return HttpResponse(b"async")


class Things(ViewSet):
    authentication_classes = ()
    permission_classes = ()

    def list(self, request: Any, **_: Any) -> Response:
        return Response([])

    def create(self, request: Any, **_: Any) -> Response:
        return Response({}, status=201)

    def retrieve(self, request: Any, pk: str, **_: Any) -> Response:
        API.act(request)
        return Response({"id": pk})


router = DefaultRouter()
router.register("things", Things, basename="thing")
nested = [path("items/<int:id>", Items.as_view())]

urlpatterns = [
    path("items/<int:id>", Items.as_view()),
    path("stream", stream),
    path("boom", boom),
    path("status/<int:code>", status),
    path("track", tracked),
    path("nested/<slug:tenant>/", include(nested)),
    path("async/<str:which>", slow),
    re_path(r"^years/(?P<year>[0-9]{4})/(?:page-(?P<page>\d+)/)?$", lambda request, year, page=1: HttpResponse()),
    re_path(r"^unnamed/([0-9]+)/(\w+)$", lambda request, one, two: HttpResponse()),
    path("api/<int:version>/", include(([*router.urls], "api"))),
    path("admin/", admin.site.urls),
]
