"""The applications as servers import them: `BENCHMARK_AROUND` names what is around them, `BENCHMARK_REDIS_URL` our Redis."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import apps, peers
from usage_middleware import Usage

#: The application alone, and counted; the others are peers.
BARE, OURS = "bare", "usage_middleware"


def asgi() -> Any:
    """For uvicorn."""
    return _wrapped(apps.fastapi_app, peers.FASTAPI)


def wsgi() -> Any:
    """For gunicorn."""
    return _wrapped(apps.flask_app, peers.FLASK)


def _wrapped(make: Callable[[Usage | None], Any], known: Mapping[str, peers.Make]) -> Any:
    around = os.environ["BENCHMARK_AROUND"]
    if around == OURS:
        return make(apps.new_usage(os.environ["BENCHMARK_REDIS_URL"], namespace="served"))
    return make(None) if around == BARE else known[around]()
