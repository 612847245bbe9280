"""The measured application in Django, with a choice of `MIDDLEWARE`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import path

from benchmarks.apps import ITEM, KINDS
from usage_middleware import Usage, WSGIUsageMiddleware, track

if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="none", ALLOWED_HOSTS=["*"], INSTALLED_APPS=[], LOGGING_CONFIG=None)


def item(request: HttpRequest, item: int) -> JsonResponse:
    """One view for all variants, since a process has one URLconf."""
    if "usage.call" in request.META:
        track(request).tag(project="search").count(records=3)
    return JsonResponse(ITEM)


urlpatterns = [path(f"v1/{kind}/<int:item>", item) for kind in KINDS]


def django_app(usage: Usage | None = None) -> Any:
    """The application. With a `usage`, a middleware around it counts its calls."""
    app = with_middleware()
    return app if usage is None else WSGIUsageMiddleware(app, usage)


def with_middleware(*names: str, **more: Any) -> Any:
    """The application with these entries of `MIDDLEWARE`, and settings."""
    import django
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    django.setup()
    with override_settings(MIDDLEWARE=list(names), **more):
        return WSGIHandler()


def in_middleware() -> Any:
    """This package's own entry of `MIDDLEWARE`."""
    setting = {"dimensions": ("project",), "counters": ("records",), "redis": "redis://127.0.0.1:1", "flush_interval": 3600.0}
    return with_middleware("usage_middleware.integrations.django.UsageMiddleware", USAGE_MIDDLEWARE=setting)


def django_prometheus() -> Any:
    """django-prometheus as its documentation says: one middleware before all others, one after them."""
    prefix = "django_prometheus.middleware.Prometheus"
    return with_middleware(f"{prefix}BeforeMiddleware", f"{prefix}AfterMiddleware", PROMETHEUS_EXPORT_MIGRATIONS=False)
