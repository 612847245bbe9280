"""The window of a question: from presets, start and end to the slots that answer it exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import DAY, HOUR, Resolution, Resolutions, Slot, cover, rfc3339

CUSTOM = "custom"
PRESETS = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "90d": 90 * DAY, "1y": 365 * DAY}
#: The preset that begins with the oldest slot that is kept.
ALL = "all"
#: The longest custom window of the views that cap it.
CAP = 90 * DAY


class WindowReport(msgspec.Struct, frozen=True, kw_only=True):
    """The window that an answer is exact for.

    Attributes:
        start: RFC 3339, inclusive.
        end: RFC 3339, exclusive.
        label: the preset, or `custom`.
        timezone: the zone whose calendar places the buckets.
        resolution: the slots that `start` and `end` were snapped outward to.
    """

    start: str
    end: str
    label: str
    timezone: str
    resolution: str


class Window(NamedTuple):
    """A resolved window. `end` may lie in an open slot only where it is now."""

    start: int
    end: int
    label: str
    timezone: str
    resolution: Resolution
    now: int

    def report(self) -> WindowReport:
        """The window as reports echo it."""
        return WindowReport(
            start=rfc3339(self.start),
            end=rfc3339(self.end),
            label=self.label,
            timezone=self.timezone,
            resolution=self.resolution.name,
        )

    def slots(self, layers: Resolutions, cuts: Sequence[int] = ()) -> list[Slot]:
        """The slots that hold exactly the calls inside."""
        return cover(self.start, self.end, now=self.now, layers=layers, cuts=cuts)


class WindowRequest(NamedTuple):
    """The window that was asked for: the preset in force, and start and end if given."""

    preset: str
    start: int | None = None
    end: int | None = None
    timezone: str = "UTC"

    @property
    def is_custom(self) -> bool:
        """True where start or end was given."""
        return self.start is not None or self.end is not None


def resolve(
    request: WindowRequest,
    now: int,
    settings: Settings,
    kinds: Sequence[CounterKind],
    cap: int | None = None,
    finest: Resolution | None = None,
) -> Window:
    """The window that can be answered exactly from counters of the given kinds, snapped outward to their slots.

    `cap` is the longest it may be, in seconds; no slots finer than `finest` are used.

    Raises:
        QueryError: `invalid_window`, or `not_retained`, which says from when the counters are kept.
    """

    def kept(rank: int) -> int:
        return min(settings.kept(kind, rank) for kind in kinds)

    day = settings.layers.day
    start, end = _bounds(request, now, oldest_kept(day, now, kept(day.rank)))
    if cap is not None and end - start > cap:
        start = end - cap
    layer = _finest(start, now, settings.layers, kept, finest or settings.layers.minute)
    at_now = request.end is None
    return Window(
        layer.floor(start),
        end if at_now else layer.ceil(end),
        CUSTOM if request.is_custom else request.preset,
        request.timezone,
        layer,
        now,
    )


def _bounds(request: WindowRequest, now: int, oldest: int) -> tuple[int, int]:
    end = now if request.end is None else request.end
    preset_start = oldest if request.preset == ALL else end - PRESETS[request.preset]
    start = preset_start if request.start is None else request.start
    if end <= start:
        raise QueryError("invalid_window", "end must be after start (an end that is not given is now)", "end")
    return start, end


def _finest(start: int, now: int, layers: Resolutions, kept: Callable[[int], int], finest: Resolution) -> Resolution:
    for layer in layers[finest.rank :]:
        if oldest_kept(layer, now, kept(layer.rank)) <= layer.floor(start):
            return layer
    raise not_retained(oldest_kept(layers.day, now, kept(layers.day.rank)))


def not_retained(oldest: int, param: str = "start") -> QueryError:
    """The error of a question that begins before the oldest slot that is kept."""
    return QueryError("not_retained", f"What is asked for is kept from {rfc3339(oldest)} on: start there or later.", param)


def oldest_kept(layer: Resolution, now: int, kept: int) -> int:
    """The start of the oldest slot of a layer that has not expired: it ended less than `kept` seconds ago."""
    return layer.floor(now - kept - layer.seconds) + layer.seconds
