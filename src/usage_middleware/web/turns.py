"""Questions compute one at a time: the host's own requests share the interpreter with one thread of ours, not with all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Condition
from typing import Generic, TypeVar

from usage_middleware import gil
from usage_middleware.report.viewer import Viewer
from usage_middleware.store import deadline

Q = TypeVar("Q")

#: For how long a viewer's question computes while others want to, seconds. It gives up its turn where it next rests.
SLICE = 0.005
#: An answer that has less time left no longer rests for long, seconds.
LATE = 0.7
#: Nobody waits longer, seconds.
MOST_SECONDS = 60.0


def is_late(_: object) -> bool:
    """Whether an answer has no time left in which it could leave the interpreter to the host for long."""
    return deadline.left() < LATE


class Turns(Generic[Q]):
    """Who computes. The turn goes round among viewers; of one viewer, the question that came first goes first.

    While a question waits for Redis, others compute. `is_late` is asked whether a question has no time for long rests.
    """

    def __init__(self, is_late: Callable[[Q], bool] = is_late) -> None:
        self.is_late = is_late
        self._changed = Condition()
        #: The questions of each viewer in the order in which they came.
        self._line: deque[Viewer] = deque()
        self._questions: dict[Viewer, deque[Q]] = {}
        #: Those that wait for something else.
        self._away: set[Q] = set()
        self._computing: Q | None = None

    def count(self, viewer: Viewer) -> int:
        """How many questions of a viewer have begun, or stand in the line."""
        return len(self._questions.get(viewer, ()))

    def begin(self, viewer: Viewer, question: Q, seconds: float) -> bool:
        """Wait for the turn, at most so many seconds; False: it didn't come. Then it goes round wherever this thread rests."""
        with self._changed:
            if viewer not in self._questions:
                self._questions[viewer] = deque()
                self._line.append(viewer)
            self._questions[viewer].append(question)
            return self._take(viewer, question, seconds)

    def end(self, viewer: Viewer, question: Q) -> None:
        """Leave it to others for good."""
        with self._changed:
            if question in self._questions.get(viewer, ()):
                gil.set_pace(None)
                self._leave(viewer, question)

    def go_away(self, question: Q) -> None:
        """Leave it to others for as long as this thread waits for something else than the interpreter."""
        with self._changed:
            self._away.add(question)
            self._stop(question)

    def come_back(self, viewer: Viewer, question: Q) -> None:
        """Wait for the turn again. It may not come before the time of the answer is over: then the next look at that tells."""
        with self._changed:
            self._away.discard(question)
            if question in self._questions.get(viewer, ()):
                self._take(viewer, question, deadline.left(MOST_SECONDS))

    def pass_on(self, viewer: Viewer, question: Q) -> None:
        """Leave it to whoever comes next, and wait for it again.

        Raises:
            TimeoutError: the time of the answer is over.
        """
        with self._changed:
            if self._line[0] == viewer:
                self._line.rotate(-1)
            if self._next() is question:
                return
            self._stop(question)
            if not self._take(viewer, question, deadline.left(MOST_SECONDS)):
                raise TimeoutError("other questions take the time of this one")

    def _next(self) -> Q | None:
        """Whose turn it is: the first one that wants to compute."""
        return next((one for viewer in self._line for one in self._questions[viewer] if one not in self._away), None)

    def _take(self, viewer: Viewer, question: Q, seconds: float) -> bool:
        gil.set_pace(None)
        if not self._changed.wait_for(lambda: self._computing is None and self._next() is question, max(0.0, seconds)):
            self._leave(viewer, question)
            return False
        self._computing = question
        gil.set_pace(_Pace(self, viewer, question))
        return True

    def _leave(self, viewer: Viewer, question: Q) -> None:
        questions = self._questions[viewer]
        questions.remove(question)
        if not questions:
            del self._questions[viewer]
            self._line.remove(viewer)
        self._away.discard(question)
        self._stop(question)

    def _stop(self, question: Q) -> None:
        if self._computing is question:
            self._computing = None
        self._changed.notify_all()


class _Pace(gil.AnswersPace):
    """How the thread of a question gives way: to the host, and to other questions."""

    def __init__(self, turns: Turns[Q], viewer: Viewer, question: Q) -> None:
        super().__init__(SLICE, partial(turns.is_late, question), partial(turns.pass_on, viewer, question))
        self._go_away: Callable[[], None] = partial(turns.go_away, question)
        self._come_back: Callable[[], None] = partial(turns.come_back, viewer, question)
        self._is_away = False

    def asleep(self) -> None:
        """It begins to wait for something else than the interpreter."""
        if not self._is_away:
            self._is_away = True
            self._go_away()

    def awake(self) -> None:
        """It goes on."""
        super().awake()
        if self._is_away:
            self._is_away = False
            self._come_back()
