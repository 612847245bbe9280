"""The API in Django, both protocols: a URLconf with included parts, Django REST framework and the admin."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        ROOT_URLCONF="tests.frameworks.apps.django_urls",
        SECRET_KEY="only for tests",
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "rest_framework",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()

from tests.frameworks.api import Api
from tests.frameworks.apps import django_urls


def make(api: Api) -> Any:
    """Django's WSGI side."""
    from django.core.handlers.wsgi import WSGIHandler

    django_urls.API = api
    return WSGIHandler()


def make_asgi(api: Api) -> Any:
    """Django's ASGI side."""
    from django.core.handlers.asgi import ASGIHandler

    django_urls.API = api
    return ASGIHandler()
