"""Publishes the application's routes, for processes that only serve views, and tidies up after workers that ended long ago."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from usage_middleware.options import DeliveryOptions
from usage_middleware.record.attribution import CountError
from usage_middleware.store.driver_errors import redis_errors
from usage_middleware.store.writer import Writer

logger = logging.getLogger("usage_middleware")

ROUTES_EVERY = 3600.0
MOST_ROUTES = 5_000


class Routes:
    """Does so every hour, `routes` being the endpoints of the application."""

    def __init__(
        self, routes: Callable[[], Collection[str]], writer: Writer, options: DeliveryOptions, count_error: CountError
    ) -> None:
        self._routes = routes
        self._writer = writer
        self._options = options
        self._count_error = count_error
        self.reset()

    def reset(self) -> None:
        """Publish them the next time."""
        self._published_at = float("-inf")

    def publish(self, now_ms: int) -> None:
        """Publish them if an hour is over. Never raises."""
        now = self._options.monotonic()
        if self._published_at + ROUTES_EVERY > now:
            return
        self._published_at = now
        try:
            labels = list(self._routes())[:MOST_ROUTES]
            if labels:
                self._writer.publish_routes(labels, now_ms)
            self._writer.forget_debts(now_ms)
        except redis_errors() as error:
            logger.debug("usage: the application's routes could not be published: %s", error)
        except Exception:  # An application's routes may be anything.
            self._count_error("routes")
