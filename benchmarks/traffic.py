"""Calls as a busy API gets them: keys evenly or by Zipf, a few busy endpoints, latencies with a tail. Always the same calls."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from usage_middleware.record.recorder import Recorder

STATUSES = ((200, 940), (201, 20), (304, 10), (404, 15), (422, 10), (500, 5))


class Traffic(NamedTuple):
    """Who calls what.

    Attributes:
        keys: how many API keys there are.
        endpoints: how many endpoints there are, the n-th called 1/n as often as the first.
        skew: the n-th key calls 1/n**skew as often as the first; 0: all alike.
        projects: how many members the declared dimension has.
    """

    keys: int
    endpoints: int = 20
    skew: float = 0.0
    projects: int = 10


class Request(NamedTuple):
    """One call as the recorder gets it."""

    key: str
    endpoint: str
    project: str
    status: int
    latency_us: int
    sent: int
    records: int


def endpoint_name(number: int) -> str:
    """The name of the n-th endpoint."""
    return f"{('GET', 'GET', 'POST', 'GET', 'DELETE')[number % 5]} /v1/resources{number}/{{id}}"


def key_name(number: int) -> str:
    """The name of the n-th key."""
    return f"key_{number:06d}"


def requests(traffic: Traffic, count: int, seed: int = 7) -> Iterator[Request]:
    """This many calls."""
    chance = random.Random(seed)
    codes, odds = zip(*STATUSES, strict=True)
    keys = _picks(chance, traffic.keys, traffic.skew, count)
    endpoints = _picks(chance, traffic.endpoints, 1.0, count)
    statuses = chance.choices(codes, odds, k=count)
    for key, endpoint, status in zip(keys, endpoints, statuses, strict=True):
        # Endpoints of 2 to 14 ms, each with a tail: two thirds of its calls within a factor of 1.8.
        latency = int(2_000 * (1 + endpoint % 7) * chance.lognormvariate(0, 0.6))
        project = f"project_{key % traffic.projects}"
        yield Request(key_name(key), endpoint_name(endpoint), project, status, latency, 800 + latency % 900, 1 + key % 5)


def _picks(chance: random.Random, members: int, skew: float, count: int) -> Sequence[int]:
    weights = [1 / (number + 1) ** skew for number in range(members)]
    return chance.choices(range(members), cum_weights=list(accumulate(weights)), k=count)


def record(recorder: Recorder, org: str, request: Request, calls: int = 1) -> None:
    """Record a call."""
    who = (org, request.key)
    for _ in range(calls):
        recorder.add(
            who, request.endpoint, (request.project,), request.status, request.latency_us, request.sent, (request.records,)
        )
