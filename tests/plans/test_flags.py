"""What is odd about a key, by its days."""

from __future__ import annotations

import random
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usage_middleware.plans.flags import Day, KeyDays, flags

#: A Saturday.
TODAY = date(2026, 11, 21)
MONDAY = date(2026, 11, 16)


def _before(today: date, calls: int, errors: int = 0, days: int = 28) -> dict[date, Day]:
    return {today - timedelta(back): Day(calls, errors) for back in range(1, days + 1)}


def _codes(key: KeyDays) -> list[str]:
    return [flag.code for flag in flags(key)]


def test_ten_times_as_many_calls_are_a_spike_and_say_of_what() -> None:
    found = flags(KeyDays(today=MONDAY, days={**_before(MONDAY, 100), MONDAY: Day(1_000)}))
    assert [(flag.code, flag.value, flag.baseline, flag.since) for flag in found] == [("spike", 1_000, 100, "2026-11-16")]
    assert found[0].message == "1,000 calls today; usual for such a day are 100."


@pytest.mark.parametrize("calls", [19, 100, 160, 299])
def test_what_is_usual_or_small_is_no_spike(calls: int) -> None:
    usual = 100 if calls > 19 else 0
    assert not _codes(KeyDays(today=MONDAY, days={**_before(MONDAY, usual), MONDAY: Day(calls)}))


def test_weekends_are_compared_with_weekends() -> None:
    days = {day: Day(1_000 if day.weekday() < 5 else 10) for day in _before(TODAY, 0)}
    assert _codes(KeyDays(today=TODAY, days={**days, TODAY: Day(1_000)})) == ["spike"]
    assert not _codes(KeyDays(today=MONDAY, days={**days, MONDAY: Day(1_000)}))


def test_a_young_key_has_nothing_to_be_compared_with() -> None:
    key = KeyDays(today=MONDAY, known_since=MONDAY - timedelta(6), days={MONDAY: Day(10_000)})
    assert not _codes(key)


def test_a_burst_of_errors_is_critical() -> None:
    found = flags(KeyDays(today=MONDAY, days={**_before(MONDAY, 200, 2), MONDAY: Day(200, 60)}))
    assert [(flag.code, flag.severity, flag.value) for flag in found] == [("error_burst", "critical", 0.3)]
    assert found[0].message == "30.0% of the calls today failed; in the weeks before, 1.0% did."


@pytest.mark.parametrize(("calls", "errors"), [(99, 99), (200, 19), (200, 29)])
def test_few_calls_few_errors_and_usual_rates_are_no_burst(calls: int, errors: int) -> None:
    assert not _codes(KeyDays(today=MONDAY, days={**_before(MONDAY, 200, 10), MONDAY: Day(calls, errors)}))


@pytest.mark.parametrize(("quiet", "flagged"), [(89, False), (90, True), (400, True)])
def test_a_key_without_calls_for_90_days_is_dormant(quiet: int, flagged: bool) -> None:
    key = KeyDays(today=TODAY, previous_activity=TODAY - timedelta(quiet), known_since=date(2020, 1, 1))
    assert _codes(key) == (["dormant"] if flagged else [])


@pytest.mark.parametrize(("old", "flagged"), [(29, False), (30, True)])
def test_a_key_that_was_never_used_for_30_days_is_dormant(old: int, flagged: bool) -> None:
    assert _codes(KeyDays(today=TODAY, known_since=TODAY - timedelta(old))) == (["dormant"] if flagged else [])


@pytest.mark.parametrize(("quiet", "code"), [(30, []), (31, ["reactivated"]), (100, ["reactivated"])])
def test_a_key_that_is_used_after_a_month_is_back(quiet: int, code: list[str]) -> None:
    key = KeyDays(today=TODAY, previous_activity=TODAY - timedelta(quiet), days={TODAY: Day(1)})
    assert _codes(key) == code


def test_calls_of_another_environment_are_told() -> None:
    key = KeyDays(today=TODAY, environment="production", environments={"production": 5, "staging": 2, "(none)": 9})
    assert [(flag.code, flag.value) for flag in flags(key)] == [("unexpected_environment", 2)]
    assert not _codes(KeyDays(today=TODAY, environments={"staging": 2}))


calls = st.integers(0, 10**6)
days = st.builds(Day, calls, calls)


@settings(deadline=None)
@given(st.dictionaries(st.dates(TODAY - timedelta(40), TODAY), days), st.none() | st.dates(TODAY - timedelta(200), TODAY))
def test_each_finding_rests_on_numbers(found: dict[date, Day], since: date | None) -> None:
    for flag in flags(KeyDays(today=TODAY, days=found, known_since=since)):
        assert flag.value > (flag.baseline or 0) or flag.code == "dormant"
        assert flag.message.endswith(".")


def test_usual_traffic_raises_few_flags_and_tenfold_traffic_is_found() -> None:
    chance = random.Random(1)
    false = sum("spike" in _codes(_synthetic(chance, 1)) for _ in range(2_000))
    tenfold = sum("spike" in _codes(_synthetic(chance, 10)) for _ in range(500))
    hundredfold = sum("spike" in _codes(_synthetic(chance, 100)) for _ in range(500))
    assert false <= 2
    assert tenfold >= 450
    assert hundredfold == 500


def _synthetic(chance: random.Random, times: int) -> KeyDays:
    """A key of 10 to 10,000 calls on a workday, a third on weekends, with days half or twice as busy as others."""
    usual = 10 ** chance.uniform(1, 4)
    week = {at: usual * (1 if at.weekday() < 5 else 0.33) for at in (TODAY - timedelta(back) for back in range(29))}
    found = {at: Day(round(each * chance.lognormvariate(0, 0.3))) for at, each in week.items()}
    return KeyDays(today=TODAY, days={**found, TODAY: Day(found[TODAY].calls * times)})
