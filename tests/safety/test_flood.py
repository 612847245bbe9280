"""A flood of made-up API keys costs no customer a call, and fills neither the worker's memory nor Redis.

The full flood of the promise, 10,000 keys a second for a minute: `USAGE_FULL_SAFETY=1 pytest tests/safety/test_flood.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Clock, there
from usage_middleware import KeyInfo
from usage_middleware.events import RawCall

if TYPE_CHECKING:
    from usage_middleware import Usage

MakeUsage = Callable[..., "Usage"]
#: Made-up keys a second, and for how many seconds.
RATE, SECONDS = (10_000, 60) if os.environ.get("USAGE_FULL_SAFETY") == "1" else (1_000, 60)
BACKLOG = 64_000_000
CUSTOMERS = 5
#: What strangers get: success, refusals, errors.
STATUSES = (200, 401, 404, 200, 500, 302, 429)

pytestmark = pytest.mark.slow


class Flood:
    """Calls of strangers, each with keys of its own, among which those of customers are."""

    def __init__(self, usage: Usage, second_header: bool) -> None:
        self.usage = usage
        self.second_header = second_header
        self.strangers = self.customers = self.most_bytes = 0

    def second(self) -> None:
        """What comes in during a second; the thread that delivers looks in ten times."""
        for _ in range(10):
            for _ in range(RATE // 10):
                self._stranger()
            for number in range(CUSTOMERS):
                self._customer(number)
            self.usage.recorder._flusher.add_up()
            self.usage.recorder._flusher.ask_who_called()
            self.most_bytes = max(self.most_bytes, self.usage.recorder.stats().backlog_bytes)

    def _stranger(self) -> None:
        self.strangers += 1
        shown = [(b"x-api-key", b"sk_made_up_%d" % self.strangers)]
        if self.second_header:
            shown.append((b"authorization", b"Bearer sk_also_%d" % self.strangers))
        self._take(shown, STATUSES[self.strangers % len(STATUSES)])

    def _customer(self, number: int) -> None:
        self.customers += 1
        shown = [(b"authorization", b"Bearer sk_customer_%d" % number)]
        if self.second_header:
            shown.append((b"x-api-key", b"junk %d" % self.customers))
        self._take(shown, 200)

    def _take(self, shown: list[tuple[bytes, bytes]], status: int) -> None:
        self.usage.recorder.take(RawCall(0.0, None, shown, None, "GET", "/v1/items", None, status, 0.001, 10, None))


def tree(usage: Usage, org: str) -> set[str]:
    """The Redis keys of an organisation."""
    name = usage.settings.namespace
    return {key.decode() for key in usage.engine.client.scan_iter(f"{name}:{{{org}}}:*", count=10_000)}


def total(usage: Usage, org: str) -> int:
    return usage.reader.summary(org=org, period="24h").total_calls


@pytest.mark.parametrize("second_header", [False, True])
def test_a_flood_of_made_up_keys(make_usage: MakeUsage, clock: Clock, second_header: bool) -> None:
    usage = make_usage(flush_interval=3600, backlog_bytes=BACKLOG)
    for number in range(CUSTOMERS):
        usage.keys.put("acme", KeyInfo(f"key_{number}", "A customer's"), secret=f"sk_customer_{number}")
    usage.recorder._crowded = lambda: None  # type: ignore[method-assign]
    flood = Flood(usage, second_header)
    for second in range(1, SECONDS + 1):
        flood.second()
        clock.advance(1)
        if second % 5 == 0:
            assert usage.flush()
    stats = usage.recorder.stats()
    assert (stats.dropped, stats.dropped_unresolved, stats.lost) == ({}, 0, {})
    assert flood.most_bytes < BACKLOG // 8
    assert (total(usage, "acme"), total(usage, "default")) == (flood.customers, flood.strangers)
    named = [key for key in there(usage.reader.by_key(org="default", period="24h").keys) if key.key_id.startswith("key_")]
    assert len(named) == 100
    _no_slot_has_too_many_keys(tree(usage, "default"))


def _no_slot_has_too_many_keys(names: set[str]) -> None:
    """Redis keys that a flood adds to a slot, by resolution."""
    slots: dict[str, int] = {}
    for name in names:
        found = re.search(r":(1m|30m|1d):\d{4}-\d\d(-\d\d(T\d\d:\d\d)?)?", name)
        if found is not None:
            slots[found[0]] = slots.get(found[0], 0) + 1
    assert max(slots.values()) <= 200, slots


def test_a_flood_while_redis_is_away(make_usage: MakeUsage, clock: Clock) -> None:
    """Customers that were seen before lose nothing; strangers have half of the room."""
    usage = make_usage(flush_interval=3600, backlog_bytes=2_000_000)
    for number in range(CUSTOMERS):
        usage.keys.put("acme", KeyInfo(f"key_{number}", "A customer's"), secret=f"sk_customer_{number}")
    usage.recorder._crowded = lambda: None  # type: ignore[method-assign]
    flood = Flood(usage, second_header=True)
    for number in range(CUSTOMERS):
        flood._customer(number)
    assert usage.flush()
    working: Any = usage._directory.resolve
    usage.recorder._flusher.sender._callers._resolve = _away
    for second in range(1, 31):
        flood.second()
        clock.advance(1)
        if second % 10 == 0:
            assert not usage.flush()
    assert flood.most_bytes < 2_000_000
    usage.recorder._flusher.sender._callers._resolve = working
    assert usage.flush()
    stats = usage.recorder.stats()
    assert total(usage, "acme") == flood.customers
    assert "acme" not in stats.dropped
    assert total(usage, "default") + sum(stats.dropped.values()) + stats.dropped_unresolved == flood.strangers


def _away(digests: object) -> Any:
    raise ConnectionError("away")
