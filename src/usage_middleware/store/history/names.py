"""Where the numbers of a slot stand in the history: the month, the section, and the place in it.

A section is about *what*: `series`, `endpoint`, `key <bucket>`, `board <dimension>`, `latency`, `endpoint_latency`,
`key_board <bucket>`. Half-hours have a section a day, `20 board endpoint`. The days of series have one a month,
`days endpoint`, those of boards have one each, `20 day board endpoint`, until all days of the month are packed. Then they are
merged in one, too, `days board endpoint`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

from usage_middleware.periods import DAY, Resolutions, Slot, day_name, month_end, month_start

#: Fields of a month that are no sections: how often it was changed, into how many buckets keys are spread.
VERSION, BUCKETS = "v", "buckets"
#: The field that says that the days of boards are merged.
MERGED = "merged"
#: The field that holds all sections of a small organisation.
SMALL = "small"

SERIES, ENDPOINT, KEY, BOARD = "series", "endpoint", "key", "board"
LATENCY, ENDPOINT_LATENCY, KEY_BOARD = "latency", "endpoint_latency", "key_board"
_OF_MONTH = (SERIES, ENDPOINT, KEY)
#: The one entity of a section that is about the organisation.
WHOLE = ""

#: About so many keys share a section, and into so many they are spread at most.
BUCKET_KEYS, MOST_BUCKETS = 30, 512


class Place(NamedTuple):
    """Where a slot stands: in which section, and at which place there."""

    section: str
    at: int


@lru_cache(maxsize=8192)
def place(slot: Slot, what: str) -> Place:
    """Where a half-hour or a day stands.

    >>> from usage_middleware.periods import resolutions
    >>> at = 1_795_182_300 // 86_400 * 86_400
    >>> place(Slot(resolutions().middle, at + 1800), "board key"), place(Slot(resolutions().day, at), "key 3")
    (Place(section='20 board key', at=1), Place(section='days key 3', at=19))
    """
    day = day_name(slot.start)[8:]
    if slot.resolution.seconds < DAY:
        return Place(f"{day} {what}", slot.start % DAY // slot.resolution.seconds)
    if what.split(" ", 1)[0] in _OF_MONTH:
        return Place(f"days {what}", int(day) - 1)
    return Place(f"{day} day {what}", 0)


def merged(at: Place) -> Place | None:
    """Where the board of a day stands when it is merged with the other days of its month; None of anything else.

    >>> merged(Place("20 day board key", 0)), merged(Place("20 board key", 7)), merged(Place("days key 3", 19))
    (Place(section='days board key', at=19), None, None)
    """
    day, _, what = at.section.partition(" day ")
    return Place(f"days {what}", int(day) - 1) if what else None


def day_of(month: int, section: str) -> int:
    """When the day begins that a section is about; of all days of a month, the month, which begins at `month`."""
    return month + (int(section[:2]) - 1) * DAY if section[2] == " " else month


def is_day_of_board(section: str) -> bool:
    """Whether a section has boards of one day."""
    return section[2:7] == " day "


def is_merged(section: str) -> bool:
    """Whether a section has the boards of all days of a month."""
    day, what = section.split(" ", 2)[:2]
    return day == "days" and what not in _OF_MONTH


def slot_at(month: str, section: str, index: int, layers: Resolutions) -> tuple[str, Slot]:
    """What a section is about, and the slot at a place in it: the other way round of `place`."""
    day, what = section.split(" ", 1)
    start = month_start(month)
    if day == "days":
        return what, Slot(layers.day, start + index * DAY)
    start += (int(day) - 1) * DAY
    if what.startswith("day "):
        return what.removeprefix("day "), Slot(layers.day, start)
    return what, Slot(layers.middle, start + index * layers.middle.seconds)


def month_of(at: int) -> str:
    """The UTC month of an instant: `2026-11`."""
    return _month_of_day(at // DAY)


@lru_cache(maxsize=4096)  # a question is about many slots of few days
def _month_of_day(day: int) -> str:
    return day_name(day * DAY)[:7]


def months(first: int, last: int) -> Iterator[str]:
    """The UTC months from one instant to another.

    >>> list(months(0, 40 * 86_400))
    ['1970-01', '1970-02']
    """
    month = month_of(first)
    while month_start(month) <= last:
        yield month
        month = month_of(month_end(month))


def bucket(key: str, buckets: int) -> int:
    """In which bucket a key is."""
    return crc32(key.encode()) % max(1, buckets)


def bucketed(what: str, key: str, buckets: int) -> str:
    """What the section of a key is about: `key 3`."""
    return f"{what} {bucket(key, buckets)}"


def buckets_for(keys: int) -> int:
    """Into how many buckets so many keys are spread.

    >>> buckets_for(5), buckets_for(1_000)
    (1, 34)
    """
    return min(MOST_BUCKETS, max(1, -(-keys // BUCKET_KEYS)))
