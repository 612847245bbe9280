"""What packed time has of the counters that a correction changes: it may take away what is not live any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from usage_middleware.periods import Slot
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.live_names import live_name
from usage_middleware.store.history.names import BOARD, ENDPOINT, KEY, KEY_BOARD, SERIES, WHOLE
from usage_middleware.store.history.packed_reads import PackedReads
from usage_middleware.store.history.questions import Wanted
from usage_middleware.store.history.section import Columns
from usage_middleware.store.members import OPERATOR
from usage_middleware.store.meta import history_since
from usage_middleware.store.schema import Schema


class Base(NamedTuple):
    """What is packed of some counters.

    Attributes:
        values: Redis key -> field or member -> number.
        months: the months that they were read from, and the versions that these had.
        since: where history begins, seconds since the epoch. What is older was never packed in time.
    """

    values: Mapping[str, Mapping[str, int]] = {}
    months: Sequence[tuple[str, int]] = ()
    since: int = 0


NOTHING_PACKED = Base()


def packed_base(client: Any, schema: Schema, chunk: Chunk, now: int, damage: DamageLog) -> Base:
    """What is packed of the counters that a chunk changes.

    Raises:
        redis_errors(): as the client does.
    """
    if not schema.settings.history:
        return NOTHING_PACKED
    since = history_since(client, schema, partial(damage.note, schema.meta))
    values: dict[str, dict[str, int]] = {}
    reads = PackedReads(schema, chunk.org, now, damage)
    slots = list({Slot(layer, layer.floor(minute)) for minute in chunk.minutes for layer in schema.layers[1:]})
    for what, names, bucket_of in _sections(schema, chunk) if chunk.corrects else ():
        about = what if bucket_of is None else f"{what} 0"
        reads.ask(slots, what, partial(_take, values, schema, chunk.org, about), names, bucket_of=bucket_of)
    if reads:
        reads.fetch(client)
        reads.hand_out()
    return Base(values, reads.versions, now if since is None else since)


def _sections(schema: Schema, chunk: Chunk) -> Iterator[tuple[str, Sequence[str], str | None]]:
    """What is changed: sections, entities, and the key in whose bucket they are. No correction changes a histogram."""
    endpoints, keys = {key.endpoint for key in chunk.cells}, {key.owner[1] for key in chunk.cells}
    yield SERIES, (WHOLE,), None
    yield ENDPOINT, sorted(endpoints), None
    for name in sorted(keys) if chunk.org != OPERATOR else ():
        yield KEY, (name,), name
        yield KEY_BOARD, (name,), name
    members = {"endpoint": endpoints, "key": keys} if chunk.org != OPERATOR else {"endpoint": endpoints}
    members |= {"org": {key.owner[0] for key in chunk.cells}} if chunk.org == OPERATOR else {}
    for place, dimension in enumerate(schema.settings.dimensions):
        members[dimension] = {key.tags[place] for key in chunk.cells}
    for dimension, names in members.items():
        for shard in sorted({schema.sharded(dimension, name) for name in names}):
            yield f"{BOARD} {shard}", sorted(names), None


def _take(
    values: dict[str, dict[str, int]], schema: Schema, org: str, what: str, entity: str, columns: Columns, wanted: Wanted
) -> None:
    for measure, column in columns.items():
        for at, slot in wanted.items():
            if at in column:
                live = live_name(schema, org, what, entity, measure, slot)
                values.setdefault(live.key, {})[live.name] = column[at]
