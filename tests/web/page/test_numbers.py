"""One number everywhere: headline = bars = tables = what the test counted, in any zone and range."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support import ServerProcess, examples
from tests.web.page import fixed
from tests.web.page.conftest import Look, OpenLook, number
from usage_middleware import Usage

pytestmark = pytest.mark.slow

ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Pacific/Apia", "Africa/Cairo", "Australia/Lord_Howe")
TODAY = fixed.NOW.date()
#: What is too short for the page to have asked about: its window ends with the last minute that is over.
UNTIL = fixed.NOW.replace(second=0)


@pytest.fixture(scope="module")
def base(page_server: ServerProcess) -> Iterator[str]:
    """The usage API whose clock stands still."""
    usage = fixed.usage_at(page_server.url)
    with fixed.served(usage) as url:
        yield url
    usage.close()


@pytest.fixture
def seen(look: OpenLook, base: str) -> Look:
    """A window on it."""
    return look(None, base=base)


def edges(first: date, days: int, zone: str) -> tuple[datetime, datetime]:
    """The window of some local days."""
    begins, ends = (
        datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)) for day in (first, first + timedelta(days=days))
    )
    return begins, min(ends, UNTIL)


def tables(seen: Look) -> dict[str, dict[str, list[str]]]:
    """The tables of breakdowns that there are; what is not kept for a window says so."""
    return {panel: seen.rows(panel) for panel in ("keys", "endpoints") if not seen.page.locator(f"#{panel} .note").count()}


@settings(max_examples=examples(6), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    zone=st.sampled_from(ZONES),
    ago=st.integers(0, 90),
    days=st.integers(1, 60),
    group=st.sampled_from(["endpoint", "status"]),
)
@example(zone="Europe/Berlin", ago=4, days=1, group="endpoint")
@example(zone="Pacific/Apia", ago=0, days=1, group="status")
def test_headline_bars_and_tables_are_one_number(seen: Look, zone: str, ago: int, days: int, group: str) -> None:
    first = TODAY - timedelta(days=ago)
    begins, ends = edges(first, days, zone)
    if begins >= UNTIL:
        return
    last = first + timedelta(days=days)
    seen.open(f"?timezone={zone}&start={first}&end={last}&group={group}&table=1")
    counted = fixed.counted(begins, ends)
    assert seen.total == counted
    if counted:
        assert number(seen.rows("usage")["Total"][-1]) == counted
        assert seen.page.locator("#usage tbody td:last-child").count() > 0
    for panel, rows in tables(seen).items():
        found = {name: number(cells[0]) for name, cells in rows.items()}
        assert found.pop("Total") == counted == sum(found.values()), panel
        name = {"keys": "key", "endpoints": "endpoint"}[panel]
        for row, calls in found.items():
            member = f"key_{int(row[-1]) + 1}" if panel == "keys" else row
            assert calls == fixed.counted(begins, ends, **{name: member})
    assert ago > 8 or len(tables(seen)) == 2


@pytest.mark.parametrize("period", ["24h", "7d", "30d", "month_to_date"])
def test_a_named_period(look: OpenLook, base: str, period: str) -> None:
    seen = look(None, base=base)
    seen.open(f"?timezone=UTC&period={period}&table=1")
    midnight = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC)
    begins = {
        "24h": fixed.NOW.replace(minute=30, second=0) - timedelta(days=1),
        "7d": midnight - timedelta(days=7),
        "30d": midnight - timedelta(days=30),
        "month_to_date": midnight.replace(day=1),
    }[period]
    assert seen.total == fixed.counted(begins, UNTIL) == number(seen.rows("usage")["Total"][-1])


def test_the_period_before(look: OpenLook, base: str) -> None:
    """As many days before it, today included, up to the same time: in half-hours, for older minutes are not kept."""
    seen = look(None, base=base)
    page = seen.open("?timezone=UTC&period=7d")
    today = UNTIL.replace(hour=0, minute=0)
    begins, earlier = today - timedelta(days=7), timedelta(days=8)
    ended = UNTIL.replace(minute=30) - earlier
    windows = ((begins, UNTIL), (begins - earlier, ended))
    now, before = (fixed.counted(*window) for window in windows)
    change = page.locator("#headline .card").first.locator(".change").inner_text().split("\n")[0]
    assert abs(float(change.rstrip("%")) - 100 * (now - before) / before) < 0.06
    failed = [sum(fixed.counted(*window, status=status) for status in (404, 500)) for window in windows]
    points = page.locator("#headline .card").nth(1).locator(".change").inner_text().split(" ")[0]
    assert abs(float(points) - 100 * (failed[0] / now - failed[1] / before)) < 0.006
    assert page.locator("#calls .previous").count() == 1
    page.focus("#calls-plot")
    spoken = page.locator("#calls [role=status]").inner_text()
    assert f"before: {fixed.counted(today - earlier, ended):,}" in spoken
    assert "so far" in spoken
    page.select_option("#compare", "none")
    page.wait_for_url("**compare=none**")
    seen.wait()
    assert page.locator(".change, .previous").count() == 0


def test_the_day_on_which_clocks_change(look: OpenLook, base: str) -> None:
    """It has 25 hours, and is one bar."""
    seen = look(None, base=base)
    page = seen.open("?timezone=Europe/Berlin&start=2026-10-24&end=2026-10-27&table=1")
    hours = page.locator("#usage tbody tr")
    assert hours.count() == 24 + 25 + 24
    page.select_option("#size", "day")
    page.wait_for_url("**granularity=day**")
    seen.wait()
    days = [number(cell) for cell in page.locator("#usage tbody td:last-child").all_inner_texts()]
    assert days == [fixed.counted(*edges(date(2026, 10, day), 1, "Europe/Berlin")) for day in (24, 25, 26)]
    page.click("#as-table")
    page.focus("#calls-plot")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**start=2026-10-24T22**end=2026-10-25T23**")
    seen.wait()
    assert seen.total == days[1]


def test_ten_thousand_keys(look: OpenLook, apart: str, apart_usage: Usage) -> None:
    row = {"org": "crowd", "at": datetime.now(UTC) - timedelta(hours=2), "endpoint": "GET /", "status": 200}
    apart_usage.backfill({**row, "id": str(one), "key": f"key_{one:05}", "calls": 1 + one % 7} for one in range(10_000))
    seen = look("crowd", base=apart)
    page = seen.open()
    total = sum(1 + one % 7 for one in range(10_000))
    assert seen.total == total
    assert "1\u201320 of 10,000" in seen.text("#keys .pager")
    rows = seen.rows("keys")
    assert len(rows) == 20 + 2
    assert "9,980 more" in rows
    assert number(rows["Total"][0]) == total == sum(number(cells[0]) for name, cells in rows.items() if name != "Total")
    page.click("#page-next")
    page.get_by_text("21\u201340 of 10,000").wait_for()
    seen.wait()
    assert not set(rows) & set(seen.rows("keys")) - {"9,980 more", "Total"}
    page.fill("#q", "key_0421")
    page.wait_for_url("**q=key_0421**")
    page.locator("#keys tbody tr").nth(10).wait_for(state="detached")
    seen.wait()
    assert {name for name in seen.rows("keys") if name.startswith("key")} == {f"key_{one:05}" for one in range(4210, 4220)}
    page.fill("#q", "")
    page.get_by_text("of 10,000").wait_for()
    seen.open("?page=499")
    assert "9,981\u201310,000 of 10,000" in seen.text("#keys .pager")
    assert seen.page.locator("#page-next").count() == 0
