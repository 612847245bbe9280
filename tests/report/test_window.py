"""Windows: snapping, caps, and the edge between what is kept and what is gone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.report.world import instant
from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import rfc3339
from usage_middleware.report.window import ALL, CAP, Window, WindowRequest, oldest_kept, resolve

NOW = int(instant("2026-11-20T13:45:20Z"))
SETTINGS = Settings()
BOARDS: Sequence[CounterKind] = ("board", "series")
KEYS: Sequence[CounterKind] = ("key_board", "key")


def at(text: str) -> int:
    return int(instant(text))


def window(request: WindowRequest, kinds: Sequence[CounterKind] = BOARDS, cap: int | None = None) -> Window:
    return resolve(request, NOW, SETTINGS, kinds, cap)


def shown(found: Window) -> tuple[str, str, str]:
    return rfc3339(found.start), rfc3339(found.end), found.resolution.name


@pytest.mark.parametrize(
    ("preset", "kinds", "expected"),
    [
        ("1h", BOARDS, ("2026-11-20T12:45:00Z", "2026-11-20T13:45:20Z", "1m")),
        ("24h", BOARDS, ("2026-11-19T13:30:00Z", "2026-11-20T13:45:20Z", "30m")),
        ("7d", BOARDS, ("2026-11-13T13:30:00Z", "2026-11-20T13:45:20Z", "30m")),
        ("30d", BOARDS, ("2026-10-21T00:00:00Z", "2026-11-20T13:45:20Z", "1d")),
        ("1h", KEYS, ("2026-11-20T12:45:00Z", "2026-11-20T13:45:20Z", "1m")),
        ("24h", KEYS, ("2026-11-19T13:30:00Z", "2026-11-20T13:45:20Z", "30m")),
        ("7d", KEYS, ("2026-11-13T00:00:00Z", "2026-11-20T13:45:20Z", "1d")),
        ("90d", KEYS, ("2026-08-22T00:00:00Z", "2026-11-20T13:45:20Z", "1d")),
        (ALL, KEYS, ("2026-08-12T00:00:00Z", "2026-11-20T13:45:20Z", "1d")),
        (ALL, BOARDS, ("2025-10-16T00:00:00Z", "2026-11-20T13:45:20Z", "1d")),
    ],
)
def test_presets_end_now_and_begin_at_a_slot_that_is_kept(
    preset: str, kinds: Sequence[CounterKind], expected: tuple[str, str, str]
) -> None:
    found = window(WindowRequest(preset), kinds)
    assert shown(found) == expected
    assert found.label == preset


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2026-11-20T12:10:30Z", "2026-11-20T12:20:30Z", ("2026-11-20T12:10:00Z", "2026-11-20T12:21:00Z", "1m")),
        ("2026-11-18T12:10:00Z", "2026-11-18T12:40:00Z", ("2026-11-18T12:00:00Z", "2026-11-18T13:00:00Z", "30m")),
        ("2026-09-18T12:10:00Z", "2026-11-18T12:40:00Z", ("2026-09-18T00:00:00Z", "2026-11-19T00:00:00Z", "1d")),
        ("2026-11-18T12:10:00Z", "2026-11-20T13:40:00Z", ("2026-11-18T12:00:00Z", "2026-11-20T14:00:00Z", "30m")),
        ("2026-11-18T12:10:00Z", "2027-01-01T00:00:00Z", ("2026-11-18T12:00:00Z", "2027-01-01T00:00:00Z", "30m")),
    ],
)
def test_custom_windows_are_snapped_outward(start: str, end: str, expected: tuple[str, str, str]) -> None:
    found = window(WindowRequest("30d", at(start), at(end)))
    assert shown(found) == expected
    assert found.label == "custom"


def test_a_start_alone_reaches_until_now() -> None:
    assert window(WindowRequest("7d", at("2026-11-20T00:00:00Z"))).end == NOW


def test_an_end_alone_has_the_views_period_before_it() -> None:
    assert window(WindowRequest("24h", None, at("2026-11-20T00:00:00Z"))).start == at("2026-11-19T00:00:00Z")


def test_a_cap_moves_the_start_and_then_it_is_snapped() -> None:
    found = window(WindowRequest("30d", at("2026-01-01T00:00:00Z"), at("2026-11-10T12:00:00Z")), cap=CAP)
    assert shown(found)[:2] == ("2026-08-12T00:00:00Z", "2026-11-11T00:00:00Z")


@pytest.mark.parametrize(("start", "end"), [(NOW, NOW), (NOW, NOW - 1), (NOW + 1, None)])
def test_an_end_that_is_not_after_the_start_is_refused(start: int, end: int | None) -> None:
    with pytest.raises(QueryError) as refused:
        window(WindowRequest("30d", start, end))
    assert refused.value.code == "invalid_window"


@pytest.mark.parametrize(("kinds", "rank", "kept"), [(BOARDS, 0, 3 * 3600), (BOARDS, 1, 9 * 86_400), (KEYS, 0, 75 * 60)])
def test_a_slot_is_used_until_the_second_it_expires(kinds: Sequence[CounterKind], rank: int, kept: int) -> None:
    layer = SETTINGS.layers[rank]
    oldest = oldest_kept(layer, NOW, kept)
    assert oldest + layer.seconds + kept > NOW
    assert oldest + kept <= NOW
    assert window(WindowRequest("30d", oldest), kinds).resolution == layer
    assert window(WindowRequest("30d", oldest - 1), kinds).resolution.rank == rank + 1


def test_what_began_before_the_oldest_day_is_refused_and_told_from_when_it_is() -> None:
    oldest = oldest_kept(SETTINGS.layers.day, NOW, 400 * 86_400)
    assert window(WindowRequest("30d", oldest)).start == oldest
    with pytest.raises(QueryError, match=rfc3339(oldest)) as refused:
        window(WindowRequest("30d", oldest - 1))
    assert refused.value.code == "not_retained"
