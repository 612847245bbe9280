"""What an error of redis-py means: what the writer does about it, and what a person can do about it.

Nothing here imports redis-py before one of its errors can have been raised: errors are known by the names of their types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from usage_middleware.errors import UsageError, UsageUnavailable

#: What a failed chunk means to the writer. `away`: the server takes no writes now. `later`: it can't write this chunk's
#: organisation now. `silent`: nobody knows whether it was written. `fault`: it refuses this very chunk.
Effect = Literal["away", "later", "silent", "fault"]


class _Error(NamedTuple):
    """What one kind of error means.

    Attributes:
        types: the types of redis-py that mean it; a subclass that has a row of its own goes by that.
        reply: what an error reply says that means it, as a regular expression.
        effect: what it means to the writer.
        advice: what a person can do. Empty: it is a mistake in this package, and is raised as it is.
    """

    types: str
    reply: str
    effect: Effect
    advice: str


#: For a reply, the first row that is found in it counts.
_ERRORS = (
    _Error("BusyLoadingError", "LOADING", "away", "it is loading its data; wait until it is done"),
    _Error("", "BUSY", "away", "it is busy with a script; wait, or `SCRIPT KILL`"),
    _Error("MasterDownError", "MASTERDOWN", "away", "the replica has lost its primary; bring the primary back or fail over"),
    _Error("ClusterDownError", "CLUSTERDOWN", "away", "the cluster is down; check `CLUSTER INFO` for slots without a node"),
    _Error("ReadOnlyError", "READONLY", "away", "it is a read-only replica; use the URL of the primary"),
    _Error("OutOfMemoryError", "OOM", "away", "it is out of memory; raise maxmemory or shorten the retention"),
    _Error("", "MISCONF", "away", "it can't write its data to disk; check its log and the disk"),
    _Error("", "NOREPLICAS", "away", "too few replicas are connected; see min-replicas-to-write"),
    _Error("", "NOAUTH", "away", "it asks for a password; put one into the URL"),
    _Error(
        "AuthenticationError AuthenticationWrongNumberOfArgsError", "WRONGPASS", "away",
        "it refuses the user name or password; check those of the URL",
    ),
    _Error("", "unknown command", "away", "it lacks a command; Redis 6.2 or later, or Valkey, is needed"),
    _Error("AuthorizationError", "", "silent", "it refuses this user; check the URL and the server's ACL"),
    _Error(
        "NoPermissionError", "NOPERM|permissions?", "later",
        "its ACL does not let this user do that; give it the commands and the namespace's keys",
    ),
    _Error("TryAgainError", "TRYAGAIN|non local key", "later", "a slot of the cluster is on the move; try again"),
    _Error("AskError", "MOVED|ASK", "later", "another node of the cluster has this key; use a redis+cluster:// URL"),
    _Error("SlotNotCoveredError", "", "later", "a slot of the cluster has no node; check `CLUSTER INFO`"),
    _Error("ClusterError", "", "later", "the cluster did not settle; check `CLUSTER INFO`"),
    _Error("CrossSlotTransactionError InvalidPipelineStack", "", "later", ""),
    _Error(
        "RedisClusterException", "", "later",
        "no node of the cluster can be reached; check the nodes of the URL, and that cluster mode is on",
    ),
    _Error("MaxConnectionsError", "", "silent", "all connections of this process are in use; try again"),
    _Error(
        "MasterNotFoundError", "", "silent",
        "no sentinel names a primary for the service; check the service's name and the sentinels",
    ),
    _Error(
        "SlaveNotFoundError", "", "silent",
        "no sentinel names a replica for the service; check the service's name and the sentinels",
    ),
    _Error("TimeoutError", "", "silent", "it did not answer in time; check that it runs and is not overloaded"),
    _Error(
        "ConnectionError OSError", "", "silent",
        "can't connect, or the connection broke; check that it runs and that the URL is right",
    ),
    _Error("ResponseError", "", "fault", ""),
)  # fmt: skip
_BY_TYPE = {name: row for row in _ERRORS for name in row.types.split()}
_BY_REPLY = [(re.compile(rf"\b({row.reply})\b"), row) for row in _ERRORS if row.reply]
_MODULES = frozenset({"redis.exceptions", "redis.sentinel", "builtins"})
_OTHER = _Error("", "", "silent", "")
#: The texts of these may hold what redis-py knows of its connections, passwords included.
_SECRET = ("MasterNotFoundError", "SlaveNotFoundError")


def redis_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What redis-py, the network and the engine may raise, and `more`: the types for an `except` clause."""
    from redis.exceptions import RedisClusterException, RedisError

    return RedisError, RedisClusterException, OSError, UsageError, *more


def reason(error: Exception) -> str:
    """What an error says, or its type if it says nothing."""
    return str(error) or type(error).__name__


def effect(error: Exception) -> Effect:
    """What one of `redis_errors` means to the writer."""
    return _known(error).effect


def is_missing_right(error: Exception) -> bool:
    """Whether the server's ACL does not let this user do what it asked for."""
    return "NoPermissionError" in _known(error).types


def is_full(error: Exception) -> bool:
    """Whether the server's memory is full: it refuses what may need more of it."""
    return "OutOfMemoryError" in _known(error).types


def says_full(text: str) -> bool:
    """As `is_full`, of what an error says."""
    return "used memory > 'maxmemory'" in text


def is_wrong_type(error: object) -> bool:
    """Whether a Redis key holds another type than ours: somebody else wrote it."""
    return isinstance(error, Exception) and "WRONGTYPE" in str(error)


def is_late(error: Exception) -> bool:
    """Whether it may be raised because there was no time left. The client of a cluster says so in words of its own."""
    return not {"TimeoutError", "ClusterError", "RedisClusterException"}.isdisjoint(_known(error).types.split())


def effect_of_reply(text: str) -> Effect:
    """What the script's refusal means to the writer: `later`, unless it is known to be something else."""
    known = _error_of_reply(text)
    return known.effect if known else "later"


@contextmanager
def guard(server: str = "Redis") -> Iterator[None]:
    """Turn errors that mean "not now" into `UsageUnavailable`. Mistakes in this package are raised as they are.

    Args:
        server: what the message calls the server.

    Raises:
        UsageUnavailable: says what to do next. Never holds a password.
    """
    try:
        yield
    except Exception as error:
        advice = _known(error).advice
        if not advice:
            raise
        # `from None`: a traceback of redis-py may show its connection's arguments.
        raise UsageUnavailable(f"{server} can't serve now: {advice}.{_details(error)}") from None


def _known(error: Exception) -> _Error:
    names = (base.__name__ for base in type(error).__mro__ if base.__module__ in _MODULES)
    known = next((_BY_TYPE[name] for name in names if name in _BY_TYPE), _OTHER)
    return (_error_of_reply(str(error)) or known) if known is _BY_TYPE["ResponseError"] else known


def _error_of_reply(text: str) -> _Error | None:
    return next((row for pattern, row in _BY_REPLY if pattern.search(text)), None)


def _details(error: Exception) -> str:
    text = "" if type(error).__name__ in _SECRET else str(error).strip().rstrip(".")
    return f" ({text})" if text else ""
