"""What is still kept of a minute that is over."""

from __future__ import annotations

from usage_middleware.periods import Resolution, Slot, slot_names
from usage_middleware.store.schema import Schema


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
