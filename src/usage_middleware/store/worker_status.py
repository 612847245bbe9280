"""How a worker is doing: counted by the worker, kept in Redis for a minute, shown by `/health` and `recorder.stats()`."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import msgspec

from usage_middleware.store.members import OTHER

#: For so many organisations `blocked` and `dropped` are told apart.
MOST_ORGANISATIONS, MOST_DROPPED = 1_000, 100_000

#: How version 0.1 wrote some fields of `worker:<id>`.
_OLD_NAMES = {"in_the_way": "wrong_type", "held": "blocked", "held_reason": "blocked_reason"}


@cache
def _version() -> str:
    try:
        return version("usage-middleware")
    except PackageNotFoundError:
        return "unknown"


class WorkerStatus(msgspec.Struct, kw_only=True):
    """What a worker knows of itself, wherever it is shown.

    Attributes:
        worker: its name in Redis, 128 random bits.
        host: the name of its machine.
        pid: its process there.
        version: of this package.
        script: the version of the Lua script that it runs.
        flushed_through_ms: all calls that finished there before then are counted; milliseconds since the epoch.
        backlog_calls: calls that are recorded and not acknowledged.
        backlog_bytes: about how much memory they take, with what is kept in case Redis loses it.
        retries: how often a chunk had to be sent again.
        refused: members that a cap turned into `(other)`.
        wrong_type: Redis keys that were skipped because they hold another type.
        unreplicated: how often fewer replicas than asked for confirmed a flush in time.
        spool_files: files of processes that have ended, found on this machine and not sent yet.
        spool_calls: how many calls are in them.
        spool_error: why calls can't be put on disk here; empty if they can, or if there is no spool.
        spool_damaged: how many damaged files were put aside there.
        damaged: what its process found damaged in Redis; empty if that is nothing.
        skew_ms: how far the worker's clock is ahead of Redis', milliseconds; None if that is not known.
        dropped_unresolved: calls that will never be counted, and whose organisation is not known, or not yet.
        conflicting: calls that showed active keys of two owners, counted for the one in the more important place.
        history: whether it packs, and writes what is to be packed.
        key_store_error: how the application's own key store failed the last time it was asked; empty if it did not.
    """

    worker: str = ""
    host: str = ""
    pid: int = 0
    version: str = ""
    script: str = ""
    flushed_through_ms: int = 0
    backlog_calls: int = 0
    backlog_bytes: int = 0
    retries: int = 0
    refused: int = 0
    wrong_type: int = 0
    unreplicated: int = 0
    spool_files: int = 0
    spool_calls: int = 0
    spool_error: str = ""
    spool_damaged: int = 0
    damaged: str = ""
    skew_ms: int | None = None
    dropped_unresolved: int = 0
    conflicting: int = 0
    history: bool = False
    key_store_error: str = ""


class OwnStatus(WorkerStatus, kw_only=True):
    """A worker's status in its own process, where more is known. The flusher fills it.

    Attributes:
        state: `ok`, `away` (Redis can't be written now) or `refused` (Redis holds counters of another shape).
        reason: why, unless it is ok.
        dropped: calls that will never be counted, by organisation.
        blocked: organisations that can't be written while others can, and what Redis says of each.
        lost: errors of this package, by reason.
    """

    host: str = msgspec.field(default_factory=socket.gethostname)
    version: str = msgspec.field(default_factory=_version)
    state: Literal["ok", "away", "refused"] = "ok"
    reason: str = ""
    dropped: dict[str, int] = {}
    blocked: dict[str, str] = {}
    lost: dict[str, int] = {}

    def drop(self, org: str, calls: int) -> None:
        """Count calls that will never be counted for an organisation."""
        name = org if org in self.dropped or len(self.dropped) < MOST_DROPPED else OTHER
        self.dropped[name] = self.dropped.get(name, 0) + calls

    def block(self, org: str, reason: str) -> None:
        """Note why an organisation can't be written."""
        if org in self.blocked or len(self.blocked) < MOST_ORGANISATIONS:
            self.blocked[org] = reason

    def add(self, other: OwnStatus) -> None:
        """Add what went wrong with another worker's calls, which this one has sent."""
        self.retries += other.retries
        self.refused += other.refused
        self.wrong_type += other.wrong_type
        self.unreplicated += other.unreplicated
        self.dropped_unresolved += other.dropped_unresolved
        self.conflicting += other.conflicting
        for org, calls in other.dropped.items():
            self.drop(org, calls)

    def fields(self, now_ms: int) -> dict[str, str | int]:
        """The fields of `worker:<id>`: of `dropped` and `blocked` only the sums."""
        common = {name: getattr(self, name) for name in WorkerStatus.__struct_fields__ if name != "worker"}
        return {
            **common,
            "history": int(self.history),
            "skew_ms": "" if self.skew_ms is None else self.skew_ms,
            "dropped": sum(self.dropped.values()),
            "blocked": len(self.blocked),
            "blocked_reason": next(iter(self.blocked.values()), ""),
            "beat_ms": now_ms,
        }


class SeenStatus(WorkerStatus, kw_only=True):
    """A worker's status as other processes see it in Redis.

    Attributes:
        seen_ms: when the worker wrote it, milliseconds since the epoch by its own clock.
        dropped: calls that will never be counted.
        blocked: how many organisations it can't write while it can write others.
        blocked_reason: what Redis says of one of them.
    """

    seen_ms: int = 0
    dropped: int = 0
    blocked: int = 0
    blocked_reason: str = ""

    @classmethod
    def parse(cls, worker: str, fields: Mapping[str, str]) -> SeenStatus:
        """Read the fields of `worker:<id>`; without what another version of this package writes differently."""
        known = {_OLD_NAMES.get(name, name): value for name, value in fields.items() if value}
        known["seen_ms"] = known.pop("beat_ms", "0")
        try:
            return msgspec.convert({**known, "worker": worker}, cls, strict=False)
        except msgspec.ValidationError:
            return cls(worker=worker)
