"""The applications as servers import them: bare, or counted in the Redis that `BENCHMARK_REDIS_URL` names."""

from __future__ import annotations

import os

from fastapi import FastAPI
from flask import Flask

from benchmarks import apps
from usage_middleware import Usage


def _usage() -> Usage | None:
    url = os.environ.get("BENCHMARK_REDIS_URL")
    return apps.new_usage(url, namespace="served") if url else None


def asgi() -> FastAPI:
    """For uvicorn."""
    return apps.fastapi_app(_usage())


def wsgi() -> Flask:
    """For gunicorn."""
    return apps.flask_app(_usage())
