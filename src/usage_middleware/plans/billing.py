"""Billing periods: spans of a customer's own calendar that begin at an anchor and tile time."""

from __future__ import annotations

from calendar import monthrange
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from usage_middleware.periods import midnight
from usage_middleware.plans.plan import Per


class Period(NamedTuple):
    """A span in seconds since the epoch: `start` is inside, `end` is not."""

    start: int
    end: int


class Calendar(NamedTuple):
    """Counts periods from a day of a zone.

    Attributes:
        anchor: the local day on which a period begins. A month without that day begins on its last one.
    """

    anchor: date
    tz: ZoneInfo

    def period(self, at: int, per: Per = "month") -> Period:
        """The period that holds an instant.

        >>> calendar = Calendar(date(2026, 1, 31), ZoneInfo("UTC"))
        >>> start, end = calendar.period(1772400000)  # 1 March
        >>> datetime.fromtimestamp(start, calendar.tz).date(), datetime.fromtimestamp(end, calendar.tz).date()
        (datetime.date(2026, 2, 28), datetime.date(2026, 3, 31))
        """
        number = self._number(datetime.fromtimestamp(at, self.tz).date(), per)
        # The estimate may be one too high, where the day has not come in its month, or a clock change moved midnight.
        while self._start(number, per) > at:
            number -= 1
        while self._start(number + 1, per) <= at:
            number += 1
        return Period(self._start(number, per), self._start(number + 1, per))

    def _number(self, day: date, per: Per) -> int:
        """About which period a day is in."""
        if per == "month":
            return _months(day) - _months(self.anchor)
        if per == "year":
            return day.year - self.anchor.year
        return (day - self.anchor).days // (7 if per == "week" else 1)

    def _start(self, number: int, per: Per) -> int:
        return midnight(self._first_day(number, per), self.tz)

    def _first_day(self, number: int, per: Per) -> date:
        if per == "day":
            return self.anchor + timedelta(number)
        if per == "week":
            return self.anchor + timedelta(7 * number)
        index = _months(self.anchor) + number * (12 if per == "year" else 1)
        year, month = index // 12, index % 12 + 1
        return date(year, month, min(self.anchor.day, monthrange(year, month)[1]))


def _months(day: date) -> int:
    return day.year * 12 + day.month - 1
