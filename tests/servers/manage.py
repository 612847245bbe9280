"""A project of Django in one file: `manage.py runserver PORT`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from tests.faults.served import usage
from usage_middleware import WSGIUsageMiddleware

settings.configure(
    DEBUG=True,
    ROOT_URLCONF=__name__,
    WSGI_APPLICATION="__main__.application",
    SECRET_KEY="of a test",
    # For the length of each answer.
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    APPEND_SLASH=False,
    ALLOWED_HOSTS=["*"],
    LOGGING_CONFIG=None,
)

if folder := os.environ.get("USAGE_WATCHED"):
    # A module that a test may change.
    sys.path.append(folder)
    importlib.import_module("watched")


def item(_: Any, item: str) -> HttpResponse:
    """As in `application`."""
    return HttpResponse("found", status=404 if item == "none" else 200)


def create(_: Any) -> HttpResponse:
    """As in `application`."""
    return HttpResponse("created", status=201)


def broken(_: Any) -> HttpResponse:
    """As in `application`."""
    return HttpResponse("sorry", status=500)


urlpatterns = [path("items/<item>", item), path("items", create), path("broken", broken)]


application = WSGIUsageMiddleware(get_wsgi_application(), usage)

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
