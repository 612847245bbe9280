"""How far packing is, for `/health`."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.schedule import FEATURE
from usage_middleware.store.meta import history_since
from usage_middleware.store.replies import columns, number, text
from usage_middleware.store.schema import Schema


class HistoryState(NamedTuple):
    """What Redis says of packed time.

    Attributes:
        is_packed: whether something may be packed.
        since: since when all that is counted is packed in time, seconds since the epoch; None: it is not.
        organisations: how many have something to pack, now or later.
        next_due: when the first of them is due.
    """

    is_packed: bool
    since: int | None
    organisations: int
    next_due: int | None


def history_state(client: Any, schema: Schema, damage: DamageLog) -> HistoryState:
    """Ask Redis.

    Raises:
        redis_errors(): as the client does.
    """
    schedule = schema.history_schedule
    with client.pipeline(transaction=False) as pipe:
        pipe.execute_command("HGET", schema.meta, "features")
        pipe.execute_command("ZCARD", schedule)
        pipe.execute_command("ZRANGE", schedule, 0, 0, "WITHSCORES")
        features, many, first = pipe.execute(raise_on_error=False)
    for key, reply in ((schema.meta, features), (schedule, many), (schedule, first)):
        if isinstance(reply, Exception) and not damage.explains(reply, key):
            raise reply
    since = None if isinstance(features, Exception) else history_since(client, schema, partial(damage.note, schema.meta))
    is_packed = isinstance(features, str | bytes) and FEATURE in text(features).split(",")
    scores = [] if isinstance(first, Exception) else columns(first)[1]
    return HistoryState(is_packed, since, many if isinstance(many, int) else 0, number(scores[0]) if scores else None)
