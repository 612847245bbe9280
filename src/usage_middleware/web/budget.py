"""What the questions of one viewer may cost at once in this process, so that none of them takes it from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from os import getpid
from threading import Condition
from time import monotonic, thread_time
from weakref import WeakKeyDictionary

from usage_middleware.report.context import ReportSource
from usage_middleware.report.viewer import Viewer
from usage_middleware.store import deadline
from usage_middleware.store.driver_errors import is_late
from usage_middleware.web.errors import Refused
from usage_middleware.web.turns import LONGEST, Turns

#: What the running questions of one viewer may cost, and those of all viewers, in Redis commands. The eight questions of a
#: page about 50 endpoints and 1,000 keys fit into the first; of those about 500 endpoints and 100,000 keys, one to three.
MOST_OF_A_VIEWER, MOST_IN_ALL = 40_000, 80_000
#: A viewer whose questions cost no more than that together waits for nobody else.
ALWAYS = 2_000
#: How long a question waits for others to end, seconds, in all its reads together.
MOST_SECONDS = 1.0
#: About how long what costs a command takes, seconds. A question doesn't wait until there is no time left to read it.
SECONDS_A_COMMAND = 20e-6
#: A question that has less time left no longer rests for long, seconds.
LATE = 0.7
#: How many seconds a question that comes too late must have waited for others, so that they are to blame.
WAITED = 0.5
#: How many questions of one viewer wait for room.
MOST_WAITING = 8
#: How many of one viewer run or wait, of whatever kind: each has a thread of the host.
MOST_AT_ONCE = 24
#: How much of its answers a viewer may leave unread, bytes: four of the largest.
MOST_UNREAD = 32_000_000


class Question:
    """A running question, and what it costs so far."""

    def __init__(self, budget: Budget, viewer: Viewer) -> None:
        self._budget = budget
        self.viewer = viewer
        self.cost = 0
        self.waits = False
        #: For how many seconds it may still wait.
        self.patience = MOST_SECONDS
        #: How many seconds it has waited for others.
        self.waited = 0.0
        self._cpu = thread_time()

    def charge(self, cost: int) -> None:
        """Begin to read what costs so many commands, if need be when other questions have ended.

        Raises:
            Refused: `rate_limited`: they have not ended in time.
            TimeoutError: the time for the answer is over.
        """
        self._budget.charge(self, cost)

    @property
    def needed(self) -> float:
        """About how many seconds of work are left of what it was charged."""
        return max(0.0, self.cost * SECONDS_A_COMMAND - (thread_time() - self._cpu))

    def is_late(self) -> bool:
        """Whether it has no time in which it could leave the interpreter to the host for long."""
        return deadline.left() < max(LATE, 2 * self.needed)


class Budget:
    """The running questions of a usage app. The one that runs longest never waits, so there is always one that ends."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = getpid()
        self._changed = Condition()
        #: In the order in which they began.
        self._running: list[Question] = []
        #: Bytes of answers on their way.
        self._unread: Counter[Viewer] = Counter()
        self._turns = Turns()

    def _begin(self) -> None:
        if self._pid != getpid():
            # In the child of a fork: another thread of the parent may have held the lock.
            self._reset()

    @contextmanager
    def question(self, viewer: Viewer) -> Iterator[Question]:
        """A question of a viewer, while it runs. It computes while no other does.

        Raises:
            Refused: `rate_limited`: too many others of this viewer run, or they have not ended in time.
        """
        self._begin()
        question = Question(self, viewer)
        if self._turns.count(viewer) >= MOST_AT_ONCE or not self._turns.begin(question, _time_for(0)):
            raise too_much()
        self._running.append(question)
        try:
            yield question
        except Exception as error:
            if is_late(error) and deadline.left() <= 0 and question.waited > WAITED:
                raise too_much() from error
            raise
        finally:
            self._turns.end(question)
            with self._changed:
                self._running.remove(question)
                self._changed.notify_all()

    def require_read(self, viewer: Viewer) -> None:
        """Return unless the viewer's client does not read its answers.

        Raises:
            Refused: `rate_limited`: until it has.
        """
        if self._unread[viewer] > MOST_UNREAD:
            raise Refused("rate_limited", "Read the answers that you were given, then ask again.", {"Retry-After": "1"})

    @contextmanager
    def sending(self, viewer: Viewer | None, size: int) -> Iterator[None]:
        """An answer, while its client takes it."""
        if viewer is None:
            yield
            return
        self._begin()
        self._note_unread(viewer, size)
        try:
            yield
        finally:
            self._note_unread(viewer, -size)

    def _note_unread(self, viewer: Viewer, size: int) -> None:
        with self._changed:
            self._unread[viewer] += size
            if self._unread[viewer] <= 0:
                del self._unread[viewer]

    def charge(self, question: Question, cost: int) -> None:
        """See `Question.charge`."""
        deadline.check()
        with self._changed:
            fits = self._fits(question, cost)
            if fits:
                question.cost += cost
        if not fits:
            self._turns.go_away(question)
            with self._changed:
                self._wait(question, cost)
                question.cost += cost
            self._turns.come_back(question)
        # There is no time left, but there was before it waited.
        if question.needed - question.waited < deadline.left(LONGEST) < question.needed:
            raise too_much()

    def _wait(self, question: Question, cost: int) -> None:
        if sum(one.waits for one in self._running if one.viewer == question.viewer) >= MOST_WAITING:
            raise too_much()
        begun = monotonic()
        question.waits, until = True, begun + min(question.patience, _time_for(cost))
        try:
            while not self._fits(question, cost):
                if not self._changed.wait(max(0.0, until - monotonic())):
                    raise too_much()
        finally:
            question.waits = False
            question.patience -= monotonic() - begun
            question.waited += monotonic() - begun

    def _fits(self, question: Question, cost: int) -> bool:
        own = [one for one in self._running if one.viewer == question.viewer]
        if self._running[0] is question:
            return True
        of_viewer, in_all = (sum(one.cost for one in some) + cost for some in (own, self._running))
        if of_viewer <= ALWAYS:
            return True
        return in_all <= MOST_IN_ALL and (of_viewer <= MOST_OF_A_VIEWER or own[0] is question)


def _time_for(cost: int) -> float:
    """How long a question may wait before it reads what costs so many commands, and perhaps as much again, seconds."""
    return deadline.left(LONGEST) - 2 * cost * SECONDS_A_COMMAND


def budget_of(source: ReportSource) -> Budget:
    """The budget of all usage apps of one `Usage`."""
    return _BUDGETS.setdefault(source, Budget())


_BUDGETS: WeakKeyDictionary[ReportSource, Budget] = WeakKeyDictionary()


def too_much() -> Refused:
    """The error of a question for which others leave no room, or no time."""
    message = "Too much is asked at once. Try again in a second, or ask one question after the other."
    return Refused("rate_limited", message, {"Retry-After": "1"})
