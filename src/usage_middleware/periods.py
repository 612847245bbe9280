"""Time as the counters know it: slots, their names, the cover of a window, and calendar buckets in a zone.

All instants are whole seconds since the Unix epoch, UTC. Everything here is pure: `now` is always an argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from usage_middleware.errors import ConfigurationError, QueryError

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

BucketSize = Literal["minute", "hour", "day", "week", "month", "quarter", "year"]


class Resolution(NamedTuple):
    """How wide the slots of one layer of counters are. `rank` 0 is the finest."""

    name: str
    seconds: int
    rank: int

    def floor(self, at: int) -> int:
        """The start of the slot that holds `at`.

        >>> Resolution("30m", 1800, 1).floor(1_000_000)
        999000
        """
        return at - at % self.seconds

    def ceil(self, at: int) -> int:
        """The first slot boundary at or after `at`."""
        return -(-at // self.seconds) * self.seconds


class Slot(NamedTuple):
    """One slot: the calls that finished in `[start, end)`."""

    resolution: Resolution
    start: int

    @property
    def end(self) -> int:
        """The first second after the slot."""
        return self.start + self.resolution.seconds


class SlotNames(NamedTuple):
    """A slot as Redis keys name it, and when what is named ends (for EXPIREAT).

    `slot` stands in a board's key, `block` in a series' key, `field` in a series' field.
    """

    slot: str
    block: str
    field: str
    slot_end: int
    block_end: int


class Resolutions(NamedTuple):
    """The three layers: minutes, the middle one (30 minutes by default), UTC days."""

    minute: Resolution
    middle: Resolution
    day: Resolution


@cache
def resolutions(slot_minutes: int = 30) -> Resolutions:
    """The layers for a middle slot of 30 or 15 minutes.

    >>> [layer.name for layer in resolutions(15)]
    ['1m', '15m', '1d']

    Raises:
        ConfigurationError: other slots are not possible.
    """
    if slot_minutes not in (15, 30):
        raise ConfigurationError(f"slot_minutes must be 30 or 15, not {slot_minutes!r}")
    return Resolutions(
        Resolution("1m", MINUTE, 0),
        Resolution(f"{slot_minutes}m", slot_minutes * MINUTE, 1),
        Resolution("1d", DAY, 2),
    )


@lru_cache(maxsize=8192)
def slot_names(slot: Slot, middle_seconds: int) -> SlotNames:
    """What a slot and its block are called in keys and fields.

    >>> slot_names(Slot(Resolution("1m", 60, 0), 1795268700), 1800)[:3]
    ('2026-11-21T13:45', '2026-11-21T13:30', '45')
    """
    at = datetime.fromtimestamp(slot.start, UTC)
    if slot.resolution.rank == 0:
        block = slot.start - slot.start % middle_seconds
        return SlotNames(_minute_name(at), _minute_name(_utc(block)), f"{at:%M}", slot.end, block + middle_seconds)
    if slot.resolution.rank == 1:
        block = slot.start - slot.start % DAY
        return SlotNames(_minute_name(at), f"{at:%Y-%m-%d}", f"{at:%H:%M}", slot.end, block + DAY)
    month_end = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
    return SlotNames(f"{at:%Y-%m-%d}", f"{at:%Y-%m}", f"{at:%d}", slot.end, int(month_end.timestamp()))


def day_name(at: int) -> str:
    """The UTC day of an instant as keys name it.

    >>> day_name(0)
    '1970-01-01'
    """
    return f"{_utc(at):%Y-%m-%d}"


def month_start(month: str) -> int:
    """The first instant of a UTC month.

    >>> month_start("1970-02")
    2678400
    """
    return int(datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC).timestamp())


def month_end(month: str) -> int:
    """The first instant after a UTC month."""
    return month_start(f"{_utc(month_start(month) + 31 * DAY):%Y-%m}")


def _utc(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _minute_name(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M}"


def cover(start: int, end: int, *, now: int, layers: Resolutions, cuts: Sequence[int] = ()) -> list[Slot]:
    """The fewest slots that hold exactly the calls finished in `[start, end)`, none of them across a cut.

    `start`, `end` and every cut lie on a boundary of some layer, or `end` is `now` or later: an open slot holds nothing
    of the future, so it may stand for its part up to now.

    >>> from datetime import datetime
    >>> layers = resolutions()
    >>> at = lambda text: int(datetime.fromisoformat(text + "+00:00").timestamp())
    >>> slots = cover(at("2026-11-20T23:00"), at("2026-11-22T00:01"), now=at("2026-12-01T00:00"), layers=layers)
    >>> [slot.resolution.name for slot in slots]
    ['30m', '30m', '1d', '1m']
    """
    edges = [start, *(cut for cut in cuts if start < cut < end), end]
    return [slot for begin, finish in pairwise(edges) for slot in _cover_between(begin, finish, now, layers)]


def _cover_between(start: int, end: int, now: int, layers: Resolutions) -> Iterator[Slot]:
    at = start
    while at < end and at <= now:
        slot = _widest(at, end, now, layers)
        yield slot
        at = slot.end


def _widest(at: int, end: int, now: int, layers: Resolutions) -> Slot:
    for layer in reversed(layers):
        if at % layer.seconds == 0 and (at + layer.seconds <= end or (end >= now and at + layer.seconds > now)):
            return Slot(layer, at)
    return Slot(layers.minute, at)


def zone(name: str) -> ZoneInfo:
    """The IANA zone called `name`.

    Raises:
        QueryError: `invalid_timezone`.
    """
    try:
        if name in _OF_THIS_MACHINE or name.startswith(_OTHER_CLOCKS):
            raise KeyError(name)
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise QueryError("invalid_timezone", f"Invalid timezone: {name}", "timezone") from None


#: Files beside the zones: what they say differs from machine to machine, or counts leap seconds.
_OF_THIS_MACHINE = frozenset({"localtime", "posixrules", "Factory"})
_OTHER_CLOCKS = ("right/", "posix/")


def buckets(start: int, end: int, size: BucketSize, tz: ZoneInfo) -> list[int]:
    """The starts of the calendar buckets that touch `[start, end)`, in the zone's own calendar, ascending.

    The first may lie before `start`. A day has 23 or 25 hours where the clock changes; a week begins on Monday.

    >>> from datetime import datetime
    >>> at = lambda text: int(datetime.fromisoformat(text).timestamp())
    >>> days = buckets(at("2026-03-07T05:00Z"), at("2026-03-10T04:00Z"), "day", ZoneInfo("America/New_York"))
    >>> [(after - day) // 3600 for day, after in zip(days, days[1:])]
    [24, 23]
    """
    found: list[int] = []
    at = bucket_start(start, size, tz)
    while at < end:
        found.append(at)
        at = bucket_end(at, size, tz)
    return found


def bucket_start(at: int, size: BucketSize, tz: ZoneInfo) -> int:
    """The start of the calendar bucket that holds the instant `at`."""
    if size in ("minute", "hour"):
        return _clock_start(at, MINUTE if size == "minute" else HOUR, tz)
    return midnight(_first_day(datetime.fromtimestamp(at, tz).date(), size), tz)


def bucket_end(start: int, size: BucketSize, tz: ZoneInfo) -> int:
    """The first instant after the calendar bucket that begins at `start`."""
    if size in ("minute", "hour"):
        step = MINUTE if size == "minute" else HOUR
        return start + step - (start + _offset(start, tz)) % step
    return midnight(_next_first_day(datetime.fromtimestamp(start, tz).date(), size), tz)


def _clock_start(at: int, step: int, tz: ZoneInfo) -> int:
    start = at - (at + _offset(at, tz)) % step
    changed = _offset(start, tz) != _offset(at, tz)
    return _change_between(start, at, tz) if changed and (start + _offset(start, tz)) % step else start


def _change_between(low: int, high: int, tz: ZoneInfo) -> int:
    """The first second after `low` with the offset of `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(middle, tz) == _offset(high, tz) else (middle, high)
    return high


def _offset(at: int, tz: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(at, tz).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def midnight(day: date, tz: ZoneInfo) -> int:
    """The instant at which a day begins in a zone; where the clock skips midnight, the first instant after."""
    return int(datetime(day.year, day.month, day.day, tzinfo=tz).timestamp())


def _first_day(day: date, size: BucketSize) -> date:
    if size == "week":
        return day - timedelta(days=day.weekday())
    if size == "month":
        return day.replace(day=1)
    if size == "quarter":
        return day.replace(month=day.month - (day.month - 1) % 3, day=1)
    if size == "year":
        return day.replace(month=1, day=1)
    return day


def _next_first_day(day: date, size: BucketSize) -> date:
    if size in ("day", "week"):
        return day + timedelta(days=1 if size == "day" else 7)
    months = {"month": 1, "quarter": 3, "year": 12}[size]
    index = day.year * 12 + day.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)


def rfc3339(at: float) -> str:
    """An instant as RFC 3339 in UTC, with milliseconds only where there are some.

    >>> rfc3339(0), rfc3339(1.5)
    ('1970-01-01T00:00:00Z', '1970-01-01T00:00:01.500Z')
    """
    millis = round(at * 1000)
    text = datetime.fromtimestamp(millis // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{millis % 1000:03d}Z" if millis % 1000 else f"{text}Z"


def rfc3339_in(at: int, tz: ZoneInfo) -> str:
    """An instant as RFC 3339 with the zone's offset, also for UTC (`+00:00`).

    >>> rfc3339_in(0, ZoneInfo("Asia/Kolkata"))
    '1970-01-01T05:30:00+05:30'
    """
    return datetime.fromtimestamp(at, tz).isoformat(timespec="seconds")
