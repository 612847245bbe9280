"""A window cut into calendar buckets of a zone, and whether the kept slots can tell them apart."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from zoneinfo import ZoneInfo

from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import DAY, HOUR, MINUTE, BucketSize, Slot, buckets, cover, rfc3339, rfc3339_in
from usage_middleware.report.metrics import Measures
from usage_middleware.report.window import Window, not_retained, oldest_kept

MOST_BUCKETS = 10_000
#: No bucket is longer, clock changes included: what is wider than so many of them need not be counted out.
_LONGEST: Mapping[BucketSize, int] = {
    "minute": MINUTE,
    "hour": 2 * HOUR,
    "day": DAY + 2 * HOUR,
    "week": 7 * DAY + 2 * HOUR,
    "month": 31 * DAY + 2 * HOUR,
    "quarter": 92 * DAY + 2 * HOUR,
    "year": 366 * DAY + 2 * HOUR,
}

#: Why an instant can't be told apart: the zone's offset is finer than the slots, or the finer slots are gone.
Trouble = Literal["unaligned", "expired"]


@dataclass(frozen=True)
class Timeline:
    """The buckets of a window.

    Attributes:
        starts: where each bucket begins; the first may begin before the window.
        window: what is looked at.
        tz: whose calendar it is.
    """

    starts: Sequence[int]
    window: Window
    tz: ZoneInfo

    @cached_property
    def cuts(self) -> Sequence[int]:
        """Where one bucket ends and the next begins, inside the window."""
        return self.starts[1:]

    def slots(self, settings: Settings, until: int) -> list[Slot]:
        """Slots that hold the window's calls, none across two buckets.

        `until` is where the last slot of the breakdowns ends: a worker whose clock is ahead may have counted calls between
        now and then, which breakdowns hold, so the last bucket has to.
        """
        window = self.window
        if window.end < window.now:
            return window.slots(settings.layers, self.cuts)
        return cover(window.start, until, now=until, layers=settings.layers, cuts=self.cuts)

    def index(self, at: int) -> int:
        """In which bucket an instant lies; what comes after the last lies in it."""
        return max(0, bisect_right(self.starts, at) - 1)

    def grouped(self, slots: Sequence[Slot]) -> list[list[Slot]]:
        """The slots of each bucket."""
        found: list[list[Slot]] = [[] for _ in self.starts]
        for slot in slots:
            found[self.index(slot.start)].append(slot)
        return found

    def split(self, series: Mapping[Slot, Measures]) -> list[list[Measures]]:
        """The measures of each bucket's slots."""
        found: list[list[Measures]] = [[] for _ in self.starts]
        for slot, measures in series.items():
            found[self.index(slot.start)].append(measures)
        return found

    def stamps(self, *, with_offset: bool) -> list[str]:
        """RFC 3339 of each bucket's start; of UTC with `Z` unless an offset is wanted."""
        if self.tz.key == "UTC" and not with_offset:
            return [rfc3339(start) for start in self.starts]
        return [rfc3339_in(start, self.tz) for start in self.starts]


def timeline(window: Window, size: BucketSize, tz: ZoneInfo) -> Timeline:
    """The window in buckets.

    Raises:
        QueryError: `window_too_wide`.
    """
    certain = (window.end - window.start) // _LONGEST[size] > MOST_BUCKETS
    starts = [] if certain else buckets(window.start, window.end, size, tz)
    if certain or len(starts) > MOST_BUCKETS:
        raise too_wide(f"that would be more than {MOST_BUCKETS} buckets of a {size}")
    return Timeline(starts, window, tz)


def too_wide(why: str) -> QueryError:
    """The window has to be narrower, or the buckets wider."""
    return QueryError("window_too_wide", f"The window is too wide: {why}. Ask for a shorter one, or for wider buckets.")


def check_retained(start: int, now: int, settings: Settings, kind: CounterKind) -> None:
    """Refuse a `start_date` before the oldest day that is kept.

    Raises:
        QueryError: `not_retained`.
    """
    oldest = oldest_kept(settings.layers.day, now, settings.kept(kind, 2))
    if settings.layers.day.floor(start) < oldest:
        raise not_retained(oldest, "start_date")


def trouble(edges: Sequence[int], now: int, settings: Settings, kind: CounterKind, *, minutes: bool = True) -> Trouble | None:
    """Why slots of a kind can't be cut at these instants, or None if they can. `minutes` says whether minutes are read."""
    minute, middle, day = settings.layers
    oldest_minute = oldest_kept(minute, now, settings.kept(kind, minute.rank)) if minutes else now
    oldest_middle = oldest_kept(middle, now, settings.kept(kind, middle.rank))
    worst: Trouble | None = None
    for edge in edges:
        if edge % day.seconds == 0 or edge >= now:
            continue
        if edge % middle.seconds == 0:
            worst = worst if day.floor(edge) >= oldest_middle else "expired"
        elif edge % MINUTE or middle.floor(edge) < oldest_minute:
            return "unaligned"
    return worst


def unsupported(tz: ZoneInfo, settings: Settings) -> QueryError:
    """The zone's offset is finer than the slots."""
    minutes = settings.slot_minutes
    advice = "set slot_minutes=15 when the counters begin" if minutes == 30 else "ask for UTC"
    message = f"{tz.key} has an offset that slots of {minutes} minutes can't represent: {advice}."
    return QueryError("unsupported_timezone", message, "timezone")


def not_kept(tz: ZoneInfo, now: int, settings: Settings, kind: CounterKind) -> QueryError:
    """Finer slots than UTC days are needed, and gone."""
    oldest = rfc3339(oldest_kept(settings.layers.middle, now, settings.kept(kind, 1)) // DAY * DAY + DAY)
    message = f"Buckets in {tz.key} need slots that are kept from {oldest} on: start there or later, or ask for UTC days."
    return QueryError("not_retained", message, "timezone")
