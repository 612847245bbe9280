"""Questions compute one at a time, and in turns where they are of several viewers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.support import eventually
from usage_middleware import Plan, Quota, Usage, Viewer, gil
from usage_middleware.errors import QueryError
from usage_middleware.store import deadline, own_keys
from usage_middleware.web import budget as budget_module
from usage_middleware.web import turns as module
from usage_middleware.web.budget import Budget
from usage_middleware.web.errors import Refused
from usage_middleware.web.turns import Turns

ACME, GLOBEX = Viewer.organization("acme"), Viewer.organization("globex")


class Computing:
    """A question of a viewer that is never late."""

    def __init__(self, viewer: Viewer, name: str = "") -> None:
        self.viewer = viewer
        self.name = name or str(viewer.org)
        self.waited = 0.0

    def is_late(self) -> bool:
        return False


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


def standing(turns: Turns) -> int:
    return turns.count(ACME) + turns.count(GLOBEX)


def is_empty(turns: Turns) -> bool:
    return (list(turns._line), turns._questions, turns._away, turns._computing) == ([], {}, set(), None)


def compute_until(over: threading.Event, turns: Turns, question: Computing) -> None:
    assert turns.begin(question, 10)
    assert over.wait(10)
    turns.end(question)


def test_of_one_viewer_a_question_begins_when_another_has_ended(turns: Turns) -> None:
    done: list[str] = []
    first, second = Computing(ACME, "first"), Computing(ACME, "second")

    def after_it() -> None:
        assert turns.begin(second, 10)
        done.append("second")
        turns.end(second)

    assert turns.begin(first, 0)
    with beside(after_it):
        eventually(lambda: standing(turns) == 2)
        for _ in range(3):
            gil.rest()
            done.append("first")
        turns.end(first)
    assert done == ["first"] * 3 + ["second"]
    assert second.waited > 0
    assert is_empty(turns)


def test_among_viewers_it_goes_round(turns: Turns) -> None:
    done: list[str] = []

    def work(question: Computing, times: int) -> None:
        for _ in range(times):
            done.append(question.name)
            gil.rest()
        turns.end(question)

    def other() -> None:
        question = Computing(GLOBEX)
        assert turns.begin(question, 10)
        work(question, 2)

    acme = Computing(ACME)
    assert turns.begin(acme, 0)
    with beside(other):
        eventually(lambda: standing(turns) == 2)
        work(acme, 4)
    assert done == ["acme", "globex", "acme", "globex", "acme", "acme"]


def test_while_a_question_waits_for_redis_another_computes(turns: Turns) -> None:
    """And leaves the turn to it where it next rests, once Redis has answered."""
    done: list[str] = []
    answered = threading.Event()
    first, second = Computing(ACME, "first"), Computing(ACME, "second")

    def meanwhile() -> None:
        assert turns.begin(second, 10)
        done.append("second")
        answered.set()
        eventually(lambda: first not in turns._away)
        gil.rest()
        done.append("second")
        turns.end(second)

    assert turns.begin(first, 0)
    with beside(meanwhile):
        gil.asleep()
        assert answered.wait(10)
        gil.awake()
        done.append("first")
        turns.end(first)
    assert done == ["second", "first", "second"]
    assert is_empty(turns)


def test_a_lock_is_waited_for_without_the_turn(turns: Turns) -> None:
    """Whoever has it may want to compute before it lets go of it."""
    lock = threading.Lock()
    first, second = Computing(ACME, "first"), Computing(ACME, "second")

    def holding() -> None:
        with lock:
            assert turns.begin(second, 10)
            turns.end(second)

    assert turns.begin(first, 0)
    with beside(holding):
        eventually(lambda: standing(turns) == 2)
        with deadline.within(10), deadline.held(lock):
            pass
        turns.end(first)
    assert is_empty(turns)


def test_the_turn_may_not_come_back_in_time(turns: Turns) -> None:
    first, second, over = Computing(ACME, "first"), Computing(ACME, "second"), threading.Event()

    assert turns.begin(first, 0)
    with beside(partial(compute_until, over, turns, second)), deadline.within(0.01):
        gil.asleep()
        eventually(lambda: turns._computing is second)
        gil.awake()
        over.set()
        assert not gil.has_pace()
        with pytest.raises(TimeoutError):
            deadline.check()
    turns.end(first)
    assert is_empty(turns)


def test_viewers_take_turns_while_one_of_them_waits_for_redis(turns: Turns) -> None:
    """Whoever stands before the others in the line may be away for long."""
    acme, globex, third = Computing(ACME), Computing(GLOBEX), Computing(Viewer.organization("third"))

    def other() -> None:
        assert turns.begin(third, 10)
        turns.end(third)

    assert turns.begin(acme, 0)
    turns.go_away(acme)
    assert turns.begin(globex, 0)
    with beside(other):
        eventually(lambda: third in turns._waiting)
        turns.pass_on(globex)
        assert third.waited > 0
        assert turns._computing is globex
        turns.end(globex)
        eventually(lambda: not turns.count(third.viewer))
    turns.end(acme)
    assert is_empty(turns)


def ended(turns: Turns, question: Computing) -> None:
    turns.end(question)


def away(turns: Turns, question: Computing) -> None:
    turns.go_away(question)


@pytest.mark.parametrize("stops", [ended, away])
def test_many_short_questions_of_a_viewer_get_no_more_than_a_long_one(
    turns: Turns, stops: Callable[[Turns, Computing], None]
) -> None:
    """None of them computes for so long that it would leave its turn to others."""
    done: list[str] = []
    first, second = Computing(ACME, "first"), Computing(ACME, "second")

    def work(question: Computing) -> None:
        assert turns.begin(question, 10)
        done.append(question.name)
        turns.end(question)

    assert turns.begin(first, 0)
    with beside(lambda: work(second)):
        eventually(lambda: second in turns._waiting)
        with beside(lambda: work(Computing(GLOBEX))):
            eventually(lambda: len(turns._waiting) == 2)
            stops(turns, first)
    turns.end(first)
    assert done == ["globex", "second"]
    assert is_empty(turns)


def test_a_question_has_a_whole_slice_after_it_has_waited_for_its_turn(turns: Turns) -> None:
    one, two = Computing(ACME), Computing(GLOBEX)
    two_computes = threading.Event()

    def other() -> None:
        assert turns.begin(two, 10)
        two_computes.set()
        eventually(lambda: one in turns._waiting)
        turns.end(two)

    assert turns.begin(one, 0)
    with beside(other):
        gil.asleep()
        assert two_computes.wait(10)
        gil.awake()
    pace = gil._this_thread.pace
    assert pace._begun >= turns._since
    assert pace.since >= pace._begun
    turns.end(one)


class Interrupted(BaseException):
    """As `KeyboardInterrupt`, and the time limits of gevent."""


@pytest.mark.parametrize("has_begun", [False, True])
def test_who_is_interrupted_while_it_waits_stands_in_the_line_no_longer(
    turns: Turns, monkeypatch: pytest.MonkeyPatch, has_begun: bool
) -> None:
    def interrupted(*_: object) -> bool:
        raise Interrupted

    acme, globex = Computing(ACME), Computing(GLOBEX)
    if has_begun:
        assert turns.begin(acme, 0)
        turns.go_away(acme)
    assert turns.begin(globex, 0)
    wait = partial(turns.come_back, acme) if has_begun else partial(turns.begin, acme, 10)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Condition, "wait_for", interrupted)
        with pytest.raises(Interrupted):
            wait()
    assert not gil.has_pace()
    turns.end(acme)
    turns.end(globex)
    assert is_empty(turns)
    assert not turns._waiting


def test_who_waited_for_too_long_stands_in_the_line_no_longer(turns: Turns) -> None:
    one = Computing(ACME)
    assert turns.begin(one, 0)
    assert not turns.begin(Computing(ACME), 0)
    assert not turns.begin(Computing(GLOBEX), 0)
    assert standing(turns) == 1
    turns.end(one)
    turns.end(one)
    assert is_empty(turns)


def test_a_question_whose_time_is_over_does_not_wait_for_others(turns: Turns) -> None:
    over = threading.Event()

    acme = Computing(ACME)
    assert turns.begin(acme, 0)
    with beside(partial(compute_until, over, turns, Computing(GLOBEX))), deadline.within(0.01):
        eventually(lambda: standing(turns) == 2)
        with pytest.raises(TimeoutError, match="other questions"):
            turns.pass_on(acme)
        over.set()
    assert is_empty(turns)


def test_every_question_takes_its_turn_from_the_beginning() -> None:
    """Before it reads anything it may have much to work out."""
    budget = Budget()
    with budget.question(ACME), deadline.within(0.05), pytest.raises(Refused) as refused, budget.question(GLOBEX):
        pass
    assert (refused.value.code, refused.value.headers) == ("rate_limited", {"Retry-After": "1"})
    with budget.question(GLOBEX) as next_one:
        next_one.charge(1)
    assert is_empty(budget._turns)


def test_only_so_many_questions_of_a_viewer_have_threads_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "MOST_AT_ONCE", 1)
    budget = Budget()
    with budget.question(ACME), pytest.raises(Refused), budget.question(ACME):
        pass
    with budget.question(ACME):
        pass


def ask_too_late(waited: float, then: Callable[[], object] = deadline.check) -> None:
    with deadline.within(0), Budget().question(ACME) as question:
        question.waited = waited
        then()


def test_a_question_that_others_kept_waiting_is_not_the_fault_of_redis() -> None:
    with pytest.raises(Refused) as refused:
        ask_too_late(budget_module.WAITED + 1)
    assert refused.value.code == "rate_limited"
    with pytest.raises(TimeoutError):
        ask_too_late(0)


@pytest.mark.parametrize("error", [KeyError("a mistake"), QueryError("window_too_wide", ""), ConnectionRefusedError()])
def test_what_else_went_wrong_is_told_however_late(error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as found:
        ask_too_late(budget_module.WAITED + 1, fail)
    assert found.value is error


def test_what_there_was_time_for_before_it_waited_is_not_begun() -> None:
    budget = Budget()
    with deadline.within(10), budget.question(ACME) as question:
        question.charge(int(12 / budget_module.SECONDS_A_COMMAND))
        question.waited = 3
        with pytest.raises(Refused):
            question.charge(1)


def test_a_key_store_and_plans_of_the_application_are_asked_without_the_turn(make_usage: Callable[..., Usage]) -> None:
    """They may wait for a database of their own."""
    pace, seen = Away(), list[bool]()

    def plan_of(org: str) -> None:
        seen.append(pace.is_away)

    usage = make_usage(plans=[Plan("free", Quota("calls", 10))], plan_of=plan_of)
    gil.set_pace(pace)
    try:
        usage.reader.limits(Viewer.organization("acme"))
        with own_keys.finding():
            seen.append(pace.is_away)
    finally:
        gil.set_pace(None)
    assert (seen, pace.is_away) == ([True, True], False)


class Away(gil.Pace):
    """Knows whether its thread is away."""

    is_away = False

    def asleep(self) -> None:
        self.is_away = True

    def awake(self) -> None:
        self.is_away = False
