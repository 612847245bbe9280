"""What is still kept of a minute that is over."""

from __future__ import annotations

from usage_middleware.options import CounterKind
from usage_middleware.periods import DAY, Resolution, Slot, slot_names
from usage_middleware.store.schema import Schema

#: The clock was wrong if a slot begins later than this from now. Its keys don't live any longer for it.
AHEAD = 32 * DAY


def end_of(schema: Schema, now: int, since: int, kind: CounterKind, slot: Slot, end: int) -> int:
    """When a Redis key is gone, seconds since the epoch, whose slot or block ends at `end`.

    What is older than `since`, where history begins, lives as long as without history.
    """
    settings = schema.settings
    kept = settings.kept_without_history if slot.start < since else settings.kept
    return min(end, now + AHEAD) + kept(kind, slot.resolution.rank)


def is_late(schema: Schema, minute: int, now: int) -> bool:
    """True when nothing is kept any more for calls of this minute, not even the days of the organisation."""
    day = schema.layers.day
    return _block_end(schema, day, minute) + schema.settings.kept("series", day.rank) <= now


def finest_kept(schema: Schema, minute: int, now: int) -> Resolution:
    """The finest slots of which anything is kept around a minute; what is finer would be left out anyway."""
    for layer in schema.layers:
        longest = max(schema.settings.kept(kind, layer.rank) for kind in schema.settings.retention)
        if _block_end(schema, layer, minute) + longest > now:
            return layer
    return schema.layers.day


def _block_end(schema: Schema, layer: Resolution, minute: int) -> int:
    return slot_names(Slot(layer, layer.floor(minute)), schema.layers.middle.seconds).block_end
