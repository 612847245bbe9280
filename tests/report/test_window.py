"""Windows: named periods, edges that are moved or refused, caps, the window before, and the edge of what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.world import instant
from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import DAY, HOUR, MINUTE, cover, rfc3339
from usage_middleware.report.kept import Gap, Kept, oldest_kept
from usage_middleware.report.named_periods import ALL, Edges
from usage_middleware.report.window import CAP, Align, Window, WindowRequest, previous, resolve

NOW = instant("2026-11-20T13:45:20Z")
SETTINGS = Settings(history=False)
ORG: Sequence[CounterKind] = ("series",)
KEY: Sequence[CounterKind] = ("key",)
NEW_YORK = "America/New_York"


def at(text: str) -> int:
    return int(instant(text))


def window(request: WindowRequest, kinds: Sequence[CounterKind] = ORG, cap: int | None = None) -> Window:
    return resolve(request, NOW, SETTINGS, kinds, cap)


def custom(start: str, end: str | None = None, align: Align = "outward") -> WindowRequest:
    return WindowRequest("30d", at(start), None if end is None else at(end), "UTC", align)


def shown(found: Window) -> tuple[str, str, str]:
    return rfc3339(found.start)[:16], rfc3339(found.end)[:16], found.resolution.name


def asked(found: Window) -> tuple[str, str] | None:
    return found.requested and (rfc3339(found.requested.start), rfc3339(found.requested.end))


@pytest.mark.parametrize("kinds", [ORG, KEY], ids=["organisation", "key"])
@pytest.mark.parametrize(
    ("preset", "start", "resolution"),
    [
        ("1h", "2026-11-20T12:45", "1m"),
        ("24h", "2026-11-19T13:30", "30m"),
        ("7d", "2026-11-13T00:00", "1d"),
        ("30d", "2026-10-21T00:00", "1d"),
        ("90d", "2026-08-22T00:00", "1d"),
        ("1y", "2025-11-20T00:00", "1d"),
        ("month_to_date", "2026-11-01T00:00", "1d"),
        (ALL, "2025-10-16T00:00", "1d"),
    ],
)
def test_a_named_period_is_one_window_whoever_looks(
    kinds: Sequence[CounterKind], preset: str, start: str, resolution: str
) -> None:
    found = window(WindowRequest(preset), kinds)
    assert shown(found) == (start, "2026-11-20T13:45", resolution)
    assert (found.label, found.requested, found.report().end) == (preset, None, "2026-11-20T13:45:20Z")


def test_last_month_is_the_whole_month_before_this_one() -> None:
    assert shown(window(WindowRequest("last_month"))) == ("2026-10-01T00:00", "2026-11-01T00:00", "1d")
    assert shown(window(WindowRequest("last_month", timezone=NEW_YORK)))[:2] == ("2026-10-01T04:00", "2026-11-01T04:00")


@pytest.mark.parametrize(
    ("preset", "start"),
    [
        ("7d", "2026-11-13T05:00"),
        ("30d", "2026-10-21T04:00"),
        ("90d", "2026-08-22T04:00"),
        ("month_to_date", "2026-11-01T04:00"),
    ],
)
def test_periods_begin_at_the_midnight_of_the_zone(preset: str, start: str) -> None:
    found = window(WindowRequest(preset, timezone=NEW_YORK))
    assert (shown(found)[0], found.requested) == (start, None)


def test_a_named_period_whose_edge_is_gone_is_moved_and_says_so() -> None:
    found = window(WindowRequest("90d", timezone=NEW_YORK), KEY)
    assert shown(found)[0] == "2026-08-22T00:00"
    assert asked(found) == ("2026-08-22T04:00:00Z", "2026-11-20T13:45:20Z")
    with pytest.raises(QueryError) as refused:
        window(WindowRequest("90d", timezone=NEW_YORK, align="exact"), KEY)
    assert refused.value.code == "not_retained"


def test_a_period_may_end_before_now() -> None:
    found = window(WindowRequest("7d", end=at("2026-11-05T12:00Z")))
    assert shown(found) == ("2026-10-29T00:00", "2026-11-05T12:00", "30m")
    assert found.label == "custom"


def test_nothing_lies_in_the_future() -> None:
    found = resolve(WindowRequest("24h"), NOW + 0.25, SETTINGS, ORG)
    assert found.report().end == "2026-11-20T13:45:20.250Z"
    assert resolve(custom("2026-11-20T13:00Z", "2026-11-20T13:45:18Z"), NOW, SETTINGS, ORG).report().end == rfc3339(NOW)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-11-20T12:10:00Z", "2026-11-20T12:20:00Z"),
        ("2026-11-18T20:07:00Z", "2026-11-18T21:13:00Z"),
        ("2026-10-31T10:00:00Z", "2026-10-31T11:00:00Z"),
        ("2026-08-20T10:00:00Z", "2026-08-20T11:30:00Z"),
        ("2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z"),
        ("2026-11-18T12:30:00Z", "2027-01-01T00:00:00Z"),
    ],
)
@pytest.mark.parametrize("align", ["outward", "exact"])
def test_edges_that_are_kept_stay(start: str, end: str, align: Align) -> None:
    found = window(custom(start, end, align))
    assert (found.start, found.end, found.requested) == (at(start), at(end), None)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2026-11-01T10:07:00Z", "2026-11-01T20:00:00Z", ("2026-11-01T10:00", "2026-11-01T20:00", "30m")),
        ("2025-11-01T10:00:00Z", "2025-11-20T10:00:00Z", ("2025-11-01T00:00", "2025-11-21T00:00", "1d")),
        # With seconds it is a program's now less something: it moves as far as a tenth.
        ("2026-10-21T13:45:20Z", None, ("2026-10-21T00:00", "2026-11-20T13:45", "1d")),
        ("2026-11-19T13:45:20Z", None, ("2026-11-19T13:30", "2026-11-20T13:45", "30m")),
        ("2026-11-20T12:45:20Z", None, ("2026-11-20T12:45", "2026-11-20T13:45", "1m")),
    ],
)
def test_edges_that_are_gone_are_moved_outward_by_at_most_a_tenth(
    start: str, end: str | None, expected: tuple[str, ...]
) -> None:
    found = window(custom(start, end))
    assert shown(found) == expected
    assert asked(found) == (start, end or "2026-11-20T13:45:20Z")


def test_an_edge_with_seconds_may_always_move_to_its_minute() -> None:
    found = window(custom("2026-11-20T12:10:30Z", "2026-11-20T12:11:10Z", "exact"))
    assert shown(found) == ("2026-11-20T12:10", "2026-11-20T12:12", "1m")
    assert asked(found) == ("2026-11-20T12:10:30Z", "2026-11-20T12:11:10Z")


@pytest.mark.parametrize("align", ["outward", "exact"])
def test_what_would_move_further_is_refused_with_the_nearest_windows(align: Align) -> None:
    with pytest.raises(QueryError) as refused:
        window(custom("2026-10-31T10:07:00Z", "2026-10-31T11:13:00Z", align))
    assert refused.value.nearest == [
        ("2026-10-31T10:30:00Z", "2026-10-31T11:00:00Z"),
        ("2026-10-31T10:00:00Z", "2026-10-31T11:30:00Z"),
    ]
    for start, end in refused.value.nearest:
        assert window(custom(start, end, "exact")).requested is None


def test_what_began_before_everything_is_refused_with_what_is_left() -> None:
    oldest = rfc3339(oldest_kept(SETTINGS.layers.day, int(NOW), 800 * DAY))
    with pytest.raises(QueryError, match=oldest) as refused:
        window(custom("2001-01-01T00:00:00Z", "2026-01-01T00:00:00Z"))
    assert refused.value.nearest == [(oldest, "2026-01-01T00:00:00Z")]
    with pytest.raises(QueryError) as gone:
        window(custom("2001-01-01T00:00:00Z", "2002-01-01T00:00:00Z"))
    assert gone.value.nearest == []


def test_a_cap_says_what_was_asked_and_leaves_the_future_out() -> None:
    found = window(custom("2026-01-01T00:00:00Z", "2026-11-10T00:00:00Z"), cap=CAP)
    assert shown(found)[:2] == ("2026-08-12T00:00", "2026-11-10T00:00")
    assert asked(found) == ("2026-01-01T00:00:00Z", "2026-11-10T00:00:00Z")
    assert shown(window(custom("2026-09-01T00:00:00Z", "2026-12-31T00:00:00Z"), cap=CAP))[0] == "2026-09-01T00:00"


@pytest.mark.parametrize(
    ("start", "end"),
    [("2026-11-20T13:45:20Z", "2026-11-20T13:45:20Z"), ("2026-11-20T13:45Z", "2026-11-19T13:45Z"), ("2026-11-20T14:00Z", None)],
)
def test_an_end_that_is_not_after_the_start_is_refused(start: str, end: str | None) -> None:
    with pytest.raises(QueryError) as refused:
        window(custom(start, end))
    assert refused.value.code == "invalid_window"


@pytest.mark.parametrize(
    ("request_", "start", "end"),
    [
        (WindowRequest("1h"), "2026-11-20T11:44", "2026-11-20T12:45"),
        (WindowRequest("24h"), "2026-11-18T13:00", "2026-11-19T13:16"),
        (WindowRequest("7d"), "2026-11-05T00:00", "2026-11-12T14:00"),
        (WindowRequest("30d"), "2026-09-20T00:00", "2026-10-20T14:00"),
        (WindowRequest("7d", timezone=NEW_YORK), "2026-11-05T05:00", "2026-11-12T14:00"),
        (WindowRequest("30d", timezone=NEW_YORK), "2026-09-20T04:00", "2026-10-20T13:00"),
        (WindowRequest("month_to_date"), "2026-10-01T00:00", "2026-10-20T14:00"),
        (WindowRequest("last_month"), "2026-09-01T00:00", "2026-10-01T00:00"),
        (custom("2026-11-10T06:00:00Z", "2026-11-11T18:00:00Z"), "2026-11-08T18:00", "2026-11-10T06:00"),
    ],
)
def test_the_window_before(request_: WindowRequest, start: str, end: str) -> None:
    found = previous(window(request_), SETTINGS, ORG)
    assert isinstance(found, Window)
    assert shown(found)[:2] == (start, end)


def test_a_month_to_date_is_compared_with_the_month_before_clamped() -> None:
    now = instant("2027-03-31T12:00:00Z")
    found = previous(resolve(WindowRequest("month_to_date"), now, SETTINGS, ORG), SETTINGS, ORG)
    assert isinstance(found, Window)
    assert shown(found)[:2] == ("2027-02-01T00:00", "2027-02-28T12:00")


def test_a_window_before_that_is_gone_says_since_when_it_is_kept() -> None:
    assert isinstance(previous(window(WindowRequest(ALL)), SETTINGS, KEY), Gap)


@pytest.mark.parametrize(("kinds", "rank", "kept"), [(ORG, 0, 48 * HOUR), (ORG, 1, 100 * DAY), (KEY, 0, 3 * HOUR)])
def test_a_slot_is_used_until_the_second_it_expires(kinds: Sequence[CounterKind], rank: int, kept: int) -> None:
    layer = SETTINGS.layers[rank]
    oldest = oldest_kept(layer, int(NOW), kept)
    assert oldest + layer.seconds + kept > NOW
    assert oldest + kept <= NOW
    there = Kept(SETTINGS, kinds, int(NOW))
    wider = SETTINGS.layers[rank + 1]
    first = oldest if oldest % wider.seconds else oldest + layer.seconds
    assert there.gap(Edges(first, wider.ceil(first))) is None
    gone = oldest - layer.seconds
    if gone % wider.seconds:
        assert there.gap(Edges(gone, wider.ceil(gone))) == Gap(layer, oldest)


minutes = st.one_of(st.integers(0, 300), st.integers(0, 4_000), st.integers(0, 820 * 1440)).map(lambda age: age * MINUTE)


@given(st.integers(0, 86_400), minutes, minutes, st.sampled_from([1, 30, 1440]), st.sampled_from([ORG, KEY, ("board",)]))
def test_a_gap_is_what_the_cover_lacks(late: int, age: int, length: int, step: int, kinds: Sequence[CounterKind]) -> None:
    now = int(NOW) + late
    start = (now - age) // (step * MINUTE) * step * MINUTE
    end = start + max(MINUTE, length // (step * MINUTE) * step * MINUTE)
    there = Kept(SETTINGS, kinds, now)
    slots = cover(start, end, now=now, layers=SETTINGS.layers)
    assert (there.gap(Edges(start, end)) is None) == all(slot.start >= there.oldest(slot.resolution) for slot in slots)
