"""The write half of the store: chunks, the worker's sign of life, and the agreement on what is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from importlib.resources import files
from typing import Any, NamedTuple, cast

from usage_middleware.periods import DAY
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.driver_errors import effect, effect_of_reply, reason, redis_errors
from usage_middleware.store.payload import APPLIED_SECONDS, encode_chunk
from usage_middleware.store.schema import Schema, since_field

SCHEMA_VERSION = 1
#: What this version writes beyond the base layout, as names with commas between them. Readers of the base layout may ignore it.
FEATURES = ""
WORKER_SECONDS = 60
#: How long replicas may take to confirm a flush.
WAIT_MS = 1_000
#: A route that no worker has published for this long is gone.
ROUTE_SECONDS = 2 * DAY

_SCRIPT = files("usage_middleware.store").joinpath("apply_batch.lua").read_text("utf-8")
#: The version of the script that this process runs.
SCRIPT_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Outcome(Enum):
    """What became of a chunk that was sent."""

    COUNTED = "counted"
    """It is in Redis, now or since an earlier attempt."""
    GAP = "gap"
    """Redis lacks numbers before it: send from `SendResult.last` on."""
    FULL = "full"
    """`SendResult.refused` are over the cap: send it again without them."""
    LATER = "later"
    """This organisation can't be written now; others may."""
    AWAY = "away"
    """The server answers, and can't take anything now."""
    SILENT = "silent"
    """No answer: nobody knows whether it was counted."""
    FAULT = "fault"
    """Redis refuses this very chunk."""


class SendResult(NamedTuple):
    """The outcome of sending one chunk, and what belongs to it.

    Attributes:
        outcome: what became of the chunk.
        last: of COUNTED and GAP, the number of the last chunk that Redis has.
        refused: of FULL, the members over the cap by dimension.
        wrong_type: how many keys were skipped because they hold another type.
        reason: of the other outcomes, the error.
    """

    outcome: Outcome
    last: int = 0
    refused: Mapping[str, Collection[str]] = {}
    wrong_type: int = 0
    reason: str = ""


class Disagreement(Exception):
    """Redis holds counters of another shape than this recorder writes."""


class Writer:
    """Writes to one namespace. `client` returns the client of this process; after a fork it is a new one."""

    def __init__(self, client: Callable[[], Any], schema: Schema) -> None:
        self._client = client
        self.schema = schema

    def send(self, worker: str, chunk: Chunk, previous: int, now: float, exempt: Collection[str] = ()) -> SendResult:
        """Send a chunk. Never raises for what Redis or the network do.

        Args:
            worker: whose numbers these are.
            chunk: what to count.
            previous: the number that Redis has of this worker and organisation, as far as the sender knows.
            now: seconds since the epoch.
            exempt: keys of the directory, for which the cap does not hold.
        """
        try:
            payload = encode_chunk(self.schema, chunk, previous, now, exempt)
        except Exception as error:  # A chunk that can't be encoded must not hold up the others.
            return SendResult(Outcome.FAULT, reason=repr(error))
        key = self.schema.applied(chunk.org, worker)
        try:
            reply = self._run(key, payload)
        except redis_errors() as error:
            return _failure(error)
        return _answer(reply)

    def _run(self, key: str, payload: bytes) -> Any:
        client = self._client()
        from redis.exceptions import NoScriptError  # There is a client, so redis-py is loaded.

        arguments = (2, key, f"{key}:never", payload)
        try:
            return client.execute_command("EVALSHA", SCRIPT_SHA, *arguments)
        except NoScriptError:
            return client.execute_command("EVAL", _SCRIPT, *arguments)

    def applied(self, worker: str, orgs: Iterable[str]) -> dict[str, int]:
        """The number of the last chunk that Redis has, for each organisation.

        Raises:
            redis_errors(): as the client does.
        """
        wanted = list(orgs)
        with self._client().pipeline(transaction=False) as pipeline:
            for org in wanted:
                pipeline.get(self.schema.applied(org, worker))
            return {org: int(found or 0) for org, found in zip(wanted, pipeline.execute(), strict=True)}

    def heartbeat(self, worker: str, fields: dict[str, str | int], now_ms: int) -> None:
        """Write the worker's status, for 60 s.

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
            pipeline.execute()

    def forget(self, worker: str, orgs: Iterable[str]) -> None:
        """Remove what a worker that ended clean leaves behind.

        Raises:
            redis_errors(): as the client does.
        """
        with self._client().pipeline(transaction=False) as pipeline:
            for org in orgs:
                pipeline.delete(self.schema.applied(org, worker))
            pipeline.delete(self.schema.worker(worker))
            pipeline.zrem(self.schema.workers, worker)
            pipeline.execute()

    def check_schema(self, now_ms: int) -> None:
        """Write down the shape of what is stored, or check that it is ours.

        Raises:
            Disagreement: naming what differs.
            redis_errors(): as the client does.
        """
        settings = self.schema.settings
        ours = {"schema": SCHEMA_VERSION, "slot_minutes": settings.slot_minutes}
        since: dict[str, str | int] = {
            since_field(dimension): now_ms for dimension in ("endpoint", "key", *settings.dimensions)
        }
        with self._client().pipeline(transaction=True) as pipeline:
            for name, value in {**ours, **since, "features": FEATURES}.items():
                pipeline.hsetnx(self.schema.meta, name, value)
            pipeline.hmget(self.schema.meta, *ours)
            *_, found = pipeline.execute()
        for (name, value), theirs in zip(ours.items(), found, strict=True):
            if theirs != b"%d" % value:
                raise Disagreement(
                    f"{self.schema.meta} says {name} is {theirs.decode(errors='replace')}, this recorder has {value}; "
                    "use another namespace, or the same settings everywhere"
                )

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
        return client.get_redis_connection(client.get_node_from_key(key)) if _is_cluster(client) else client

    def publish_routes(self, labels: Collection[str], now_ms: int) -> None:
        """Publish which endpoints the application has, for two days, to every process that serves views.

        Raises:
            redis_errors(): as the client does.
        """
        key = self.schema.routes
        with self._client().pipeline(transaction=True) as pipeline:
            pipeline.zadd(key, dict.fromkeys(labels, now_ms))
            pipeline.zremrangebyscore(key, "-inf", f"({now_ms - ROUTE_SECONDS * 1000}")
            pipeline.expire(key, ROUTE_SECONDS)
            pipeline.execute()

    @property
    def is_cluster(self) -> bool:
        """True when organisations are spread over nodes, and some may be reached while others are not."""
        try:
            return _is_cluster(self._client())
        except redis_errors():
            return False

    def node_of(self, org: str) -> str:
        """The name of the node that holds an organisation; the same for all unless Redis is a cluster."""
        try:
            client = self._client()
            return str(client.get_node_from_key(self.schema.tree(org)).name) if _is_cluster(client) else ""
        except redis_errors(AttributeError):
            return ""


def _is_cluster(client: Any) -> bool:
    return hasattr(client, "get_node_from_key")


def _answer(reply: Any) -> SendResult:
    kind, *rest = reply
    if kind == b"OK":
        return SendResult(Outcome.COUNTED, wrong_type=int(rest[0]))
    if kind == b"DONE":
        return SendResult(Outcome.COUNTED, last=int(rest[0]))
    if kind == b"GAP":
        return SendResult(Outcome.GAP, last=int(rest[0]))
    if kind == b"FULL":
        refused = {dimension.decode(): {name.decode() for name in members} for dimension, *members in rest}
        return SendResult(Outcome.FULL, refused=refused)
    reason = rest[0].decode(errors="replace")
    return SendResult(Outcome(effect_of_reply(reason)), reason=reason)


def _failure(error: Exception) -> SendResult:
    return SendResult(Outcome(effect(error)), reason=reason(error))
