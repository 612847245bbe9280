"""`final`: true once nothing will be added to a window in the ordinary course, in every view alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import START, Clock, eventually, record_call
from usage_middleware import Usage, Viewer
from usage_middleware.report.reports import VIEWS

MakeUsage = Callable[..., Usage]
HOUR, DAY = 3600, 86_400
#: 13:30, before the clock begins.
SLOT = int(START) // 1800 * 1800


def finals(usage: Usage, start: int, end: int, viewer: Viewer | None = None) -> set[bool]:
    """What the views say."""
    return {usage.reader.report(view, viewer or Viewer.organization("acme"), start=start, end=end).final for view in VIEWS}


def test_every_worker_that_began_before_its_end_has_to_deliver(make_usage: MakeUsage, clock: Clock) -> None:
    one, two = make_usage(flush_interval=1e6), make_usage(flush_interval=1e6)
    for usage in (one, two):
        record_call(usage.recorder)
        assert usage.flush()
    clock.advance(HOUR)
    assert finals(one, SLOT - HOUR, SLOT) == {True}
    assert finals(one, SLOT, SLOT + 1800) == {False}
    assert one.flush()
    assert finals(one, SLOT, SLOT + 1800) == {False}
    assert two.flush()
    assert finals(one, SLOT, SLOT + 1800) == {True}
    assert finals(one, SLOT, SLOT + 1800, Viewer.key("acme", "key_7")) == {True}


def test_a_window_that_ends_now_is_not_final(make_usage: MakeUsage, clock: Clock) -> None:
    usage = make_usage()
    assert finals(usage, SLOT - 1800, int(START)) == {False}
    assert not usage.reader.summary(period="24h").final
    assert not usage.reader.endpoints().final
    assert usage.reader.summary(period="last_month").final
    clock.advance(1)
    assert finals(usage, SLOT - 1800, SLOT) == {True}


def test_a_worker_that_ended_and_left_nothing_is_not_waited_for(make_usage: MakeUsage, clock: Clock) -> None:
    usage = make_usage()
    record_call(usage.recorder)
    usage.close()
    clock.advance(HOUR)
    assert finals(usage, SLOT, SLOT + 1800) == {True}


def test_a_worker_that_was_killed_is_waited_for(make_usage: MakeUsage, clock: Clock) -> None:
    usage = make_usage(flush_interval=1e6)
    record_call(usage.recorder)
    assert usage.flush()
    reader = make_usage()
    for days in (1, 6):
        clock.set(START + days * DAY)
        assert finals(reader, SLOT, SLOT + 1800) == {False}
    clock.set(START + 8 * DAY)
    assert finals(reader, SLOT, SLOT + 1800) == {True}


def test_it_is_asked_before_the_counters_are_read(make_usage: MakeUsage, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that are delivered while an answer is built may be missing in it: it must not be called final."""
    usage = make_usage(flush_interval=1e6)
    record_call(usage.recorder)
    clock.advance(HOUR)
    reader: Any = usage.reader._reader
    open_batch = reader.batch

    def batch(*arguments: Any) -> Any:
        found = open_batch(*arguments)
        assert usage.flush()
        return found

    monkeypatch.setattr(reader, "batch", batch)
    eventually(lambda: usage.engine.client.exists(usage.reader.schema.owing))
    first = usage.reader.summary(org="acme", start=SLOT, end=SLOT + 1800)
    assert not first.final
    second = usage.reader.summary(org="acme", start=SLOT, end=SLOT + 1800)
    assert (second.total_calls, second.final) == (1, True)
