"""`usage.reader`: what programs may ask, and what they are told where they ask for something that is not possible."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from usage_middleware.errors import QueryError
from usage_middleware.report.reports import PLAN_VIEWS, VIEWS, Reports

if TYPE_CHECKING:
    from usage_middleware import Usage

NAIVE = datetime(2026, 11, 1)  # noqa: DTZ001


@pytest.fixture
def usage(make_usage: Callable[..., Usage]) -> Usage:
    """Nothing counted."""
    return make_usage()


@pytest.mark.parametrize(
    ("start", "echoed"),
    [
        (datetime(2026, 11, 1, tzinfo=UTC), "2026-11-01T00:00:00Z"),
        (datetime(2026, 11, 1, tzinfo=timezone(timedelta(hours=-5))), "2026-11-01T05:00:00Z"),
        (date(2026, 11, 1), "2026-11-01T00:00:00Z"),
        (1793491200, "2026-11-01T00:00:00Z"),
    ],
)
def test_times(usage: Usage, start: object, echoed: str) -> None:
    assert usage.reader.summary(org="acme", start=start).window.start == echoed


def test_a_date_is_a_midnight_of_the_views_zone(usage: Usage) -> None:
    report = usage.reader.details(org="acme", start=date(2026, 11, 18), timezone="America/New_York", include_endpoints=False)
    assert report.usage.window.start == "2026-11-18T05:00:00Z"


def test_the_part_of_a_second_at_an_end_is_within(usage: Usage) -> None:
    end = datetime(2026, 11, 20, 13, 0, 0, 500_000, tzinfo=UTC)
    assert usage.reader.by_group(org="acme", start=end - timedelta(minutes=1), end=end).window.end == "2026-11-20T13:01:00Z"


@pytest.mark.parametrize(
    ("view", "asked", "code", "param"),
    [
        ("by_key", {"limit": 0}, "invalid_parameter", "limit"),
        ("by_key", {"offset": -1}, "invalid_parameter", "offset"),
        ("details", {"limit": -1}, "invalid_parameter", "limit"),
        ("by_group", {"limit": -3}, "invalid_parameter", "limit"),
        ("summary", {"period": "8d"}, "invalid_parameter", "period"),
        ("summary", {"perod": "7d"}, "unknown_parameter", "perod"),
        ("summary", {"start": NAIVE}, "invalid_window", "start"),
        ("summary", {"start": -1}, "invalid_window", "start"),
        ("summary", {"end": 10**12}, "invalid_window", "end"),
        ("summary", {"end": 10**30}, "invalid_window", "end"),
        ("summary", {"start": datetime.max.replace(tzinfo=UTC)}, "invalid_window", "start"),
        ("endpoints", {"start_date": date.min, "end_date": date.max}, "invalid_parameter", "start_date"),
        ("endpoints", {"start_date": date(2026, 1, 1), "end_date": date.max}, "invalid_parameter", "end_date"),
        ("endpoints", {"start_date": date(2026, 1, 1)}, "invalid_window", "end_date"),
        ("details", {"timezone": "Mars/Phobos"}, "invalid_timezone", "timezone"),
        ("details", {"start": date(2026, 11, 1), "timezone": 7}, "invalid_timezone", "timezone"),
    ],
)
def test_what_is_not_possible_is_told(usage: Usage, view: str, asked: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(QueryError) as refused:
        getattr(usage.reader, view)(org="acme", **asked)
    assert (refused.value.code, refused.value.param) == (code, param)


@pytest.mark.parametrize(
    ("view", "asked", "message"),
    [
        ("summary", {"period": "8d"}, "period must be one of 24h, 7d, 30d, 90d, month_to_date, last_month, not '8d'"),
        ("details", {"granularity": "year"}, "granularity must be one of minute, hour, day, week, month, not 'year'"),
        ("summary", {"start": "yesterday"}, "start must be an aware datetime, a date, or seconds since 1970, not 'yesterday'"),
        ("by_key", {"limit": "x"}, "limit: Expected `int | null`, got `str`"),
        (
            "summary",
            {"perod": "7d"},
            "There is no parameter perod; there are org, start, end, align, compare, timezone, period, key_id",
        ),
    ],
)
def test_it_is_told_in_words_that_say_what_to_do(usage: Usage, view: str, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError) as refused:
        getattr(usage.reader, view)(org="acme", **asked)
    assert refused.value.message == message


def test_an_organisation_is_no_viewer(usage: Usage) -> None:
    with pytest.raises(TypeError, match="say org="):
        usage.reader.summary("acme")  # type: ignore[arg-type]


def test_every_view_has_a_method_for_programs() -> None:
    names = {view.name.replace("-", "_") for view in (*VIEWS, *PLAN_VIEWS)}
    assert names <= set(dir(Reports))
