"""Django: a middleware for `MIDDLEWARE`, the usage API for `urls.py`, settings and system checks.

INSTALLED_APPS = ["usage_middleware.integrations.django", ...]
MIDDLEWARE = ["usage_middleware.integrations.django.UsageMiddleware", ...]
USAGE_MIDDLEWARE = {"redis": "redis://localhost:6379/0", "dimensions": ("project",)}
"""

from __future__ import annotations

from usage_middleware.integrations.django.middleware import UsageMiddleware as UsageMiddleware
from usage_middleware.integrations.django.settings import get_usage as get_usage
from usage_middleware.integrations.django.views import usage_urls as usage_urls
