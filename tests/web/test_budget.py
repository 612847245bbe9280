"""The questions of a viewer that run at once may cost so much together; the rest waits, and then is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support import eventually
from usage_middleware import Viewer
from usage_middleware.store import deadline
from usage_middleware.web import budget as module
from usage_middleware.web.budget import ALWAYS, MOST_IN_ALL, MOST_OF_A_VIEWER, MOST_WAITING, SECONDS_A_COMMAND, Budget
from usage_middleware.web.errors import Refused
from usage_middleware.web.turns import Turns

ACME, GLOBEX = Viewer.organization("acme"), Viewer.organization("globex")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 0.05)
    # What they may cost is one thing, who computes is another: see test_turns.py.
    monkeypatch.setattr(Turns, "begin", lambda *_: True)


@contextmanager
def in_thread(budget: Budget, viewer: Viewer, cost: int, ended: list[object]) -> Iterator[None]:
    """A question in a thread of its own; what came of it is in `ended`."""

    def ask() -> None:
        try:
            with budget.question(viewer) as question:
                question.charge(cost)
            ended.append(cost)
        except Refused as error:
            ended.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)


def test_the_one_that_runs_longest_never_waits() -> None:
    budget = Budget()
    with budget.question(ACME) as first, budget.question(ACME) as second:
        first.charge(10 * MOST_OF_A_VIEWER)
        first.charge(10 * MOST_IN_ALL)
        with pytest.raises(Refused) as refused:
            second.charge(1)
    assert (refused.value.code, refused.value.headers) == ("rate_limited", {"Retry-After": "1"})


def test_what_fits_runs_at_once() -> None:
    budget = Budget()
    with ExitStack() as stack:
        questions = [stack.enter_context(budget.question(ACME)) for _ in range(8)]
        for question in questions:
            question.charge(MOST_OF_A_VIEWER // 8)
        with pytest.raises(Refused):
            questions[-1].charge(1)
    with budget.question(ACME), budget.question(ACME) as later:
        later.charge(MOST_OF_A_VIEWER)


def test_a_question_waits_until_another_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 20)
    budget, ended = Budget(), list[object]()
    with ExitStack() as waiting, budget.question(ACME) as first:
        first.charge(MOST_OF_A_VIEWER)
        waiting.enter_context(in_thread(budget, ACME, 7, ended))
        eventually(lambda: any(one.waits for one in budget._running))
        assert ended == []
    assert ended == [7]
    assert budget._running == []


def test_other_viewers_do_not_wait_for_it() -> None:
    budget = Budget()
    with budget.question(ACME) as first, budget.question(GLOBEX) as other:
        first.charge(MOST_OF_A_VIEWER)
        other.charge(MOST_OF_A_VIEWER)


def test_all_viewers_together_have_a_bound() -> None:
    budget = Budget()
    viewers = [Viewer.organization(f"org {number}") for number in range(5)]
    with ExitStack() as stack:
        questions = [stack.enter_context(budget.question(viewer)) for viewer in viewers]
        for question in questions[: MOST_IN_ALL // MOST_OF_A_VIEWER]:
            question.charge(MOST_OF_A_VIEWER)
        with pytest.raises(Refused):
            questions[-1].charge(ALWAYS + 1)


def test_who_asks_little_waits_for_nobody_else() -> None:
    """Whoever has several organisations could otherwise take the room of all others."""
    budget = Budget()
    greedy = [Viewer.organization(f"org {number}") for number in range(MOST_IN_ALL // MOST_OF_A_VIEWER)]
    with ExitStack() as stack:
        for viewer in greedy:
            stack.enter_context(budget.question(viewer)).charge(MOST_OF_A_VIEWER)
        one, another = (stack.enter_context(budget.question(ACME)) for _ in range(2))
        one.charge(ALWAYS - 1)
        another.charge(1)
        with pytest.raises(Refused):
            one.charge(1)


def test_a_question_waits_so_long_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 20)
    budget, ended = Budget(), list[object]()
    with budget.question(ACME) as first, ExitStack() as waiting:
        with budget.question(GLOBEX) as other:
            first.charge(MOST_OF_A_VIEWER)
            other.charge(MOST_OF_A_VIEWER)
            waiting.enter_context(in_thread(budget, Viewer.organization("third"), ALWAYS + 1, ended))
            eventually(lambda: any(one.waits for one in budget._running))
            (third,) = (one for one in budget._running if one.waits)
        eventually(lambda: ended == [ALWAYS + 1])
    assert 0 < third.patience < 20


def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 20)
    budget, ended = Budget(), list[object]()
    with ExitStack() as waiting, budget.question(ACME) as first:
        first.charge(MOST_OF_A_VIEWER)
        for _ in range(MOST_WAITING):
            waiting.enter_context(in_thread(budget, ACME, 1, ended))
        eventually(lambda: sum(one.waits for one in budget._running) == MOST_WAITING)
        with budget.question(ACME) as too_many, pytest.raises(Refused):
            too_many.charge(1)
    assert ended == [1] * MOST_WAITING


def test_a_question_that_could_not_be_read_in_time_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 20)
    budget = Budget()
    with deadline.within(20), budget.question(ACME) as first, budget.question(ACME) as second:
        first.charge(MOST_OF_A_VIEWER)
        with pytest.raises(Refused):
            second.charge(int(21 / SECONDS_A_COMMAND))
        assert second.patience > 19


def test_nothing_is_begun_when_the_time_is_over() -> None:
    with deadline.within(0), Budget().question(ACME) as question, pytest.raises(TimeoutError):
        question.charge(1)


def test_a_child_of_a_fork_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget()
    budget._changed.acquire()
    monkeypatch.setattr(module, "getpid", lambda: -1)
    with budget.question(ACME) as question:
        question.charge(5)
    assert budget._running == []
