"""Counts calls at an injected time, packs them, and reads what is there."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from tests.report.world import Call, World
from usage_middleware.periods import DAY, Slot
from usage_middleware.store.history.packer import Packer
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.store.schema import Schema

#: 2029-12-12T09:47:31Z
NOW = 1_891_763_251
ORGS = ("acme", "globex", "*")
ENDPOINTS = ("GET /a", "GET /b{x}:y", "POST /a")
KEYS = ("key_1", "key_2", "calls")


def calls(dice: random.Random, count: int, span: int, until: float = NOW) -> list[Call]:
    """Calls at random, so many, in the seconds before a time."""
    return [
        Call(
            at=until - dice.uniform(0.01, span),
            org=dice.choice(["acme", "acme", "globex"]),
            key=dice.choice(KEYS),
            endpoint=dice.choice(ENDPOINTS),
            project=dice.choice(["search", "billing"]),
            status=dice.choice([200, 200, 404, 500]),
            latency_us=dice.randrange(10, 5_000_000),
            matches=1,
        )
        for _ in range(count)
    ]


def packer_of(world: World) -> Packer:
    """A packer that has the world's clock."""
    usage = world.usage
    return Packer(lambda: usage.engine.client, Schema(usage.settings), world.clock, usage.engine.damage)


def pack(world: World, orgs: Iterable[str] = ORGS) -> int:
    """Pack everything that is due; how many days that were."""
    packer = packer_of(world)
    for org in orgs:
        for _ in packer.pack(org):
            pass
    return packer.days


def everything(world: World, org: str, days: int, until: int = -1, now: int = NOW) -> dict[str, Any]:
    """All that readers see of an organisation's half-hours and days, from so many days ago until so many ago."""
    usage = world.usage
    schema = Schema(usage.settings)
    batch = ReadBatch(usage.engine.client, schema, org, now, damage=usage.engine.damage)
    today = now - now % DAY
    asked: dict[str, Any] = {}
    for layer in usage.settings.layers[1:]:
        slots = [Slot(layer, at) for at in range(today - days * DAY, today - until * DAY, layer.seconds)]
        for name, found in reads(batch, slots, org).items():
            asked[f"{layer.name} {name}"] = found
    batch.read()
    return {name: found.value for name, found in asked.items()}


def reads(batch: ReadBatch, slots: list[Slot], org: str) -> dict[str, Any]:
    """Every kind of read of some slots."""
    found: dict[str, Any] = {"series": batch.series(slots), "few": batch.series(slots[-20:], measures=("calls", "last_ms"))}
    found |= {"latency": batch.latency(slots)}
    for endpoint in ENDPOINTS:
        found[f"series {endpoint}"] = batch.series(slots, ("endpoint", endpoint))
        found[f"latency {endpoint}"] = batch.latency(slots, endpoint)
    for dimension in ("endpoint", "org" if org == "*" else "key", "project"):
        found[f"board {dimension}"] = batch.board(slots, dimension)
    found["members"] = batch.members(slots, "endpoint", ENDPOINTS[:2])
    for key in KEYS if org != "*" else ():
        found[f"series {key}"] = batch.series(slots, ("key", key))
        found[f"board {key}"] = batch.key_board(slots, key)
    return found


def live_keys(world: World, pattern: str) -> list[str]:
    """The Redis keys of the world that match a pattern."""
    client = world.usage.engine.client
    return sorted(key.decode() for key in client.scan_iter(match=f"{world.usage.settings.namespace}:{pattern}", count=1000))
