"""Leaves the application's routes in Redis, for processes that only serve views."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from usage_middleware.record.attribution import CountError
from usage_middleware.store.driver_errors import redis_errors
from usage_middleware.store.writer import Writer

logger = logging.getLogger("usage_middleware")

#: How often they are written, seconds.
ROUTES_EVERY = 3600.0
MOST_ROUTES = 5_000


class PublishedRoutes:
    """Writes the routes about once an hour.

    Args:
        writer: writes to Redis.
        routes: the endpoints of the application.
        count_error: counts and logs an error of theirs.
    """

    def __init__(self, writer: Writer, routes: Callable[[], Collection[str]], count_error: CountError) -> None:
        self._writer = writer
        self._routes = routes
        self._count_error = count_error
        self._published_at = float("-inf")

    def publish(self, now_ms: int, monotonic: float) -> None:
        """Write them if it is time.

        Args:
            now_ms: milliseconds since the epoch.
            monotonic: seconds that never jump.
        """
        if self._published_at + ROUTES_EVERY > monotonic:
            return
        self._published_at = monotonic
        try:
            labels = list(self._routes())[:MOST_ROUTES]
            if labels:
                self._writer.publish_routes(labels, now_ms)
            self._writer.forget_debts(now_ms)
        except redis_errors() as error:
            logger.debug("usage: the application's routes could not be published: %s", error)
        except Exception:  # An application's routes may be anything.
            self._count_error("routes")
