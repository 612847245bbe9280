"""What the interpreter is told while answers are made, and that it is as before afterwards."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from usage_middleware.interpreter import LONGEST, TURN, YOUNG, WhileInside, few_collections, short_turns


class Case(NamedTuple):
    """A setting: how Python reads and writes it, what Python's own is, what it is inside, and some others."""

    setting: WhileInside[Any]
    get: Callable[[], Any]
    put: Callable[[Any], object]
    own: Any
    inside: Any
    others: tuple[Any, ...]


class Circle:
    """What only the garbage collector frees."""

    itself: Circle


CASES = [
    Case(short_turns, sys.getswitchinterval, sys.setswitchinterval, 0.005, TURN / 1e6, (0.002, 0.00005)),
    Case(
        few_collections,
        gc.get_threshold,
        lambda thresholds: gc.set_threshold(*thresholds),
        (700, 10, 10),
        (YOUNG, 10, 10),
        ((YOUNG * 2, 5, 5), (0, 10, 10)),
    ),
]


@pytest.fixture(params=CASES, ids=["turns", "collections"])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    one: Case = request.param
    before = one.get()
    one.put(one.own)
    yield one
    one.put(before)


def test_it_is_ours_while_anybody_is_inside(case: Case) -> None:
    with case.setting:
        assert case.get() == pytest.approx(case.inside)
        with case.setting:
            pass
        assert case.get() == pytest.approx(case.inside)
    assert case.get() == pytest.approx(case.own)


def test_what_somebody_else_says_meanwhile_holds(case: Case) -> None:
    for other in case.others:
        case.put(case.own)
        with case.setting:
            case.put(other)
            with case.setting.suspended():
                assert case.get() == pytest.approx(other)
        assert case.get() == pytest.approx(other)


def test_shorter_turns_fewer_collections_and_none_at_all_stay_so(case: Case) -> None:
    case.put(case.others[1])
    with case.setting:
        assert case.get() == pytest.approx(case.others[1])
    assert case.get() == pytest.approx(case.others[1])


def test_who_saves_it_inside_and_puts_it_back_later_does_not_keep_it(case: Case) -> None:
    with case.setting:
        saved = case.get()
        case.put(case.own)
    case.put(saved)
    for _ in range(2):
        with case.setting:
            assert case.get() == pytest.approx(case.inside)
        assert case.get() == pytest.approx(case.own)


def test_what_the_application_leaves_in_circles_is_freed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("usage_middleware.interpreter.monotonic", lambda: now)

    def leave() -> weakref.ref[Circle]:
        circle = Circle()
        circle.itself = circle
        return weakref.ref(circle)

    with few_collections:
        left = leave()
        now = LONGEST - 0.1
        few_collections.look()
        assert left() is not None
        now = LONGEST
        few_collections.look()
        assert left() is None
        gc.disable()
        try:
            left = leave()
            now = 3 * LONGEST
            few_collections.look()
            assert left() is not None
        finally:
            gc.enable()


def test_more_than_ours_stays_so() -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(YOUNG * 2, 7, 3)
        with few_collections:
            assert gc.get_threshold() == (YOUNG * 2, 7, 3)
    finally:
        gc.set_threshold(*before)


def test_suspended_it_is_as_before(case: Case) -> None:
    with case.setting.suspended():
        assert case.get() == pytest.approx(case.own)
    with case.setting:
        with case.setting.suspended():
            assert case.get() == pytest.approx(case.own)
        assert case.get() == pytest.approx(case.inside)
    assert case.get() == pytest.approx(case.own)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_in_a_child_of_a_fork_it_is_as_before(case: Case) -> None:
    with case.setting:
        pid = os.fork()
        if pid == 0:
            found = case.get() == pytest.approx(case.own)
            case.setting.__exit__()
            with case.setting:
                found = found and case.get() == pytest.approx(case.inside)
            os._exit(not (found and case.get() == pytest.approx(case.own)))
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_turns_of_odd_lengths_stay_as_they_are() -> None:
    own = sys.getswitchinterval()
    for microseconds in range(300, 400):
        sys.setswitchinterval((microseconds + 0.5) / 1e6)
        before = sys.getswitchinterval()
        for _ in range(3):
            with short_turns:
                pass
        assert sys.getswitchinterval() == before
    sys.setswitchinterval(own)
