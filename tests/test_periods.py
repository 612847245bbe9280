"""Slots, covers and calendar buckets, against other ways of telling the same time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_middleware.errors import ConfigurationError, QueryError
from usage_middleware.periods import (
    DAY,
    BucketSize,
    Slot,
    bucket_end,
    bucket_start,
    buckets,
    cover,
    midnight,
    resolutions,
    rfc3339,
    slot_names,
    zone,
)

LAYERS = resolutions()
minutes = st.integers(0, 60 * 24 * 365 * 80).map(lambda minute: minute * 60)
ZONES = [
    "UTC",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@given(minutes, st.integers(1, 60 * 24 * 70), st.lists(st.integers(0, 60 * 24 * 70), max_size=5))
def test_a_cover_is_exactly_the_window_and_never_crosses_a_cut(start: int, length: int, shifts: list[int]) -> None:
    end = start + length * 60
    cuts = sorted({start + shift * 60 for shift in shifts})
    slots = cover(start, end, now=end + 10 * DAY, layers=LAYERS, cuts=cuts)
    assert slots[0].start == start
    assert slots[-1].end == end
    assert all(one.end == other.start for one, other in pairwise(slots))
    assert not [slot for slot in slots for cut in cuts if slot.start < cut < slot.end]


@given(minutes, st.integers(1, 60 * 24 * 70))
def test_a_cover_is_the_fewest_slots(start: int, length: int) -> None:
    end = start + length * 60
    slots = cover(start, end, now=end + 10 * DAY, layers=LAYERS)
    assert sum(slot.resolution.rank == 0 for slot in slots) <= 58
    assert sum(slot.resolution.rank == 1 for slot in slots) <= 94
    days = range(-(-start // DAY) * DAY, end - end % DAY, DAY)
    assert [slot.start for slot in slots if slot.resolution.rank == 2] == list(days)


@given(minutes, st.integers(1, 10 * DAY), st.integers(0, DAY))
def test_up_to_now_an_open_slot_stands_for_its_part(start: int, age: int, ahead: int) -> None:
    now = start + age
    slots = cover(start, now + ahead, now=now, layers=LAYERS)
    assert slots[0].start == start
    assert slots[-1].start <= now <= slots[-1].end
    assert all(one.end == other.start for one, other in pairwise(slots))


def test_nothing_covers_the_future() -> None:
    assert cover(at("2030-01-01T00:00Z"), at("2031-01-01T00:00Z"), now=at("2029-01-01T00:00Z"), layers=LAYERS) == []


@pytest.mark.parametrize(
    ("layer", "text", "slot", "block", "field"),
    [
        ("1m", "2026-11-20T13:45Z", "2026-11-20T13:45", "2026-11-20T13:30", "45"),
        ("30m", "2026-11-20T13:30Z", "2026-11-20T13:30", "2026-11-20", "13:30"),
        ("1d", "2026-11-20T00:00Z", "2026-11-20", "2026-11", "20"),
    ],
)
def test_names_are_those_of_the_documented_table(layer: str, text: str, slot: str, block: str, field: str) -> None:
    found = slot_names(Slot(LAYERS[["1m", "30m", "1d"].index(layer)], at(text)), 1800)
    assert (found.slot, found.block, found.field) == (slot, block, field)


def test_the_block_of_december_ends_with_the_year() -> None:
    assert slot_names(Slot(LAYERS.day, at("2026-12-31T00:00Z")), 1800).block_end == at("2027-01-01T00:00Z")


SIZES = st.sampled_from(get_args(BucketSize))


@given(st.sampled_from(ZONES), st.integers(at("1990-01-01T00:00Z"), at("2037-01-01T00:00Z")), SIZES)
def test_a_bucket_holds_its_instant_and_the_next_begins_where_it_ends(name: str, instant: int, size: BucketSize) -> None:
    tz = ZoneInfo(name)
    start = bucket_start(instant, size, tz)
    end = bucket_end(start, size, tz)
    assert start <= instant < end
    assert bucket_start(start, size, tz) == start
    assert bucket_start(end, size, tz) == end
    assert bucket_start(end - 1, size, tz) == start


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/Sao_Paulo", "2018-11-04", 23),  # the clock skips midnight
        ("America/Sao_Paulo", "2018-02-17", 25),
        ("Asia/Kolkata", "2026-03-08", 24),
        ("UTC", "2028-02-29", 24),
    ],
)
def test_days_are_as_long_as_the_clock_makes_them(name: str, day: str, hours: int) -> None:
    tz, first = ZoneInfo(name), date.fromisoformat(day)
    assert midnight(first + timedelta(1), tz) - midnight(first, tz) == hours * 3600


def test_lord_howe_has_an_hour_of_half_an_hour() -> None:
    tz = ZoneInfo("Australia/Lord_Howe")
    starts = buckets(midnight(date(2026, 10, 4), tz), midnight(date(2026, 10, 5), tz), "hour", tz)
    lengths = {end - start for start, end in pairwise([*starts, midnight(date(2026, 10, 5), tz)])}
    assert lengths == {3600, 1800}


@pytest.mark.parametrize(
    ("day", "monday"), [("2027-01-01", "2026-12-28"), ("2024-12-31", "2024-12-30"), ("2026-11-22", "2026-11-16")]
)
def test_weeks_begin_on_monday_over_the_new_year_too(day: str, monday: str) -> None:
    tz = ZoneInfo("UTC")
    assert rfc3339(bucket_start(at(f"{day}T12:00Z"), "week", tz))[:10] == monday


def test_quarters() -> None:
    tz = ZoneInfo("Asia/Tokyo")
    starts = buckets(at("2026-01-15T00:00Z"), at("2027-01-01T00:00Z"), "quarter", tz)
    assert [datetime.fromtimestamp(start, tz).date().isoformat() for start in starts] == [
        "2026-01-01",
        "2026-04-01",
        "2026-07-01",
        "2026-10-01",
        "2027-01-01",
    ]


@pytest.mark.parametrize("name", ["Mars/Phobos", "", "/etc/passwd", "../UTC", "Europe", "x" * 10_000, "UTC\0", "é"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(QueryError) as refused:
        zone(name)
    assert refused.value.code == "invalid_timezone"


@pytest.mark.parametrize("slot_minutes", [0, 1, 20, 60, -30])
def test_slots_are_of_30_or_15_minutes(slot_minutes: int) -> None:
    with pytest.raises(ConfigurationError, match="30 or 15"):
        resolutions(slot_minutes)


@pytest.mark.parametrize("name", ["right/Asia/Tokyo", "posix/UTC", "localtime", "posixrules", "Factory", "", "../UTC", "a\0b"])
def test_what_is_no_zone_of_the_iana_is_refused(name: str) -> None:
    with pytest.raises(QueryError, match="Invalid timezone"):
        zone(name)


def test_instants_are_written_in_utc() -> None:
    assert rfc3339(datetime(2026, 11, 20, 13, 45, 20, 250_000, UTC).timestamp()) == "2026-11-20T13:45:20.250Z"
