"""System checks: `python manage.py check` finds a wrong setting, and a middleware in the wrong place."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

from usage_middleware.errors import ConfigurationError
from usage_middleware.integrations.django.settings import get_usage, view_options
from usage_middleware.integrations.django.views import usage_urls

MIDDLEWARE = "usage_middleware.integrations.django.UsageMiddleware"


def check_settings(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """E001: `USAGE_MIDDLEWARE` is missing or wrong."""
    try:
        usage_urls(get_usage(), **view_options())
    except ConfigurationError as error:
        return [Error(str(error), hint="See the guide for Django.", id="usage_middleware.E001")]
    return []


def check_middleware(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """W001: the middleware is not the first; E002: it is there twice."""
    places = [place for place, name in enumerate(settings.MIDDLEWARE) if name.startswith(MIDDLEWARE.rpartition(".")[0])]
    if len(places) > 1:
        return [Error(f"{MIDDLEWARE} is in MIDDLEWARE twice.", hint="Leave the first one.", id="usage_middleware.E002")]
    if places and places[0] > 0:
        before = ", ".join(settings.MIDDLEWARE[: places[0]])
        message = f"{MIDDLEWARE} is not the first in MIDDLEWARE: what {before} answers is not counted."
        return [Warning(message, hint="Put it first.", id="usage_middleware.W001")]
    return []
