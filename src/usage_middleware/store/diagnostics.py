"""How Redis and the workers are doing, as far as Redis tells: for `/health`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from usage_middleware.store.replies import text
from usage_middleware.store.schema import Schema

#: So many workers are listed, those heard of last first.
MOST_WORKERS = 200


class ServerStatus(msgspec.Struct, frozen=True):
    """What a server says of itself; of a cluster, the worst that a node says. None: it does not tell.

    Attributes:
        version: `valkey 9.1.0`.
        nodes: how many nodes take writes.
        eviction_policy: what happens when the memory is full; anything but `noeviction` deletes counters.
        append_only: whether every write goes to disk, so that a restart loses a second at most.
        snapshots: whether it saves snapshots, where it is known.
        persistence_error: what its last write to disk failed with.
        used_memory_bytes: what it uses, of all nodes.
        max_memory_bytes: what it may use, of all nodes; 0: all there is.
        is_replica: True where it can't be written.
        replicas: how many replicas are connected, of the node that has the fewest.
    """

    version: str | None = None
    nodes: int = 1
    eviction_policy: str | None = None
    append_only: bool | None = None
    snapshots: bool | None = None
    persistence_error: str | None = None
    used_memory_bytes: int | None = None
    max_memory_bytes: int | None = None
    is_replica: bool | None = None
    replicas: int | None = None


class WorkerStatus(msgspec.Struct, frozen=True):
    """What a worker last said of itself.

    Attributes:
        worker: its name in Redis.
        host: the name of its machine.
        pid: its process there.
        version: of this package.
        script: the version of the script that it runs.
        seen_ms: when it said so, milliseconds since the epoch by its own clock.
        flushed_through_ms: all calls that finished there before then are counted.
        backlog_calls: recorded and not acknowledged.
        backlog_bytes: about what they take in memory.
        retries: how often a chunk had to be sent again.
        dropped: calls that will never be counted.
        refused: members that a cap turned into `(other)`.
        in_the_way: keys of another type that were skipped.
        unreplicated: how often fewer replicas than asked for had a flush in time.
        held: how many organisations it can't write now while it can write others.
        held_reason: what Redis says of one of them.
        spool_files: files of processes that are gone which it found on its machine, yet to be sent.
        spool_calls: how many calls those are.
        skew_ms: how far its clock is ahead of Redis'; None if Redis does not tell.
    """

    worker: str
    host: str = ""
    pid: int = 0
    version: str = ""
    script: str = ""
    seen_ms: int = 0
    flushed_through_ms: int = 0
    backlog_calls: int = 0
    backlog_bytes: int = 0
    retries: int = 0
    dropped: int = 0
    refused: int = 0
    in_the_way: int = 0
    unreplicated: int = 0
    held: int = 0
    held_reason: str = ""
    spool_files: int = 0
    spool_calls: int = 0
    skew_ms: int | None = None


def workers(client: Any, schema: Schema) -> list[WorkerStatus]:
    """The workers that gave a sign of life in the last minute, those heard of last first."""
    names = [text(name) for name in client.execute_command("ZREVRANGE", schema.workers, 0, MOST_WORKERS - 1)]
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(schema.worker(name))
        found = pipe.execute()
    return [_worker(name, facts) for name, facts in zip(names, found, strict=True) if facts]


def _worker(name: str, facts: Mapping[Any, Any]) -> WorkerStatus:
    told = {text(field): text(value) for field, value in facts.items()}
    told["seen_ms"] = told.get("beat_ms", "0")
    known = {field: told[field] for field in WorkerStatus.__struct_fields__ if told.get(field)}
    try:
        return msgspec.convert({**known, "worker": name}, WorkerStatus, strict=False)
    except msgspec.ValidationError:  # A version of this package that says it otherwise.
        return WorkerStatus(name)


def server(client: Any) -> ServerStatus:
    """What the server, or every node of the cluster that takes writes, says of itself.

    Managed servers may forbid both INFO and CONFIG: what is not told is None.
    """
    nodes = [client] if not hasattr(client, "get_primaries") else [*map(client.get_redis_connection, client.get_primaries())]
    found = [_node(node) for node in nodes]
    return ServerStatus(
        version=_first(one.version for one in found),
        nodes=len(found),
        eviction_policy=_worst([one.eviction_policy for one in found], "noeviction"),
        append_only=_all([one.append_only for one in found]),
        snapshots=_all([one.snapshots for one in found]),
        persistence_error=_first(one.persistence_error for one in found),
        used_memory_bytes=_sum([one.used_memory_bytes for one in found]),
        max_memory_bytes=_sum([one.max_memory_bytes for one in found]),
        is_replica=_first(one.is_replica for one in found),
        replicas=min((one.replicas for one in found if one.replicas is not None), default=None),
    )


def _node(client: Any) -> ServerStatus:
    info = _told(client.info)
    aof = info.get("aof_enabled")
    append_only = bool(aof) if aof is not None else _is(_config(client, "appendonly"), "yes")
    policy = info.get("maxmemory_policy") or _config(client, "maxmemory-policy")
    save = _config(client, "save")
    return ServerStatus(
        version=_version(info),
        eviction_policy=policy,
        append_only=append_only,
        snapshots=None if save is None else bool(save.strip()),
        persistence_error=_persistence_error(info),
        used_memory_bytes=info.get("used_memory"),
        max_memory_bytes=info.get("maxmemory"),
        is_replica=info["role"] != "master" if "role" in info else None,
        replicas=info.get("connected_slaves"),
    )


def _told(ask: Any, *arguments: Any) -> Mapping[str, Any]:
    from redis.exceptions import ResponseError  # Whoever has a client has loaded redis-py.

    with suppress(ResponseError):
        return {text(name): value for name, value in dict(ask(*arguments)).items()}
    return {}


def _config(client: Any, name: str) -> str | None:
    value = _told(client.config_get, name).get(name)
    return None if value is None else text(value)


def _version(info: Mapping[str, Any]) -> str | None:
    if "valkey_version" in info:
        return f"valkey {info['valkey_version']}"
    return f"redis {info['redis_version']}" if "redis_version" in info else None


def _persistence_error(info: Mapping[str, Any]) -> str | None:
    failed = [name for name in ("aof_last_write_status", "rdb_last_bgsave_status") if info.get(name, "ok") != "ok"]
    return f"{failed[0]} is {info[failed[0]]}" if failed else None


def _is(value: str | None, wanted: str) -> bool | None:
    return None if value is None else value == wanted


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value), None)


def _worst(values: Collection[str | None], good: str) -> str | None:
    told = [value for value in values if value is not None]
    return next((value for value in told if value != good), good if len(told) == len(values) else None)


def _all(values: Collection[bool | None]) -> bool | None:
    if False in values:
        return False
    return None if None in values else True


def _sum(values: Collection[int | None]) -> int | None:
    return None if None in values else sum(value or 0 for value in values)
