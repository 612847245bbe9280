"""Counts every request to your HTTP API in Redis, and shows each customer its own usage."""

from usage_middleware.alerts.event import AlertEvent as AlertEvent
from usage_middleware.alerts.remaining import Remaining as Remaining
from usage_middleware.alerts.webhook import Webhook as Webhook
from usage_middleware.capture.asgi import UsageMiddleware as UsageMiddleware
from usage_middleware.capture.call import track as track
from usage_middleware.capture.identity import Caller as Caller
from usage_middleware.capture.wsgi import WSGIUsageMiddleware as WSGIUsageMiddleware
from usage_middleware.plans.assignment import Assigned as Assigned
from usage_middleware.plans.plan import Limit as Limit
from usage_middleware.plans.plan import Plan as Plan
from usage_middleware.plans.plan import Price as Price
from usage_middleware.plans.plan import Quota as Quota
from usage_middleware.report.viewer import Viewer as Viewer
from usage_middleware.store.keys import KeyInfo as KeyInfo
from usage_middleware.usage import Usage as Usage

__version__ = "0.1.0"
