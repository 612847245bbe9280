"""What the capture tests look at: a recorder that keeps a list, and a clock that a handler moves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from usage_middleware.capture.capture import Capture
from usage_middleware.events import CallEvent, RawCall
from usage_middleware.options import Settings
from usage_middleware.record.normalizer import Normalizer

SETTINGS = Settings(dimensions=("project", "region"), untagged={"region": "home"}, counters=("records",))


@dataclass
class Recording:
    """A recorder in a list."""

    seen: list[CallEvent] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    flushes: int = 0
    normalizer: Normalizer = field(default_factory=lambda: Normalizer(SETTINGS))

    def take(self, raw: RawCall) -> None:
        try:
            self.seen.append(self.normalizer.event(raw))
        except Exception:
            self.count_error("call unreadable")

    def count_error(self, reason: str, *, logged: bool = False) -> None:
        self.reasons[reason] += 1

    def flush(self) -> bool:
        self.flushes += 1
        return True

    @property
    def only(self) -> CallEvent:
        """The one call that was seen, without anything going wrong."""
        assert not self.reasons, self.reasons
        assert len(self.seen) == 1, self.seen
        return self.seen[0]


class Broken(Recording):
    """A recorder that can't even say so."""

    def take(self, raw: RawCall) -> None:
        raise RuntimeError("take")

    def count_error(self, reason: str, *, logged: bool = False) -> None:
        raise RuntimeError("lost")

    def flush(self) -> bool:
        raise RuntimeError("flush")


@dataclass
class Timer:
    """Seconds that pass when told to."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Usage:
    """As much of a `Usage` as a middleware needs."""

    def __init__(self, recording: Recording | None = None, **options: Any) -> None:
        self.recording = recording or Recording()
        if "credentials" in options:
            self.recording.normalizer = Normalizer(SETTINGS, options["credentials"])
        self.timer = Timer()
        self.capture = Capture(self.recording, SETTINGS, timer=self.timer, **options)

    def __deepcopy__(self, memo: dict[int, object]) -> Usage:
        return self

    @property
    def only(self) -> CallEvent:
        return self.recording.only

    @property
    def labels(self) -> list[str]:
        return [seen.endpoint for seen in self.recording.seen]
