"""The frameworks whose applications get a hook when a middleware wraps them."""

from __future__ import annotations

from typing import Any

from usage_middleware.capture.frameworks.bridge import Bridge
from usage_middleware.capture.frameworks.connexion import Connexion
from usage_middleware.capture.frameworks.datasette import Datasette
from usage_middleware.capture.frameworks.django import Django
from usage_middleware.capture.frameworks.falcon import Falcon
from usage_middleware.capture.frameworks.hooked import Hooked
from usage_middleware.capture.frameworks.pyramid import Pyramid
from usage_middleware.capture.frameworks.quart import Quart
from usage_middleware.capture.frameworks.under import applications

HOOKED: tuple[Hooked, ...] = (Django(), Falcon(), Pyramid(), Quart(), Connexion(), Datasette(), Bridge())


def hook(app: Any) -> bool:
    """Give their hooks to all applications under this one. True if there are any."""
    hooked = [framework.hook(one) for one in applications(app) for framework in HOOKED]
    return any(hooked)
