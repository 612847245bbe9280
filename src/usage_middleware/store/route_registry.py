"""The application's routes in Redis, for processes that only serve views."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from usage_middleware.periods import DAY
from usage_middleware.store.members import route_member
from usage_middleware.store.schema import Schema

#: A route that no worker has published for this long is gone.
ROUTE_SECONDS = 2 * DAY
MOST_ROUTES = 5_000


def publish_routes(client: Any, schema: Schema, routes: Mapping[str, bool], now_ms: int) -> None:
    """Publish endpoints, and whether the application's schema lists them.

    Raises:
        redis_errors(): as the client does.
    """
    found = list(islice(routes.items(), MOST_ROUTES))
    with client.pipeline(transaction=True) as pipeline:
        pipeline.zadd(schema.routes, {route_member(name, public): now_ms for name, public in found})
        pipeline.zrem(schema.routes, *(route_member(name, not public) for name, public in found))
        pipeline.zremrangebyscore(schema.routes, "-inf", f"({now_ms - ROUTE_SECONDS * 1000}")
        pipeline.expire(schema.routes, ROUTE_SECONDS)
        pipeline.execute()
