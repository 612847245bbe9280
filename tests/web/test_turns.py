"""Dear questions compute one at a time, and in turns where they are of several viewers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support import eventually
from usage_middleware import Viewer, gil
from usage_middleware.store import deadline
from usage_middleware.web import turns as module
from usage_middleware.web.budget import DEAR, Budget
from usage_middleware.web.errors import Refused
from usage_middleware.web.turns import Turns

ACME, GLOBEX = Viewer.organization("acme"), Viewer.organization("globex")


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    monkeypatch.setattr(module, "SLICE", 0)
    monkeypatch.setattr(gil, "ANSWER_WORK", 0)
    monkeypatch.setattr(gil, "LONG_REST", 0)
    yield Turns()
    gil.set_pace(None)


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Something in a thread of its own, which has ended afterwards."""
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive()


def waiting(turns: Turns) -> int:
    return sum(map(len, turns._questions.values())) - 1


def test_of_one_viewer_a_question_begins_when_another_has_ended(turns: Turns) -> None:
    done: list[str] = []

    def second() -> None:
        assert turns.begin(ACME, "second", 10)
        done.append("second")
        turns.end(ACME, "second")

    assert turns.begin(ACME, "first", 0)
    with beside(second):
        eventually(lambda: waiting(turns) == 1)
        for _ in range(3):
            gil.rest()
            done.append("first")
        turns.end(ACME, "first")
    assert done == ["first"] * 3 + ["second"]


def test_among_viewers_it_goes_round(turns: Turns) -> None:
    done: list[str] = []

    def work(viewer: Viewer, times: int) -> None:
        for _ in range(times):
            done.append(viewer.org or "")
            gil.rest()
        turns.end(viewer, viewer.org)

    def other() -> None:
        assert turns.begin(GLOBEX, "globex", 10)
        work(GLOBEX, 2)

    assert turns.begin(ACME, "acme", 0)
    with beside(other):
        eventually(lambda: waiting(turns) == 1)
        work(ACME, 4)
    assert done == ["acme", "globex", "acme", "globex", "acme", "acme"]


def test_who_has_the_turn_need_not_wait_for_it(turns: Turns) -> None:
    assert turns.begin(ACME, "one", 0)
    assert turns.begin(ACME, "one", 0)
    turns.end(ACME, "one")
    turns.end(ACME, "one")
    assert (list(turns._line), turns._questions) == ([], {})


def test_who_waited_for_too_long_stands_in_the_line_no_longer(turns: Turns) -> None:
    assert turns.begin(ACME, "one", 0)
    assert not turns.begin(ACME, "two", 0)
    assert not turns.begin(GLOBEX, "three", 0)
    gil.set_pace(gil.Pace(lambda: turns._pass_on(ACME, "one")))
    turns.end(ACME, "one")
    assert (list(turns._line), turns._questions) == ([], {})


def test_a_question_whose_time_is_over_does_not_wait_for_others(turns: Turns) -> None:
    found: list[str] = []

    def other() -> None:
        assert turns.begin(GLOBEX, "globex", 10)
        eventually(lambda: bool(found))
        turns.end(GLOBEX, "globex")

    assert turns.begin(ACME, "acme", 0)
    with beside(other), deadline.within(0.01):
        eventually(lambda: waiting(turns) == 1)
        with pytest.raises(TimeoutError, match="other questions"):
            turns._pass_on(ACME, "acme")
        found.append("over")
    assert ACME not in turns._questions


def test_only_dear_questions_take_turns() -> None:
    budget = Budget()
    with budget.question(ACME) as dear, budget.question(GLOBEX) as cheap, deadline.within(0.05):
        dear.charge(DEAR + 1)
        cheap.charge(DEAR)
        with pytest.raises(Refused) as refused:
            cheap.charge(1)
    assert (refused.value.code, refused.value.headers) == ("rate_limited", {"Retry-After": "1"})
    with budget.question(GLOBEX) as next_one:
        next_one.charge(DEAR + 1)
    assert budget._turns._questions == {}
