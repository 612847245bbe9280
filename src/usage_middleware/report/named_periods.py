"""The periods that views know by name: where each begins, and which time before it compares with it."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from usage_middleware.periods import DAY, HOUR, MINUTE, Resolutions, midnight

#: Periods that begin at a local midnight, and how many days back that is.
DAYS: Mapping[str, int] = {"7d": 7, "30d": 30, "90d": 90, "1y": 365}
#: The calendar month that is running, and the one before it.
MONTH_TO_DATE, LAST_MONTH = "month_to_date", "last_month"
#: All that is kept.
ALL = "all"


class Edges(NamedTuple):
    """A window, in seconds since the epoch: `start` is inside, `end` is not."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Seconds from start to end."""
        return self.end - self.start


class NamedPeriod(NamedTuple):
    """A period of a zone's calendar; 24 hours begin at a slot of the middle layer."""

    name: str
    tz: ZoneInfo
    layers: Resolutions

    def until(self, end: int, oldest: int) -> Edges:
        """The period that ends at an instant; `last_month` ends with the month before it. `all` begins with the oldest slot."""
        if self.name == ALL:
            return Edges(oldest, end)
        if self.name in DAYS:
            return Edges(days_before(end, DAYS[self.name], self.tz), end)
        if self.name == MONTH_TO_DATE:
            return Edges(self._month(end, 0), end)
        if self.name == LAST_MONTH:
            return Edges(self._month(end, -1), self._month(end, 0))
        layer, span = (self.layers.minute, HOUR) if self.name == "1h" else (self.layers.middle, DAY)
        return Edges(layer.floor(end - span), end)

    def before(self, now: Edges) -> Edges:
        """The time that compares with a period: as long, with the same time of day at its end, and never in it."""
        if self.name in DAYS:
            days = DAYS[self.name] + 1
            return Edges(days_before(now.start, days, self.tz), _local(now.end, self.tz, lambda day: day - timedelta(days)))
        if self.name == MONTH_TO_DATE:
            return Edges(self._month(now.start, -1), _local(now.end, self.tz, _month_earlier))
        if self.name == LAST_MONTH:
            return Edges(self._month(now.start, -1), now.start)
        shifts = {"1h": HOUR + MINUTE, "24h": DAY + self.layers.middle.seconds}
        shift = shifts.get(self.name, now.length)
        return Edges(now.start - shift, now.end - shift)

    def _month(self, at: int, more: int) -> int:
        day = datetime.fromtimestamp(at, self.tz).date()
        index = day.year * 12 + day.month - 1 + more
        return midnight(date(index // 12, index % 12 + 1, 1), self.tz)


def days_before(at: int, days: int, tz: ZoneInfo) -> int:
    """The local midnight so many days before the day of an instant."""
    day = datetime.fromtimestamp(at, tz).date()
    return midnight(day - timedelta(days), tz) if day.toordinal() > days else 0


def _local(at: int, tz: ZoneInfo, move: Callable[[date], date]) -> int:
    """The same time of day on another local day."""
    there = datetime.fromtimestamp(at, tz)
    return int(datetime.combine(move(there.date()), there.time(), tzinfo=tz).timestamp())


def _month_earlier(day: date) -> date:
    """The same day of the month before, or its last day."""
    index = day.year * 12 + day.month - 2
    year, month = index // 12, index % 12 + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))
