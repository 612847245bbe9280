"""The write half of the store: chunks, the worker's sign of life, and the agreement on what is stored."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, cast

from usage_middleware.periods import DAY
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.driver_errors import is_missing_right, redis_errors
from usage_middleware.store.engine import is_cluster
from usage_middleware.store.history.base import Base, packed_base
from usage_middleware.store.history.schedule import Schedule
from usage_middleware.store.meta import since_field, write_meta
from usage_middleware.store.org_registry import admit
from usage_middleware.store.owing import Debt, debts, old_debts
from usage_middleware.store.payload import APPLIED_SECONDS, Doubt, EncodedChunk, Once, encode_chunk, longest_kept
from usage_middleware.store.route_registry import publish_routes
from usage_middleware.store.schema import Schema
from usage_middleware.store.script import Script
from usage_middleware.store.send_result import Mark, answer, failure, mark_of
from usage_middleware.store.send_result import Outcome as Outcome
from usage_middleware.store.send_result import SendResult as SendResult

logger = logging.getLogger("usage_middleware")

SCHEMA_VERSION = 1
WORKER_SECONDS = 60
#: How long replicas may take to confirm a flush.
WAIT_MS = 1_000

#: With the names of keys around it, a part fits into any packet.
PART_BYTES = 800
#: How long the parts of a chunk may take.
PARTS_SECONDS = 600

#: The script of all writes.
SCRIPT = Script(files("usage_middleware.store").joinpath("apply_batch.lua").read_text("utf-8"))


class Disagreement(Exception):
    """Redis holds counters of another shape than this recorder writes."""


class Writer:
    """Writes to one namespace. `client` returns the client of this process; after a fork it is a new one.

    Attributes:
        damage: what was found damaged in Redis.
    """

    def __init__(self, client: Callable[[], Any], schema: Schema, damage: DamageLog | None = None) -> None:
        self._client = client
        self.damage = damage or DamageLog()
        self.schema = schema
        self._schedule = Schedule(client, schema, self.damage)

    def send(
        self,
        worker: str,
        chunk: Chunk,
        previous: int,
        now: float,
        exempt: Collection[str] = (),
        *,
        doubt: Doubt = Doubt.NONE,
        sealed: int | None = None,
        in_parts: bool = False,
    ) -> SendResult:
        """Send a chunk. Never raises for what Redis or the network do.

        Args:
            worker: whose numbers these are.
            chunk: what to count.
            previous: the number of the last chunk that Redis has of this worker and organisation, as far as the sender knows.
            now: seconds since 1970.
            exempt: keys of the directory, for which the cap does not hold.
            doubt: whether Redis may have it already.
            sealed: the greatest number that this worker has given in this organisation; None if that is not known.
            in_parts: send it in commands that fit into a packet each.
        """
        try:
            payload = encode_chunk(self.schema, worker, chunk, previous, now, exempt, doubt, sealed).data
        except Exception as error:  # Rows that can't be packed must not keep others from being sent.
            return SendResult(Outcome.FAULT, reason=repr(error))
        keys = self._keys(chunk.org, worker)
        self._note(chunk, now)
        try:
            reply = self._run_parts(keys, payload) if in_parts else self._run(keys, payload)
        except redis_errors() as error:
            return failure(error)
        return answer(reply)

    def packed(self, chunk: Chunk, now: float) -> Base:
        """What history has of the counters that rows change: it must be so still when they are counted. Raises for Redis."""
        self._note(chunk, now)
        return packed_base(self._client(), self.schema, chunk, int(now), self.damage)

    def count_once(self, org: str, once: Once, chunk: EncodedChunk) -> SendResult:
        """Count a chunk of an organisation, unless one of its ids was counted before.

        Raises:
            redis_errors(): as the client does. Then nobody knows whether it was counted.
        """
        first = once.kept[0].key
        return answer(self._run((first, f"{first}:never", self.schema.marked(org), f"{first}:parts"), chunk.data))

    def _note(self, chunk: Chunk, now: float) -> None:
        """Before it is counted: else what a worker wrote that is killed in between would not be packed."""
        if self.schema.settings.history:
            self._schedule.note(chunk.org, chunk.minutes, now)

    def _keys(self, org: str, worker: str) -> tuple[str, ...]:
        mark = self.schema.applied(org, worker)
        return mark, f"{mark}:never", self.schema.marked(org), self.schema.parts(org, worker)

    def _run(self, keys: tuple[str, ...], payload: bytes, *digest: str) -> Any:
        return SCRIPT.run(self._client(), keys, (payload, *digest))

    def _run_parts(self, keys: tuple[str, ...], payload: bytes) -> Any:
        """Put the chunk into Redis part by part, then have the script take it from there.

        It counts for nothing until then, so a part may be lost, or come twice or late: the script compares the digest.
        """
        client, parts = self._client(), keys[-1]
        client.set(parts, b"", ex=PARTS_SECONDS)
        for begin in range(0, len(payload), PART_BYTES):
            client.setrange(parts, begin, payload[begin : begin + PART_BYTES])
        return self._run(keys, b"", hashlib.sha1(payload, usedforsecurity=False).hexdigest())

    def marks(self, worker: str, orgs: Iterable[str]) -> dict[str, Mark]:
        """What Redis has of a worker, for each organisation.

        Raises:
            redis_errors(): as the client does.
        """
        wanted = list(orgs)
        with self._client().pipeline(transaction=False) as pipeline:
            for org in wanted:
                pipeline.get(self.schema.applied(org, worker))
                pipeline.hget(self.schema.marked(org), worker)
            found = iter(pipeline.execute(raise_on_error=False))
        return {org: mark_of(next(found), next(found)) for org in wanted}

    def heartbeat(self, worker: str, fields: dict[str, str | int], now_ms: int, began_ms: int = 0) -> None:
        """Write the worker's status, for 60 s, and what it may still owe, until it ends.

        Raises:
            redis_errors(): as the client does.
        """
        key, workers = self.schema.worker(worker), self.schema.workers
        with self._client().pipeline(transaction=True) as pipeline:
            pipeline.hset(key, mapping=cast(Any, fields))
            pipeline.expire(key, WORKER_SECONDS)
            pipeline.zadd(workers, {worker: now_ms})
            pipeline.zremrangebyscore(workers, "-inf", f"({now_ms - WORKER_SECONDS * 1000}")
            pipeline.expire(workers, DAY)
            debt = Debt(worker, began_ms, int(fields.get("flushed_through_ms", 0)), now_ms)
            pipeline.hset(self.schema.owing, worker, debt.encode())
            pipeline.expire(self.schema.owing, APPLIED_SECONDS)
            pipeline.execute()

    def settle(self, worker: str) -> None:
        """A worker that has ended owes nothing any more.

        Raises:
            redis_errors(): as the client does.
        """
        self._client().hdel(self.schema.owing, worker)

    def _forget_debts(self, now_ms: int) -> None:
        """Remove workers that ended long ago, and nobody sent what they left."""
        client = self._client()
        old = old_debts(debts(client.hgetall(self.schema.owing)), now_ms)
        if old:
            client.hdel(self.schema.owing, *old)

    def forget(self, worker: str, orgs: Iterable[str]) -> None:
        """Remove what a worker that ended clean leaves behind.

        Raises:
            redis_errors(): as the client does.
        """
        with self._client().pipeline(transaction=False) as pipeline:
            for org in orgs:
                pipeline.delete(self.schema.applied(org, worker))
                pipeline.hdel(self.schema.marked(org), worker)
            pipeline.delete(self.schema.worker(worker))
            pipeline.zrem(self.schema.workers, worker)
            pipeline.hdel(self.schema.owing, worker)
            pipeline.execute()

    def check_schema(self, now_ms: int) -> Exception | None:
        """Write down the shape of what is stored, or check that it is ours.

        Returns the error where this user may only read it.

        Raises:
            Disagreement: naming what differs.
            redis_errors(): as the client does.
        """
        ours = {"schema": SCHEMA_VERSION, "slot_minutes": self.schema.settings.slot_minutes}
        missing = None
        try:
            found = write_meta(self._client(), self.schema, ours, now_ms)
        except redis_errors() as error:
            if not is_missing_right(error):
                raise
            missing, found = error, self._client().hmget(self.schema.meta, *ours)
            if None in found:
                raise
        for (name, value), theirs in zip(ours.items(), found, strict=True):
            if theirs != b"%d" % value:
                raise Disagreement(
                    f"{self.schema.meta} says {name} is {theirs.decode(errors='replace')}, this recorder has {value}; "
                    "use another namespace, or the same settings everywhere"
                )
        return missing

    def replicated(self, worker: str, org: str, replicas: int) -> bool:
        """Whether enough replicas of an organisation's node have all that was written to that node. Waits up to a second.

        A node sends all its writes to its replicas in one stream. A replica that confirms the last one has them all,
        whichever connection they came from. So this writes the worker's mark once more, and waits for that.
        """
        key = self.schema.applied(org, worker)
        try:
            with self._node(key).pipeline(transaction=False) as pipeline:
                pipeline.expire(key, APPLIED_SECONDS)
                pipeline.execute_command("WAIT", replicas, WAIT_MS)
                return int(pipeline.execute()[-1]) >= replicas
        except redis_errors(AttributeError):
            return False

    def skew_ms(self, clock: Callable[[], float]) -> int | None:
        """How far a clock is ahead of Redis', milliseconds; None where Redis does not tell."""
        try:
            node = self._node(self.schema.workers)
            before = clock()
            seconds, micros = node.execute_command("TIME")
            return round(((before + clock()) / 2 - int(seconds) - int(micros) / 1e6) * 1000)
        except redis_errors(AttributeError, TypeError, ValueError):
            return None

    def _node(self, key: str) -> Any:
        """A client of the one node that holds a key."""
        client = self._client()
        return client.get_redis_connection(client.get_node_from_key(key)) if is_cluster(client) else client

    def since(self) -> dict[str, int]:
        """Since when each declared dimension is kept, milliseconds since 1970. Raises as the client does."""
        names = self.schema.settings.dimensions
        found = self._client().hmget(self.schema.meta, *map(since_field, names)) if names else []
        return {name: int(ms) for name, ms in zip(names, found, strict=True) if ms is not None}

    def publish(self, routes: Mapping[str, bool], now_ms: int) -> None:
        """Publish the application's endpoints, and whether its schema lists them, and forget debts that nobody will pay.

        Never raises for Redis.
        """
        try:
            if routes:
                publish_routes(self._client(), self.schema, routes, now_ms)
            self._forget_debts(now_ms)
        except redis_errors() as error:
            logger.debug("usage: the application's routes could not be published: %s", error)

    def admit_orgs(self, orgs: Sequence[str], now_ms: int) -> set[str]:
        """Note that organisations that nobody knows have a tree; those for which there is no room.

        Raises:
            redis_errors(): as the client does.
        """
        try:
            return admit(self._client(), self.schema, orgs, now_ms, longest_kept(self.schema.settings) * 1000)
        except redis_errors() as error:
            if self.damage.explains(error, self.schema.unknown_orgs):
                return set()
            raise

    @property
    def is_cluster(self) -> bool:
        """True when organisations are spread over nodes, and some may be reached while others are not."""
        try:
            return is_cluster(self._client())
        except redis_errors():
            return False

    def node_of(self, org: str) -> str:
        """The name of the node that holds an organisation; the same for all unless Redis is a cluster."""
        try:
            client = self._client()
            return str(client.get_node_from_key(self.schema.tree(org)).name) if is_cluster(client) else ""
        except redis_errors(AttributeError):
            return ""
