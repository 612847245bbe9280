"""Counts every request to your HTTP API in Redis, and shows each customer its own usage."""

from usage_middleware.capture.asgi import UsageMiddleware as UsageMiddleware
from usage_middleware.capture.call import track as track
from usage_middleware.capture.identity import Caller as Caller
from usage_middleware.capture.wsgi import WSGIUsageMiddleware as WSGIUsageMiddleware
from usage_middleware.report.viewer import Viewer as Viewer
from usage_middleware.store.keys import KeyInfo as KeyInfo
from usage_middleware.usage import Usage as Usage

__version__ = "0.1.0"
