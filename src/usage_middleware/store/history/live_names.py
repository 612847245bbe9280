"""Which live counter a packed number was, and would be again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from usage_middleware.options import CounterKind
from usage_middleware.periods import Slot, SlotNames, slot_names
from usage_middleware.store.history.names import (
    BOARD,
    ENDPOINT,
    ENDPOINT_LATENCY,
    KEY,
    KEY_BOARD,
    LATENCY,
    SERIES,
)
from usage_middleware.store.schema import Schema

_KINDS: Mapping[str, CounterKind] = {
    SERIES: "series", ENDPOINT: "endpoint", KEY: "key", KEY_BOARD: "key_board", BOARD: "board", LATENCY: "board",
    ENDPOINT_LATENCY: "board",
}  # fmt: skip


class LiveName(NamedTuple):
    """A live counter.

    Attributes:
        key: the Redis key.
        name: its field or member there.
        ends: when the key ends, seconds since the epoch.
        is_hash: whether it is a field of a series.
    """

    key: str
    name: str
    ends: int
    is_hash: bool


def live_name(schema: Schema, org: str, what: str, entity: str, measure: str, slot: Slot) -> LiveName:
    """The live counter of a number in the sections about `what`."""
    kind, _, about = what.partition(" ")
    at, res = slot_names(slot, schema.layers.middle.seconds), slot.resolution
    kept = schema.settings.kept(_KINDS[kind], res.rank)
    if kind in (SERIES, ENDPOINT, KEY):
        return LiveName(_series(schema, org, kind, entity, res.name, at), f"{at.field} {measure}", at.block_end + kept, True)
    ends = at.slot_end + kept
    if kind == BOARD:
        return LiveName(schema.board(org, res.name, at.slot, about, measure), entity, ends, False)
    if kind == KEY_BOARD:
        return LiveName(schema.key_board(org, res.name, at.slot, entity), measure, ends, False)
    endpoint = entity if kind == ENDPOINT_LATENCY else None
    return LiveName(schema.latency_board(org, res.name, at.slot, endpoint), measure, ends, False)


def _series(schema: Schema, org: str, kind: str, entity: str, res: str, at: SlotNames) -> str:
    if kind == SERIES:
        return schema.series(org, res, at.block)
    return schema.series_of(org, res, at.block, kind, entity)
