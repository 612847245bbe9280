"""The usage API by the settings: `path("usage/", include("usage_middleware.integrations.django.urls"))`."""

from __future__ import annotations

from usage_middleware.integrations.django.settings import get_usage, view_options
from usage_middleware.integrations.django.views import usage_urls

app_name = "usage"
urlpatterns = usage_urls(get_usage(), **view_options())
