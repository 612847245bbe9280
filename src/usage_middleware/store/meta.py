"""Writes down the shape of what is stored: `meta`, which all processes must agree on."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from usage_middleware.store.replies import Note, add_scores
from usage_middleware.store.schema import Schema

#: What this version writes beyond the base layout before anything is packed, as names with commas between them.
FEATURES = ""
#: The field that tells since when everything that is counted is packed in time, in milliseconds since the epoch.
HISTORY_SINCE = "history_since"


def since_field(dimension: str) -> str:
    """The field that tells since when a dimension is kept, in milliseconds since the epoch."""
    return f"since:{dimension}"


def write_meta(client: Any, schema: Schema, ours: dict[str, int], now_ms: int) -> list[bytes]:
    """Write what is not there yet; what Redis has of `ours`.

    Raises:
        redis_errors(): as the client does.
    """
    since = {since_field(dimension): now_ms for dimension in ("endpoint", "key", *schema.settings.dimensions)}
    began = {HISTORY_SINCE: now_ms} if schema.settings.history else {}
    with client.pipeline(transaction=True) as pipeline:
        for name, value in {**ours, **since, **began, "features": FEATURES}.items():
            pipeline.hsetnx(schema.meta, name, value)
        if not began:  # Nobody packs what is counted from now on.
            pipeline.hdel(schema.meta, HISTORY_SINCE)
        pipeline.hmget(schema.meta, *ours)
        found: list[bytes] = pipeline.execute()[-1]
        return found


_FIRST = since_field("endpoint")
#: The fields that say since when there is history.
HISTORY_BEGINNINGS = (HISTORY_SINCE, _FIRST)


def history_since(client: Any, schema: Schema, note: Note) -> int | None:
    """As `history_began`, of what Redis has now. `note` is told which time is damaged.

    Raises:
        redis_errors(): as the client does.
    """
    found: dict[str, int] = {}
    add_scores(HISTORY_BEGINNINGS, found, note, client.execute_command("HMGET", schema.meta, *HISTORY_BEGINNINGS))
    return history_began(found)


def packed_since(client: Any, schema: Schema, note: Note) -> float:
    """What was counted before then is kept without history, seconds since the epoch. 0: nothing is; infinite: everything is.

    Raises:
        redis_errors(): as the client does.
    """
    found: dict[str, int] = {}
    add_scores(HISTORY_BEGINNINGS, found, note, client.execute_command("HMGET", schema.meta, *HISTORY_BEGINNINGS))
    began = history_began(found)
    if began is None:
        return inf if found else 0
    return began


def history_began(times: Mapping[str, int]) -> int | None:
    """Since when all that is counted is packed in time, seconds since the epoch; None: it is not.

    0 where nothing was counted before: then nothing is missing, however old it is. `times` has `HISTORY_BEGINNINGS`.
    """
    began = times.get(HISTORY_SINCE)
    if began is None:
        return None
    # Both were written in one moment where nothing was counted before.
    return 0 if began <= times.get(_FIRST, 0) else began // 1000 + 1
