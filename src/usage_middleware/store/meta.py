"""Writes down the shape of what is stored: `meta`, which all processes must agree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from usage_middleware.store.replies import Note, add_scores
from usage_middleware.store.schema import HISTORY_SINCE, Schema, since_field

#: What this version writes beyond the base layout before anything is packed, as names with commas between them.
FEATURES = ""


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


def history_since(client: Any, schema: Schema, note: Note) -> int | None:
    """Since when all that is counted is packed in time, seconds since the epoch; None: it is not.

    0 where nothing was counted before: then nothing is missing, however old it is. `note` is told which time is damaged.

    Raises:
        redis_errors(): as the client does.
    """
    return parse_history_since(client.execute_command(*history_command(schema)), note)


def history_command(schema: Schema) -> tuple[str, ...]:
    """The command whose reply says since when there is history."""
    return "HMGET", schema.meta, *_BEGINNINGS


def parse_history_since(reply: Sequence[Any], note: Note) -> int | None:
    """As `history_since`, from the reply to `history_command`; nothing if there was none."""
    found: dict[str, int] = {}
    add_scores(_BEGINNINGS, found, note, reply or (None, None))
    began = found.get(HISTORY_SINCE)
    if began is None:
        return None
    # Both were written in one moment where nothing was counted before.
    return 0 if began <= found.get(_FIRST, 0) else began // 1000 + 1


_FIRST = since_field("endpoint")
_BEGINNINGS = (HISTORY_SINCE, _FIRST)
