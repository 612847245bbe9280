"""Fills a Redis with the history of an organisation: sparse days, written as the recorder writes them."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks import apps
from benchmarks.traffic import endpoint_name, key_name
from usage_middleware import KeyInfo, Usage
from usage_middleware.events import CallKey, CallTotals, Cells, add_totals
from usage_middleware.latency import bin_of
from usage_middleware.periods import DAY
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.schema import Schema
from usage_middleware.store.writer import Outcome, Writer

CELLS_A_CHUNK = 150


class Past(NamedTuple):
    """The history of an organisation.

    Attributes:
        endpoints: how many endpoints were called every day.
        keys: how many keys the directory knows.
        active: how many of them are used on a day.
        days: how many of the last days have calls of all of these.
        years_days: how many days, further back, have calls of every endpoint, by a few keys.
        factor: how many calls each row of the past stands for; what is read does not depend on it.
    """

    endpoints: int
    keys: int
    active: int
    days: int = 100
    years_days: int = 365
    factor: int = 1


def seed(usage: Usage, url: str, options: Mapping[str, Any], org: str, past: Past, now: int) -> None:
    """Write the past of an organisation that ends at `now`, and register its keys; in two processes, for it takes a while.

    `url` and `options` are those that the usage was made with.
    """
    for number in range(past.keys):
        usage.keys.put(org, KeyInfo(id=key_name(number), name=f"Key {number}"))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(_seed_days, [(url, dict(options), org, past, now, place, 2) for place in range(2)])


def _seed_days(url: str, options: dict[str, Any], org: str, past: Past, now: int, first: int, step: int) -> None:
    with apps.new_usage(url, **options) as usage:
        writer = Writer(lambda: usage.engine.client, Schema(usage.settings))
        names = [key_name(number) for number in range(past.keys)]
        for back in range(first, past.years_days, step):
            _seed_day(writer, names, org, past, back, now)


def _seed_day(writer: Writer, names: list[str], org: str, past: Past, back: int, now: int) -> None:
    cells = [cell for cell in _cells(org, past, now - now % DAY - back * DAY, back) if cell[0].minute <= now]
    for place in range(0, len(cells), CELLS_A_CHUNK):
        number = place // CELLS_A_CHUNK + 1
        part: Cells = {}
        for key, totals in cells[place : place + CELLS_A_CHUNK]:
            add_totals(part, key, totals)
        answer = writer.send(f"seed{back}", Chunk(org, number, part), number - 1, now, names)
        assert answer.outcome is Outcome.COUNTED, answer


def _cells(org: str, past: Past, day: int, back: int) -> Iterator[tuple[CallKey, CallTotals]]:
    """The calls of a day: each active key in one half-hour of it, and every endpoint at least once."""
    chance = random.Random(back)
    whole = back < past.days
    keys = chance.sample(range(past.keys), past.active if whole else 1)
    for place in range(max(len(keys), past.endpoints)):
        endpoint = place if place < past.endpoints else min(int(chance.paretovariate(0.7)) - 1, past.endpoints - 1)
        minute = day + 60 * chance.randrange(24 * 60)
        yield _cell(org, keys[place % len(keys)], endpoint, minute, past.factor * chance.randrange(1, 60), chance)


def _cell(org: str, key: int, endpoint: int, minute: int, calls: int, chance: random.Random) -> tuple[CallKey, CallTotals]:
    latency_us = int(2_000 * (1 + endpoint % 7) * chance.lognormvariate(0, 0.6))
    status = chance.choice((200, 200, 200, 200, 201, 404, 500))
    last_ms = minute * 1_000 + chance.randrange(60_000)
    bins = {bin_of(latency_us): calls}
    return (
        CallKey(minute, (org, key_name(key)), endpoint_name(endpoint), (f"project_{key % 10}",), status),
        CallTotals(calls, calls * latency_us, calls * 1_200, last_ms, (calls * 3,), bins),
    )
