"""The write half of the store: chunks, the worker's sign of life, and the agreement on what is stored."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from importlib.resources import files
from typing import Any, NamedTuple, cast

import redis
from redis.exceptions import (
    AskError,
    AuthenticationWrongNumberOfArgsError,
    ClusterDownError,
    ClusterError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from usage_middleware.errors import UsageError
from usage_middleware.periods import DAY
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.payload import APPLIED_SECONDS, encode_chunk
from usage_middleware.store.schema import Schema, since_field

SCHEMA_VERSION = 1
WORKER_SECONDS = 60
#: How long replicas may take to confirm a flush.
WAIT_MS = 1_000
#: A route that no worker has told of for so long is gone.
ROUTE_SECONDS = 2 * DAY

_SCRIPT = files("usage_middleware.store").joinpath("apply_batch.lua").read_text("utf-8")
#: The version of the script that this process runs.
SCRIPT_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

#: When it is the server that can't now, and not the chunk that is at fault: nobody can write, or this slot or key can't be.
_AWAY_ERRORS = (OutOfMemoryError, ReadOnlyError, ClusterDownError, AuthenticationWrongNumberOfArgsError)
_LATER_ERRORS = (NoPermissionError, TryAgainError, AskError)
_AWAY_WORDS = re.compile(r"\b(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|NOAUTH|unknown command)\b")
_LATER_WORDS = re.compile(r"\b(MOVED|ASK|TRYAGAIN|NOPERM|permissions?|non local key)\b")

#: All that Redis, the network and the engine may raise.
TROUBLES = (RedisError, RedisClusterException, OSError, UsageError)


class Outcome(Enum):
    """What became of a chunk that was sent."""

    COUNTED = "counted"
    """It is in Redis, now or since an earlier attempt."""
    GAP = "gap"
    """Redis lacks numbers before it: send from `Answer.last` on."""
    FULL = "full"
    """`Answer.refused` are over the cap: send it again without them."""
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
        last: of COUNTED and GAP, the number of the last chunk that Redis has.
        refused: of FULL, the members over the cap by dimension.
        in_the_way: how many keys of another type were skipped.
        reason: of the rest, what was said.
    """

    outcome: Outcome
    last: int = 0
    refused: Mapping[str, Collection[str]] = {}
    in_the_way: int = 0
    reason: str = ""


class Disagreement(Exception):
    """Redis holds counters of another shape than this recorder writes."""


class Writer:
    """Writes to one namespace. `client` is asked for a client each time, so that pools and forks are its own affair."""

    def __init__(self, client: Callable[[], redis.Redis], schema: Schema) -> None:
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
        except Exception as error:  # Rows that can't be packed must not keep others from being sent.
            return SendResult(Outcome.FAULT, reason=repr(error))
        key = self.schema.applied(chunk.org, worker)
        try:
            reply = self._run(key, payload)
        except TROUBLES as error:
            return _failure(error)
        return _answer(reply)

    def _run(self, key: str, payload: bytes) -> Any:
        client: Any = self._client()
        arguments = (2, key, f"{key}:never", payload)
        try:
            return client.execute_command("EVALSHA", SCRIPT_SHA, *arguments)
        except NoScriptError:
            return client.execute_command("EVAL", _SCRIPT, *arguments)

    def applied(self, worker: str, orgs: Iterable[str]) -> dict[str, int]:
        """The number of the last chunk that Redis has, for each organisation.

        Raises:
            TROUBLES: as the client does.
        """
        asked = list(orgs)
        with self._client().pipeline(transaction=False) as pipeline:
            for org in asked:
                pipeline.get(self.schema.applied(org, worker))
            return {org: int(found or 0) for org, found in zip(asked, pipeline.execute(), strict=True)}

    def heartbeat(self, worker: str, facts: dict[str, str | int], now_ms: int) -> None:
        """Leave the worker's account of itself, for 60 s.

        Raises:
            TROUBLES: as the client does.
        """
        key, workers = self.schema.worker(worker), self.schema.workers
        with self._client().pipeline(transaction=True) as pipeline:
            pipeline.hset(key, mapping=cast(Any, facts))
            pipeline.expire(key, WORKER_SECONDS)
            pipeline.zadd(workers, {worker: now_ms})
            pipeline.zremrangebyscore(workers, "-inf", f"({now_ms - WORKER_SECONDS * 1000}")
            pipeline.expire(workers, DAY)
            pipeline.execute()

    def forget(self, worker: str, orgs: Iterable[str]) -> None:
        """Remove what a worker that ended clean leaves behind.

        Raises:
            TROUBLES: as the client does.
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
            TROUBLES: as the client does.
        """
        settings = self.schema.settings
        ours = {"schema": SCHEMA_VERSION, "slot_minutes": settings.slot_minutes}
        since = {since_field(dimension): now_ms for dimension in ("endpoint", "key", *settings.dimensions)}
        with self._client().pipeline(transaction=True) as pipeline:
            for name, value in {**ours, **since}.items():
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
        """Whether so many replicas of an organisation's node have all that was written to that node. Waits up to a second.

        A node sends its writes to its replicas in one stream: who confirms the last one has them all, whichever
        connection they came from. So the worker's mark is written once more, and that is waited for.
        """
        key = self.schema.applied(org, worker)
        try:
            with self._node(key).pipeline(transaction=False) as pipeline:
                pipeline.expire(key, APPLIED_SECONDS)
                pipeline.execute_command("WAIT", replicas, WAIT_MS)
                return int(pipeline.execute()[-1]) >= replicas
        except (*TROUBLES, AttributeError):
            return False

    def skew_ms(self, clock: Callable[[], float]) -> int | None:
        """How far a clock is ahead of Redis', milliseconds; None where Redis does not tell."""
        try:
            node = self._node(self.schema.workers)
            before = clock()
            seconds, micros = node.execute_command("TIME")
            return round(((before + clock()) / 2 - int(seconds) - int(micros) / 1e6) * 1000)
        except (*TROUBLES, AttributeError, TypeError, ValueError):
            return None

    def _node(self, key: str) -> Any:
        """A client of the one node that holds a key."""
        client = self._client()
        if not isinstance(client, redis.RedisCluster):
            return client
        whole: Any = client
        return whole.get_redis_connection(whole.get_node_from_key(key))

    def publish_routes(self, labels: Collection[str], now_ms: int) -> None:
        """Let every process that reads know which endpoints the application has, for some two days.

        Raises:
            TROUBLES: as the client does.
        """
        key = self.schema.routes
        with self._client().pipeline(transaction=True) as pipeline:
            pipeline.zadd(key, dict.fromkeys(labels, now_ms))
            pipeline.zremrangebyscore(key, "-inf", f"({now_ms - ROUTE_SECONDS * 1000}")
            pipeline.expire(key, ROUTE_SECONDS)
            pipeline.execute()

    @property
    def is_cluster(self) -> bool:
        """True when organisations are spread over nodes."""
        return isinstance(self._client(), redis.RedisCluster)

    def node_of(self, org: str) -> str:
        """The name of the node that holds an organisation; the same for all unless Redis is a cluster."""
        try:
            client = self._client()
            if not isinstance(client, redis.RedisCluster):
                return ""
            return str(client.get_node_from_key(self.schema.tree(org)).name)
        except (*TROUBLES, AttributeError):
            return ""


def _answer(reply: Any) -> SendResult:
    kind, *rest = reply
    if kind == b"OK":
        return SendResult(Outcome.COUNTED, in_the_way=int(rest[0]))
    if kind == b"DONE":
        return SendResult(Outcome.COUNTED, last=int(rest[0]))
    if kind == b"GAP":
        return SendResult(Outcome.GAP, last=int(rest[0]))
    if kind == b"FULL":
        refused = {dimension.decode(): {name.decode() for name in members} for dimension, *members in rest}
        return SendResult(Outcome.FULL, refused=refused)
    return _refusal(rest[0].decode(errors="replace"))


def _failure(error: Exception) -> SendResult:
    text = str(error) or type(error).__name__
    if isinstance(error, _AWAY_ERRORS):
        return SendResult(Outcome.AWAY, reason=text)
    if isinstance(error, _LATER_ERRORS):
        return SendResult(Outcome.LATER, reason=text)
    if isinstance(error, ResponseError):
        return (
            _refusal(text) if _AWAY_WORDS.search(text) or _LATER_WORDS.search(text) else SendResult(Outcome.FAULT, reason=text)
        )
    later = isinstance(error, ClusterError | RedisClusterException)
    return SendResult(Outcome.LATER if later else Outcome.SILENT, reason=text)


def _refusal(text: str) -> SendResult:
    return SendResult(Outcome.AWAY if _AWAY_WORDS.search(text) else Outcome.LATER, reason=text)
