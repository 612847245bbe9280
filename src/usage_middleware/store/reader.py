"""What reports read with: batches of reads, the application's routes, and how far the numbers are complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from usage_middleware.options import Settings
from usage_middleware.store.driver_errors import is_wrong_type
from usage_middleware.store.engine import Engine
from usage_middleware.store.history.known_months import KnownMonths
from usage_middleware.store.history.names import bucket, month_of
from usage_middleware.store.members import parse_route_member
from usage_middleware.store.meta import HISTORY_BEGINNINGS, history_began, since_field
from usage_middleware.store.owing import Debt, debts
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.store.replies import add_scores, text
from usage_middleware.store.schema import Schema

#: How long the numbers wait for a worker that has gone silent, in milliseconds.
WORKER_GONE_MS = 60_000


class Completeness(NamedTuple):
    """How far the counters are complete.

    Attributes:
        through_ms: the calls of all live workers that finished before then are in, milliseconds since 1970; None without
            workers.
        debts: what each worker may still have to deliver, also of those that have ended.
    """

    through_ms: int | None
    debts: list[Debt]


class Standing(NamedTuple):
    """How things are in Redis when a report begins.

    Attributes:
        settings: with the retention that readers go by: what is packed is kept for longer.
        since: from when each declared dimension is kept, in seconds since the epoch; those that never were are absent.
        completeness: how far the counters are complete. The first call asks Redis.
    """

    settings: Settings
    since: Mapping[str, int]
    completeness: Callable[[], Completeness]


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
        self._months = KnownMonths()
        #: The last result of `_reaching`: settings are checked when they are made.
        self._reached = (-1, self.settings)

    def routes(self) -> dict[str, bool]:
        """The application's own endpoints, called or not, and whether its schema lists them.

        Those of this process, and those that its workers left in Redis.
        """
        stored = self._sound(self.schema.routes, "ZRANGE", self.schema.routes, 0, -1)
        found = sorted(parse_route_member(text(member)) for member in stored)
        return {**dict(found), **self._own_routes()}

    def batch(self, org: str, now: int, charge: Callable[[int], object]) -> ReadBatch:
        """An empty batch of reads of one organisation's tree (`*`: that of all organisations together)."""
        return ReadBatch(self._engine.read_client, self.schema, org, now, charge, self._engine.damage, self._months)

    def together(self, org: str, at: int, keys: Sequence[str]) -> list[str]:
        """API keys in an order in which those are neighbours whose packed time of a month is read together."""
        buckets = self._months.head(self.schema.history(org, month_of(at))).buckets
        return sorted(keys, key=lambda key: bucket(key, buckets))

    def _sound(self, key: str, *command: object) -> Any:
        """The reply to a command, or nothing where the Redis key that it reads holds another type."""
        try:
            return self._engine.read_client.execute_command(*command)
        except Exception as error:
            return self._sound_reply(key, error)

    def _sound_reply(self, key: str, reply: Any) -> Any:
        """A reply, or nothing in place of the error that the Redis key holds another type."""
        if not isinstance(reply, Exception):
            return reply
        if not self._engine.damage.explains(reply, key):
            raise reply
        return ()

    def _times(self, key: str, names: Iterable[str], values: Iterable[Any]) -> dict[str, int]:
        """Name -> milliseconds since the epoch, of those that are there."""
        found: dict[str, int] = {}
        add_scores(names, found, lambda name: self._engine.damage.note(key, f"the time of {name:.100}"), values)
        return found

    def standing(self, now: int) -> Standing:
        """How things are, in one trip."""
        schema, names = self.schema, [*self._beginnings, *map(since_field, self.settings.dimensions)]
        with self._engine.read_client.pipeline(transaction=False) as pipe:
            pipe.execute_command("ZRANGEBYSCORE", schema.workers, now * 1000 - WORKER_GONE_MS, "+inf")
            pipe.hgetall(schema.owing)
            if names:
                pipe.execute_command("HMGET", schema.meta, *names)
            workers, owing, *began = pipe.execute(raise_on_error=False)
        found = (self._sound_reply(schema.meta, began[0]) if began else ()) or [None] * len(names)
        times = self._times(schema.meta, names, found)
        since = {name: times[since_field(name)] // 1000 for name in self.settings.dimensions if since_field(name) in times}
        alive, owed = self._sound_reply(schema.workers, workers), debts(self._sound_reply(schema.owing, owing) or {})
        return Standing(
            self._reaching(history_began(times), now), since, cache(lambda: Completeness(self._through(alive), owed))
        )

    def _reaching(self, began: int | None, now: int) -> Settings:
        if not self.settings.history:
            return self.settings
        reach = self.settings.reach(began, now)
        if self._reached[0] != reach:
            self._reached = reach, self.settings.reaching(reach)
        return self._reached[1]

    @property
    def _beginnings(self) -> Sequence[str]:
        return HISTORY_BEGINNINGS if self.settings.history else ()

    def _through(self, alive: Sequence[Any]) -> int | None:
        """Until when these workers have delivered everything, in milliseconds since the epoch."""
        if not alive:
            return None
        with self._engine.read_client.pipeline(transaction=False) as pipe:
            for worker in alive:
                pipe.execute_command("HGET", self.schema.worker(text(worker)), "flushed_through_ms")
            replies = pipe.execute(raise_on_error=False)
        through = self._times(self.schema.workers, map(text, alive), map(_unless_of_another_type, replies))
        return min(through.values(), default=None)

    def corrections(self, org: str, months: Sequence[str], most: int) -> dict[str, str] | None:
        """Id -> record, of the corrections of an organisation's tree in these months; None if there are more than `most`."""
        client, names = self._engine.read_client, [self.schema.corrections(org, month) for month in months]
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.execute_command("HLEN", name)
            lengths = pipe.execute()
        if sum(lengths) > most:
            return None
        found: dict[str, str] = {}
        for name in (name for name, length in zip(names, lengths, strict=True) if length):
            reply = client.hgetall(name)
            found.update((text(id), text(record)) for id, record in reply.items())
        return found


def _unless_of_another_type(reply: Any) -> Any:
    if isinstance(reply, Exception) and not is_wrong_type(reply):
        raise reply
    return None if isinstance(reply, Exception) else reply
