"""How Redis is doing, and the workers that write to it, for `/health`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from usage_middleware.store.replies import text
from usage_middleware.store.schema import Schema
from usage_middleware.store.worker_status import SeenStatus

#: At most this many workers are listed.
MOST_WORKERS = 200


class ServerStatus(msgspec.Struct, frozen=True):
    """What a server says of itself. For a cluster, the worst of its nodes. None: the server does not say.

    Attributes:
        version: such as `valkey 9.1.0`.
        nodes: how many nodes accept writes.
        eviction_policy: what happens when the memory is full; anything but `noeviction` deletes counters.
        append_only: whether every write goes to disk, so that a restart loses at most a second.
        snapshots: whether it saves snapshots.
        persistence_error: why its last write to disk failed.
        used_memory_bytes: the memory in use, all nodes together.
        max_memory_bytes: the memory it may use, all nodes together; 0: no limit.
        is_replica: True if it can't be written to.
        replicas: how many replicas are connected, for the node that has the fewest.
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


def workers(client: Any, schema: Schema) -> list[SeenStatus]:
    """The workers that wrote their status within the last minute, the latest first."""
    from redis.exceptions import ResponseError  # There is a client, so redis-py is loaded.

    names: list[str] = []
    with suppress(ResponseError):  # The key holds another type.
        names = [text(name) for name in client.execute_command("ZREVRANGE", schema.workers, 0, MOST_WORKERS - 1)]
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(schema.worker(name))
        found = [reply if isinstance(reply, dict) else {} for reply in pipe.execute(raise_on_error=False)]
    decoded = ({text(field): text(value) for field, value in fields.items()} for fields in found)
    return [SeenStatus.parse(name, fields) for name, fields in zip(names, decoded, strict=True) if fields]


def server(client: Any) -> ServerStatus:
    """What the server, or every node of the cluster that accepts writes, says of itself.

    Managed servers may forbid INFO and CONFIG; then the fields are None.
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
    info = _fields(client.info)
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


def _fields(ask: Any, *arguments: Any) -> Mapping[str, Any]:
    from redis.exceptions import ResponseError  # There is a client, so redis-py is loaded.

    with suppress(ResponseError):
        return {text(name): value for name, value in dict(ask(*arguments)).items()}
    return {}


def _config(client: Any, name: str) -> str | None:
    value = _fields(client.config_get, name).get(name)
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
    known = [value for value in values if value is not None]
    return next((value for value in known if value != good), good if len(known) == len(values) else None)


def _all(values: Collection[bool | None]) -> bool | None:
    if False in values:
        return False
    return None if None in values else True


def _sum(values: Collection[int | None]) -> int | None:
    return None if None in values else sum(value or 0 for value in values)
