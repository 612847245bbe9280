"""What reports read with: batches of reads, the application's routes, and how far the numbers are complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from usage_middleware.store.driver_errors import is_wrong_type
from usage_middleware.store.engine import Engine
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.store.replies import add_scores, text
from usage_middleware.store.schema import Schema, parse_route_member, since_field

#: How long the numbers wait for a worker that has gone silent, in milliseconds.
WORKER_GONE_MS = 60_000


class Reader:
    """Opens batches of reads, and tells how far the numbers are complete."""

    def __init__(
        self,
        engine: Engine,
        schema: Schema,
        *,
        own_routes: Callable[[], Mapping[str, bool]] = dict,
    ) -> None:
        self._engine = engine
        self.schema = schema
        self.settings = schema.settings
        self._own_routes = own_routes

    def routes(self) -> dict[str, bool]:
        """The application's own endpoints, called or not, and whether its schema lists them.

        Those of this process, and those that its workers left in Redis.
        """
        stored = self._sound(self.schema.routes, "ZRANGE", self.schema.routes, 0, -1)
        found = sorted(parse_route_member(text(member)) for member in stored)
        return {**dict(found), **self._own_routes()}

    def _sound(self, key: str, *command: object) -> Any:
        """The reply to a command, or nothing where the Redis key that it reads holds another type."""
        try:
            return self._engine.read_client.execute_command(*command)
        except Exception as error:
            if not self._engine.damage.explains(error, key):
                raise
            return ()

    def _times(self, key: str, names: Iterable[str], values: Iterable[Any]) -> dict[str, int]:
        """Name -> milliseconds since the epoch, of those that are there."""
        found: dict[str, int] = {}
        add_scores(names, found, lambda name: self._engine.damage.note(key, f"the time of {name:.100}"), values)
        return found

    def batch(self, org: str, now: int, charge: Callable[[int], object]) -> ReadBatch:
        """An empty batch of reads of one organisation's tree (`*`: that of all organisations together)."""
        return ReadBatch(self._engine.read_client, self.schema, org, now, charge, self._engine.damage)

    def since(self, dimensions: Sequence[str]) -> dict[str, int]:
        """Since when each dimension is kept, in seconds since the epoch; those that never were are absent."""
        if not dimensions:
            return {}
        names = [since_field(dimension) for dimension in dimensions]
        found = self._engine.read_client.execute_command("HMGET", self.schema.meta, *names)
        return {name: ms // 1000 for name, ms in self._times(self.schema.meta, dimensions, found).items()}

    def complete_through(self, now: int) -> int | None:
        """The time, in milliseconds since the epoch, up to which the calls of all live workers are in; None without workers."""
        client = self._engine.read_client
        alive = self._sound(self.schema.workers, "ZRANGEBYSCORE", self.schema.workers, now * 1000 - WORKER_GONE_MS, "+inf")
        if not alive:
            return None
        with client.pipeline(transaction=False) as pipe:
            for worker in alive:
                pipe.execute_command("HGET", self.schema.worker(text(worker)), "flushed_through_ms")
            replies = pipe.execute(raise_on_error=False)
        through = self._times(self.schema.workers, map(text, alive), map(_unless_of_another_type, replies))
        return min(through.values()) if through else None


def _unless_of_another_type(reply: Any) -> Any:
    if isinstance(reply, Exception) and not is_wrong_type(reply):
        raise reply
    return None if isinstance(reply, Exception) else reply
