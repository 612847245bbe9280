"""The demo's traffic: a few seconds of calls from two customers, strangers and a scanner."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

STOREFRONT, WAREHOUSE, STAGING, OLD_APP = (
    "acme-live-storefront",
    "acme-live-warehouse",
    "acme-test-staging",
    "acme-live-old-app",
)
MAPS, SANDBOX = "globex-live-maps", "globex-test-sandbox"
TIMEOUT = 10


class Call(NamedTuple):
    """One request: path, API key, project, JSON body."""

    path: str
    key: str | None = None
    project: str | None = None
    body: object = None


#: Kinds of calls, each with its relative frequency.
MIX: tuple[tuple[int, Call], ...] = (
    (30, Call("/v1/geocode?q=lis", STOREFRONT, "checkout")),
    (12, Call("/v1/places/ams", STOREFRONT, "checkout")),
    (8, Call("/v1/places/osa", STOREFRONT, "store-finder")),
    (10, Call("/v1/geocode/batch", WAREHOUSE, "routing", {"queries": ["amsterdam", "nairobi", "atlantis"]})),
    (5, Call("/v1/distance/ams/lis", WAREHOUSE, "routing")),
    (2, Call("/v1/distance/ams/rek", WAREHOUSE, "routing")),
    (4, Call("/v1/places/eldorado", STAGING)),
    (3, Call("/v1/geocode", STAGING)),
    (3, Call("/v1/geocode?q=osaka", OLD_APP)),
    (20, Call("/v1/geocode?q=nairobi", MAPS, "tiles")),
    (4, Call("/v1/distance/yul/nbo", MAPS, "tiles")),
    (4, Call("/v1/places/yul", SANDBOX)),
    (4, Call("/")),
    (2, Call("/v1/geocode?q=lisbon")),
    (2, Call("/wp-login.php")),
    (1, Call("/.env")),
)


def calls(count: int, seed: int = 7) -> list[Call]:
    """`count` calls drawn from `MIX`: the same for the same seed, at least one of each kind."""
    kinds = [call for _, call in MIX]
    drawn = random.Random(seed)
    chosen = kinds + drawn.choices(kinds, [weight for weight, _ in MIX], k=max(count - len(kinds), 0))
    drawn.shuffle(chosen)
    return chosen


def send(call: Call, port: int) -> int:
    """Send one call to a port of this machine; returns the HTTP status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        body = None if call.body is None else json.dumps(call.body)
        connection.request("GET" if body is None else "POST", call.path, body, dict(headers(call)))
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def headers(call: Call) -> Iterator[tuple[str, str]]:
    """The headers of a call."""
    if call.key:
        yield "X-API-Key", call.key
    if call.project:
        yield "X-Project", call.project
    if call.body is not None:
        yield "Content-Type", "application/json"


def play(script: list[Call], port: int, seconds: float, done: Callable[[], None]) -> list[int]:
    """Send the calls, spread over this many seconds; returns their statuses. `done` is called after each."""

    def send_and_report(call: Call) -> int:
        status = send(call, port)
        done()
        return status

    with ThreadPoolExecutor(max_workers=8) as pool:
        sent = []
        for call in script:
            sent.append(pool.submit(send_and_report, call))
            time.sleep(seconds / len(script))
        return [answer.result() for answer in sent]
