"""Questions compute one at a time: the host's own requests share the interpreter with one thread of ours, not with all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Condition, Lock
from time import monotonic, perf_counter
from typing import Protocol

from usage_middleware import gil
from usage_middleware.report.viewer import Viewer
from usage_middleware.store import deadline

#: For how long a viewer's question computes while others want to, seconds. It gives up its turn where it next rests.
SLICE = 0.005
#: Nobody waits longer, seconds.
LONGEST = 60.0


class Computing(Protocol):
    """What takes turns.

    Attributes:
        viewer: whose it is.
        waited: for how many seconds it has waited for others.
    """

    viewer: Viewer
    waited: float

    def is_late(self) -> bool:
        """Whether it has no time in which it could leave the interpreter to the host for long."""


class Turns:
    """Who computes. The turn goes round among viewers; of one viewer, the question that came first goes first.

    While a question waits for Redis, others compute.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        #: The questions of each viewer in the order in which they came.
        self._line: deque[Viewer] = deque()
        self._questions: dict[Viewer, deque[Computing]] = {}
        #: Those that wait for something else.
        self._away: set[Computing] = set()
        self._computing: Computing | None = None
        #: Since when, and how many seconds of its slice each viewer has used up before.
        self._since = 0.0
        self._used: dict[Viewer, float] = {}
        #: Those that wait for their turn. One alone is woken when it comes.
        self._waiting: dict[Computing, Condition] = {}

    def count(self, viewer: Viewer) -> int:
        """How many questions of a viewer have begun, or stand in the line."""
        return len(self._questions.get(viewer, ()))

    def begin(self, question: Computing, seconds: float) -> bool:
        """Wait for the turn, at most so many seconds; False: it didn't come. Then it goes round wherever this thread rests."""
        with self._lock:
            if question.viewer not in self._questions:
                self._questions[question.viewer] = deque()
                self._line.append(question.viewer)
            self._questions[question.viewer].append(question)
            came = self._take(question, seconds)
        if came:
            gil.set_pace(_Pace(self, question))
        return came

    def end(self, question: Computing) -> None:
        """Leave it to others for good."""
        with self._lock:
            if self._stands(question):
                gil.set_pace(None)
                self._leave(question)

    def go_away(self, question: Computing) -> None:
        """Leave it to others for as long as this thread waits for something else than the interpreter."""
        with self._lock:
            if self._stands(question):
                self._away.add(question)
                self._stop(question)

    def come_back(self, question: Computing) -> None:
        """Wait for the turn again. It may not come before the time of the answer is over: then the next look at that tells."""
        with self._lock:
            if self._stands(question):
                self._away.discard(question)
                self._take(question, deadline.left(LONGEST))

    def pass_on(self, question: Computing) -> None:
        """Leave it to whoever comes next, and wait for it again.

        Raises:
            TimeoutError: the time of the answer is over.
        """
        with self._lock:
            self._go_behind(question.viewer)
            if self._next() is question:
                return
            self._stop(question)
            if not self._take(question, deadline.left(LONGEST)):
                raise TimeoutError("other questions take the time of this one")

    def _next(self) -> Computing | None:
        """Whose turn it is: the first one that wants to compute."""
        return next((one for viewer in self._line for one in self._questions[viewer] if one not in self._away), None)

    def _stands(self, question: Computing) -> bool:
        return question in self._questions.get(question.viewer, ())

    def _take(self, question: Computing, seconds: float) -> bool:
        came = False
        try:
            came = self._is_turn_of(question) or self._wait(question, seconds)
        finally:
            # Also where something is raised in a thread that waits: a signal's handler does, and gevent's time limits.
            if not came:
                gil.set_pace(None)
                self._leave(question)
        if came:
            self._computing, self._since = question, monotonic()
        return came

    def _is_turn_of(self, question: Computing) -> bool:
        return self._computing is None and self._next() is question

    def _wait(self, question: Computing, seconds: float) -> bool:
        begun, changed = monotonic(), Condition(self._lock)
        self._waiting[question] = changed
        try:
            return changed.wait_for(lambda: self._is_turn_of(question), max(0.0, seconds))
        finally:
            del self._waiting[question]
            question.waited += monotonic() - begun

    def _leave(self, question: Computing) -> None:
        questions = self._questions[question.viewer]
        questions.remove(question)
        if not questions:
            del self._questions[question.viewer]
            self._line.remove(question.viewer)
            self._used.pop(question.viewer, None)
        self._away.discard(question)
        self._stop(question)

    def _stop(self, question: Computing) -> None:
        if self._computing is question:
            self._computing = None
            self._count(question.viewer)
        following = self._next()
        if self._computing is None and following in self._waiting:
            self._waiting[following].notify()

    def _count(self, viewer: Viewer) -> None:
        """Its questions may be many, and each of them short: together they get no more than one that is long."""
        used = self._used.get(viewer, 0.0) + monotonic() - self._since
        if viewer in self._questions:
            self._used[viewer] = used
            if used >= SLICE:
                self._go_behind(viewer)

    def _go_behind(self, viewer: Viewer) -> None:
        # From wherever it stands: those before it may all be away.
        self._line.remove(viewer)
        self._line.append(viewer)
        self._used.pop(viewer, None)


class _Pace(gil.AnswersPace):
    """How the thread of a question gives way: to the host, and to other questions."""

    def __init__(self, turns: Turns, question: Computing) -> None:
        super().__init__(SLICE, question.is_late, partial(turns.pass_on, question))
        self._go_away: Callable[[], None] = partial(turns.go_away, question)
        self._come_back: Callable[[], None] = partial(turns.come_back, question)
        self._is_away = False

    def asleep(self) -> None:
        """It begins to wait for something else than the interpreter."""
        if not self._is_away:
            self._is_away = True
            self._go_away()

    def awake(self) -> None:
        """It goes on."""
        if self._is_away:
            self._is_away = False
            self._come_back()
            self._begun = perf_counter()
        # Nor does it say anything of that how long it waited for its turn.
        super().awake()
