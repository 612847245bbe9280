"""Processes whose alerts are looked for when a test says so, and what they were told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.seeds.traffic import Traffic
from tests.support import Clock, record_call
from usage_middleware import AlertEvent, Plan, Quota, Usage
from usage_middleware.alerts.alerting import Alerting

FREE = Plan("free", Quota("calls", 100, alerts=(80, 100)), Quota("own", 10, by="key", alerts=(50,)))
OPTIONS: dict[str, Any] = {"plans": (FREE,), "default_plan": "free", "flush_interval": 3600}


class Told:
    """An `on_alert` that remembers what it was told, and fails when it is to."""

    def __init__(self) -> None:
        self.events: list[AlertEvent] = []
        self.error: BaseException | None = None

    def __call__(self, event: AlertEvent) -> None:
        self.events.append(event)
        if self.error is not None:
            raise self.error

    @property
    def reached(self) -> list[tuple[str, str | None, int]]:
        """What was reached, sorted."""
        found = [(one.data.limit, one.data.key_id, one.data.threshold_percent) for one in self.events]
        return sorted(found, key=str)


class Bench:
    """A process whose alerts are looked for when a test says so: its thread never runs."""

    def __init__(self, usage: Usage, told: Sequence[Told], clock: Clock) -> None:
        usage._alerting._is_on = False
        self.usage, self.told = usage, told
        self.alerting = Alerting(usage.reader, usage.plans.declared, told, monotonic=clock)
        self.alerting._wake = lambda: None  # type: ignore[method-assign]

    def look(self, *orgs: str) -> None:
        """Look at organisations, and deliver."""
        for org in orgs or ("acme",):
            self.alerting.note(org)
        self.step()

    def step(self) -> None:
        """Do what is due though nothing was counted."""
        self.alerting.step()


def calls(traffic: Traffic, clock: Clock, times: int, key: str = "key_1") -> None:
    for _ in range(times):
        record_call(traffic.usage.recorder, ("acme", key), "GET /v1/items", (), 200, 8000, 100, ())
    assert traffic.usage.flush()
    clock.advance(5)
