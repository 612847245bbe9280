"""Which errors of the driver mean that Redis can't serve now, and what a person can do about each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as driver
from redis.sentinel import MasterNotFoundError, SlaveNotFoundError

from usage_middleware.errors import UsageUnavailable

#: The first type that fits says what to do next. Programming errors are not here: they stay what they are.
_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (driver.BusyLoadingError, "it is loading its data; wait until it is done"),
    (driver.AuthenticationError, "it refuses the user name or password; check those of the URL"),
    (driver.AuthorizationError, "it refuses this user; check the URL and the server's ACL"),
    (driver.MaxConnectionsError, "all connections of this process are in use; try again"),
    (MasterNotFoundError, "no sentinel names a primary for the service; check the service's name and the sentinels"),
    (SlaveNotFoundError, "no sentinel names a replica for the service; check the service's name and the sentinels"),
    (driver.MasterDownError, "the replica has lost its primary; bring the primary back or fail over"),
    (driver.ClusterDownError, "the cluster is down; check `CLUSTER INFO` for slots without a node"),
    (driver.TryAgainError, "a slot of the cluster is on the move; try again"),
    (driver.SlotNotCoveredError, "a slot of the cluster has no node; check `CLUSTER INFO`"),
    (driver.ClusterError, "the cluster did not settle; check `CLUSTER INFO`"),
    (driver.ReadOnlyError, "it is a read-only replica; use the URL of the primary"),
    (driver.NoPermissionError, "its ACL does not let this user do that; give it the commands and the namespace's keys"),
    (driver.OutOfMemoryError, "it is out of memory; raise maxmemory or shorten the retention"),
    (driver.ConnectionError, "can't connect, or the connection broke; check that it runs and that the URL is right"),
    (driver.TimeoutError, "it did not answer in time; check that it runs and is not overloaded"),
    (OSError, "can't connect, or the connection broke; check that it runs and that the URL is right"),
)
#: Errors for which the driver has no type of its own, by their first word.
_ADVICE_BY_WORD = {
    "LOADING": "it is loading its data; wait until it is done",
    "BUSY": "it is busy with a script; wait, or `SCRIPT KILL`",
    "MASTERDOWN": "the replica has lost its primary; bring the primary back or fail over",
    "CLUSTERDOWN": "the cluster is down; check `CLUSTER INFO` for slots without a node",
    "TRYAGAIN": "a slot of the cluster is on the move; try again",
    "MISCONF": "it can't write its data to disk; check its log and the disk",
    "NOREPLICAS": "too few replicas are connected; see min-replicas-to-write",
    "NOAUTH": "it asks for a password; put one into the URL",
    "WRONGPASS": "it refuses the user name or password; check those of the URL",
}
#: Their text may hold what the driver knows of its connections, passwords included.
_TALKATIVE = (MasterNotFoundError, SlaveNotFoundError)


def unavailable(error: BaseException) -> bool:
    """True where the same request may succeed later: Redis is away, busy, full, or not the node to ask."""
    return isinstance(error, UsageUnavailable) or _advice(error) is not None


@contextmanager
def guard(server: str = "Redis") -> Iterator[None]:
    """Turn errors of the driver that mean "not now" into `UsageUnavailable`; `server` is what the message calls it.

    Raises:
        UsageUnavailable: says what to do next. Never holds a password.
    """
    try:
        yield
    except UsageUnavailable:
        raise
    except Exception as error:
        advice = _advice(error)
        if advice is None:
            raise
        # `from None`: a traceback of the driver may show its connection's arguments.
        raise UsageUnavailable(f"{server} can't serve now: {advice}.{_details(error)}") from None


def _advice(error: BaseException) -> str | None:
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return advice
    if isinstance(error, driver.ResponseError):
        return _ADVICE_BY_WORD.get(str(error).split(" ", 1)[0])
    # Subclasses are mistakes of the caller; the class itself says that no node of the cluster could be asked.
    if type(error) is driver.RedisClusterException:
        return "no node of the cluster can be reached; check the nodes of the URL, and that cluster mode is on"
    return None


def _details(error: Exception) -> str:
    text = "" if isinstance(error, _TALKATIVE) else str(error).strip().rstrip(".")
    return f" ({text})" if text else ""
