"""The state of recording: Redis, every worker, this process, and warnings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from usage_middleware.errors import UsageUnavailable
from usage_middleware.report.at_rest import AtRest, Warned, at_rest_of, of_damage, of_rest
from usage_middleware.report.context import ReportSource
from usage_middleware.report.history_health import HistoryReport, history_of, warnings_of
from usage_middleware.store import diagnostics
from usage_middleware.store.diagnostics import ServerStatus
from usage_middleware.store.driver_errors import guard
from usage_middleware.store.worker_status import SeenStatus

#: A clock that is further off counts calls in the wrong minutes.
MOST_SKEW_MS = 10_000
#: A worker that is silent for longer is late.
LATE_MS = 30_000
MOST_MEMORY = 0.9


class Health(msgspec.Struct, frozen=True):
    """The answer. `recorder` is the state of the recorder of this process; null where it has none.

    Attributes:
        status: the worst level of the warnings.
        history: how far packing is; null where history is off, or Redis does not answer.
    """

    status: Literal["ok", "warning", "failing"]
    warnings: list[Warned]
    redis: dict[str, Any]
    workers: list[SeenStatus]
    recorder: Any
    history: HistoryReport | None = None


def health(source: ReportSource) -> Health:
    """Ask Redis and the recorder of this process."""
    recorder = None if source.recorder_stats is None else msgspec.to_builtins(source.recorder_stats())
    server, workers, error = _ask_redis(source)
    warnings = [*_of_server(server, error), *_of_recorder(recorder), *_of_workers(workers, source.clock())]
    at_rest = AtRest() if server is None else at_rest_of(source)
    history, state = (None, None) if server is None else history_of(source, source.clock())
    warnings += warnings_of(history, state, workers)
    warnings += [*of_damage(workers, str(source.engine.damage)), *of_rest(source, at_rest)]
    levels = {warned.level for warned in warnings}
    redis: dict[str, Any] = {"kind": source.engine.kind, "reachable": server is not None}
    if at_rest.pepper is not None and at_rest.pepper.left is not None:
        redis["old_pepper_left"] = at_rest.pepper.left
    return Health(
        status="failing" if "failing" in levels else "warning" if levels else "ok",
        warnings=warnings,
        redis=redis if server is None else {**redis, **msgspec.structs.asdict(server)},
        workers=workers,
        recorder=recorder,
        history=history,
    )


def _ask_redis(source: ReportSource) -> tuple[ServerStatus | None, list[SeenStatus], str]:
    try:
        with guard():
            client = source.engine.read_client
            return diagnostics.server(client), diagnostics.workers(client, source.schema), ""
    except UsageUnavailable as error:
        return None, [], str(error)


def _of_server(server: ServerStatus | None, error: str) -> Iterator[Warned]:
    if server is None:
        yield Warned("redis_unreachable", error, "failing")
        return
    if server.eviction_policy not in (None, "noeviction"):
        yield Warned(
            "eviction_policy",
            f"maxmemory-policy is {server.eviction_policy}: {_lost_by_eviction(server.eviction_policy)} Set noeviction: "
            "then it refuses writes, and workers keep calls until there is room.",
        )
    if server.append_only is False:
        yield Warned("persistence", _lost_by_a_restart(server))
    if server.persistence_error:
        yield Warned("persistence_error", f"Redis failed to write to its disk: {server.persistence_error}.")
    if server.is_replica:
        yield Warned("replica", "This is a replica: workers need the primary's address.")
    if server.max_memory_bytes and (server.used_memory_bytes or 0) > MOST_MEMORY * server.max_memory_bytes:
        yield Warned("memory", f"Redis uses {server.used_memory_bytes} of {server.max_memory_bytes} bytes.")


def _lost_by_eviction(policy: str) -> str:
    lost = "a full Redis deletes counters silently, so totals and their parts become too small, each by another amount."
    if policy.startswith("allkeys-"):
        return f"{lost} It may also delete API keys, and the pepper of their hashes: then every caller is unknown."
    return lost


def _lost_by_a_restart(server: ServerStatus) -> str:
    if server.snapshots is False:
        return "appendonly is off and there are no snapshots: a Redis that restarts has lost every counter. Set appendonly yes."
    return "appendonly is off: a Redis that restarts has lost all since its last snapshot. Set appendonly yes."


def _of_recorder(recorder: Any) -> Iterator[Warned]:
    if isinstance(recorder, dict) and recorder.get("state", "ok") != "ok":
        yield Warned("not_writing", f"This process writes nothing now: {recorder.get('reason')}", "failing")
        if recorder.get("spool_error"):
            yield _unwritable("This process", recorder["spool_error"])
        yield from _of_drops("This process", sum(recorder["dropped"].values()), recorder["dropped_unresolved"])


def _of_drops(name: str, dropped: int, unresolved: int) -> Iterator[Warned]:
    if dropped or unresolved:
        whose = f", and {unresolved} of callers that could not be looked up" if unresolved else ""
        yield Warned("dropped", f"{name} dropped {dropped} calls{whose} since it began: see backlog_bytes, and the log.")


def _unwritable(name: str, error: str) -> Warned:
    sentence = (
        f"{name} can't put calls on disk ({error}): they are lost if it ends while Redis is away. Make the directory writable, "
        "free space, or set spool to another directory."
    )
    return Warned("spool_unwritable", sentence)


def _of_callers(name: str, one: SeenStatus) -> Iterator[Warned]:
    if one.key_store_error:
        yield Warned("key_store", f"{name} keeps calls with API keys until it can ask whose they are: {one.key_store_error}")
    if one.conflicting:
        sentence = (
            f"{name} counted {one.conflicting} calls that showed active API keys of two owners: name the place that your "
            "application checks in Usage(credentials=...)."
        )
        yield Warned("conflicting", sentence)


def _of_workers(workers: list[SeenStatus], now: float) -> Iterator[Warned]:
    for one in workers:
        name = f"{one.host}:{one.pid}"
        silent_ms = now * 1000 - one.seen_ms
        if abs(one.skew_ms or 0) > MOST_SKEW_MS:
            yield Warned("clock", f"The clock of {name} differs from Redis' by {(one.skew_ms or 0) / 1000:+.0f} s.")
        elif silent_ms > LATE_MS:
            yield Warned("late", f"{name} has said nothing for {silent_ms / 1000:.0f} s.")
        yield from _of_drops(name, one.dropped, one.dropped_unresolved)
        if one.spool_calls:
            yield Warned("spool", f"On {one.host}, {one.spool_calls} calls of processes that are gone wait in the spool.")
        if one.spool_error:
            yield _unwritable(name, one.spool_error)
        if one.blocked:
            sentence = f"{name} can't write {one.blocked} organisations now, and keeps their calls: {one.blocked_reason}"
            yield Warned("blocked", sentence)
        yield from _of_callers(name, one)
        if one.wrong_type:
            yield Warned("wrong_type", f"{name} skipped keys that hold another type {one.wrong_type} times.")
    if len({one.script for one in workers}) > 1:
        yield Warned("versions", "Workers run different versions of the script: finish the deployment.")
