"""The application for `INSTALLED_APPS`, which brings the system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

from usage_middleware.integrations.django.checks import check_middleware, check_settings


class UsageConfig(AppConfig):
    """Usage of the API."""

    name = "usage_middleware.integrations.django"
    label = "usage_middleware"
    verbose_name = "Usage"

    def ready(self) -> None:
        """Register the checks."""
        register(check_settings)
        register(check_middleware)
