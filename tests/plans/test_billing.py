"""Billing periods tile time, for every anchor, zone and history of assignments."""

from __future__ import annotations

from datetime import date, datetime
from itertools import pairwise
from math import inf
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usage_middleware.errors import ConfigurationError
from usage_middleware.periods import DAY
from usage_middleware.plans import Limit, Plan, Quota
from usage_middleware.plans.assignment import Assigned, Change, History
from usage_middleware.plans.billing import Calendar, Period
from usage_middleware.plans.plan import Per

ZONES = (
    "UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia",
    "America/St_Johns", "Africa/Cairo", "America/Sao_Paulo", "Pacific/Chatham", "Asia/Tokyo", "Pacific/Kiritimati",
    "America/Havana", "Asia/Beirut",
)  # fmt: skip
zones = st.sampled_from(ZONES)
anchors = st.dates(date(2010, 1, 1), date(2030, 12, 31))
instants = st.integers(1_262_304_000, 1_924_992_000)
pers = st.sampled_from(get_args(Per))
assignments = st.builds(lambda anchor, tz: Assigned(plan="pro", anchor=anchor, timezone=tz), anchors, zones)
histories = st.lists(st.builds(Change, instants, assignments, st.booleans()), max_size=5).map(History)


@settings(deadline=None)
@given(anchors, zones, instants, pers)
def test_periods_of_a_calendar_tile_time(anchor: date, tz: str, at: int, per: Per) -> None:
    calendar = Calendar(anchor, ZoneInfo(tz))
    period = calendar.period(at, per)
    assert period.start <= at < period.end
    assert calendar.period(period.start, per) == period
    assert calendar.period(period.end - 1, per) == period
    assert calendar.period(period.end, per).start == period.end


@settings(deadline=None)
@given(histories, instants, pers)
def test_periods_of_a_history_tile_time(history: History, at: int, per: Per) -> None:
    period = history.period(at, per)
    assert period.start <= at < period.end
    for inside in (period.start, (period.start + period.end) // 2, period.end - 1):
        assert history.period(inside, per) == period
    assert history.period(period.end, per).start == period.end
    assert history.period(period.start - 1, per).end == period.start


def test_a_month_without_the_day_begins_on_its_last_one() -> None:
    calendar = Calendar(date(2026, 1, 31), ZoneInfo("Europe/Berlin"))
    starts = [calendar.period(_at(f"2026-{month:02}-15T12:00")).start for month in range(2, 7)]
    assert [_day(start, "Europe/Berlin") for start in starts] == [
        "2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31",
    ]  # fmt: skip


def test_a_leap_day_begins_years_on_the_28th() -> None:
    calendar = Calendar(date(2024, 2, 29), ZoneInfo("UTC"))
    found = [calendar.period(_at(f"{year}-06-01T00:00"), "year") for year in (2024, 2025, 2027, 2028)]
    assert [_day(period.start, "UTC") for period in found] == ["2024-02-29", "2025-02-28", "2027-02-28", "2028-02-29"]


def test_local_midnights_move_with_the_clock() -> None:
    calendar = Calendar(date(2026, 1, 1), ZoneInfo("America/New_York"))
    march, day = calendar.period(_at("2026-03-10T00:00")), calendar.period(_at("2026-03-08T12:00"), "day")
    assert march.end - march.start == 31 * DAY - 3600
    assert day.end - day.start == DAY - 3600


def test_another_anchor_begins_with_the_next_period() -> None:
    history = History([_change("2026-01-01", 1), _change("2026-03-10", 15)])
    assert [_days(history, at) for at in ("2026-03-20", "2026-04-02", "2026-04-20")] == [
        ("2026-03-01", "2026-04-01"), ("2026-04-01", "2026-04-15"), ("2026-04-15", "2026-05-15"),
    ]  # fmt: skip


def test_now_ends_the_period_there() -> None:
    history = History([_change("2026-01-01", 1), _change("2026-03-10", 15, now=True)])
    assert [_days(history, at) for at in ("2026-03-09", "2026-03-10", "2026-03-20")] == [
        ("2026-03-01", "2026-03-10"), ("2026-03-10", "2026-03-15"), ("2026-03-15", "2026-04-15"),
    ]  # fmt: skip


def test_now_takes_the_place_of_what_was_to_begin() -> None:
    history = History([_change("2026-01-01", 1), _change("2026-03-10", 15), _change("2026-03-20", 20, now=True)])
    assert [_days(history, at) for at in ("2026-03-15", "2026-04-03")] == [
        ("2026-03-01", "2026-03-20"), ("2026-03-20", "2026-04-20"),
    ]  # fmt: skip


def test_the_same_calendar_again_cuts_no_week() -> None:
    history = History([_change("2026-01-01", 1), _change("2026-03-10", 1)])
    week = history.period(_at("2026-03-31T12:00"), "week")
    assert week.end - week.start == 7 * DAY


def test_limits_change_at_once_and_prices_with_the_next_period() -> None:
    history = History([Change(-inf, Assigned(plan="free")), Change(_at("2026-03-10T00:00"), Assigned(plan="pro"))])
    before, after = history.at(_at("2026-03-09T00:00")), history.at(_at("2026-03-10T00:00"))
    assert before is not None
    assert before.plan == "free"
    assert after is not None
    assert after.plan == "pro"
    march = history.period(_at("2026-03-20T00:00"))
    priced = [history.priced(period) for period in (march, history.period(march.end))]
    assert [found and found.plan for found in priced] == ["free", "pro"]


def test_nothing_is_assigned_before_the_first_assignment() -> None:
    assert History([]).at(0) is None
    assert History([_change("2026-01-01", 1)]).at(_at("2025-12-31T00:00")) is None
    assert _days(History([]), "2026-03-20") == ("2026-03-01", "2026-04-01")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"anchor": "2026-01-01"}, "anchor must be a datetime.date"),
        ({"anchor": datetime(2026, 1, 1)}, "anchor must be a datetime.date"),  # noqa: DTZ001
        ({"timezone": "Mars/Base"}, "timezone must be the name of an IANA zone, not 'Mars/Base'"),
        ({"overrides": {"calls": -1}}, r"overrides\['calls'\] must be a whole number"),
    ],
)
def test_what_is_wrong_with_an_assignment_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Assigned(plan="pro", **fields)  # type: ignore[arg-type]


def test_an_assignment_fits_the_declared_plans() -> None:
    plans = {"pro": Plan("pro", Limit("requests", 1), Quota("calls", 2))}
    Assigned(plan="pro", overrides={"requests": 9}).check(plans)
    with pytest.raises(ConfigurationError, match="plan must be one of pro, not 'gold'"):
        Assigned(plan="gold").check(plans)
    with pytest.raises(ConfigurationError, match="overrides has 'rows'; plan 'pro' has requests, calls"):
        Assigned(plan="pro", overrides={"rows": 9}).check(plans)


def _change(day: str, anchor: int, *, now: bool = False) -> Change:
    return Change(_at(f"{day}T00:00"), Assigned(plan="pro", anchor=date(2026, 1, anchor)), now)


def _days(history: History, at: str) -> tuple[str, str]:
    period: Period = history.period(_at(f"{at}T00:00"))
    return _day(period.start, "UTC"), _day(period.end, "UTC")


def _at(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


def _day(at: int, tz: str) -> str:
    return datetime.fromtimestamp(at, ZoneInfo(tz)).date().isoformat()


def test_periods_of_all_zones_follow_each_other_for_decades() -> None:
    for tz in ZONES:
        calendar, at, found = Calendar(date(2011, 12, 30), ZoneInfo(tz)), _at("2011-11-01T00:00"), []
        for _ in range(90):
            found.append(calendar.period(at, "day"))
            at = found[-1].end
        assert all(before.end == after.start and before.start < before.end for before, after in pairwise(found)), tz


@pytest.mark.parametrize(
    ("timezone", "december"),
    [
        ("America/New_York", "2026-12-01T05:00"),
        ("Pacific/Pago_Pago", "2026-12-01T11:00"),
        ("Europe/Berlin", "2026-12-01T00:00"),
        ("Pacific/Kiritimati", "2026-12-01T00:00"),
    ],
)
def test_another_zone_leaves_no_period_of_hours(timezone: str, december: str) -> None:
    """Else a flat price would be due for it."""
    before, after = Assigned(plan="pro"), Assigned(plan="pro", timezone=timezone)
    history = History([Change(_at("2026-01-01T00:00"), before), Change(_at("2026-11-10T00:00"), after)])
    november = history.period(_at("2026-11-20T00:00"))
    assert november == (_at("2026-11-01T00:00"), _at(december))
    december_ = history.period(november.end)
    assert december_.end == Calendar(after.anchor, ZoneInfo(timezone)).period(_at("2026-12-15T00:00")).end
    assert (history.timezone(november.end - 1), history.timezone(november.end)) == ("UTC", timezone)
    day = history.period(november.end - 1, "day")
    assert day == (_at("2026-11-30T00:00"), november.end)


def test_a_period_that_ended_is_not_stretched_by_one_that_is_ended_soon() -> None:
    history = History([_change("2026-01-01", 1), Change(_at("2026-12-01T10:00"), Assigned(plan="pro"), now=True)])
    assert history.period(_at("2026-11-20T00:00")).end == _at("2026-12-01T00:00")
    assert history.period(_at("2026-12-01T05:00")) == (_at("2026-12-01T00:00"), _at("2026-12-01T10:00"))
