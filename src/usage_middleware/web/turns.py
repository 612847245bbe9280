"""Dear questions compute one at a time: the host's own requests share the interpreter with one thread of ours, not with all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition

from usage_middleware import gil
from usage_middleware.report.viewer import Viewer
from usage_middleware.store import deadline

#: For how long a viewer's question computes while other viewers' want to, seconds. It gives up its turn where it next rests.
SLICE = 0.005
#: An answer that has less time left no longer rests for long, seconds.
LATE = 0.7
#: Nobody waits longer, seconds.
MOST_SECONDS = 60.0


def is_late() -> bool:
    """Whether an answer has no time left in which it could leave the interpreter to the host for long."""
    return deadline.left() < LATE


class Turns:
    """Who computes. The turn goes round among viewers; of one viewer, a question begins when the one before it has ended."""

    def __init__(self, is_late: Callable[[], bool] = is_late) -> None:
        self._is_late = is_late
        self._changed = Condition()
        #: The questions of each viewer in the order in which they came. The first one of the first viewer has the turn.
        self._line: deque[Viewer] = deque()
        self._questions: dict[Viewer, deque[object]] = {}

    @property
    def waiting(self) -> int:
        """How many questions wait for their turn."""
        return max(0, sum(map(len, list(self._questions.values()))) - 1)

    def begin(self, viewer: Viewer, question: object, seconds: float) -> bool:
        """Wait for the turn, at most so many seconds; False: it didn't come. Then it goes round wherever this thread rests."""
        with self._changed:
            if question in self._questions.get(viewer, ()):
                return True
            if viewer not in self._questions:
                self._questions[viewer] = deque()
                self._line.append(viewer)
            self._questions[viewer].append(question)
            return self._wait(viewer, question, seconds)

    def end(self, viewer: Viewer, question: object) -> None:
        """Leave it to others, if it has the turn."""
        with self._changed:
            if question in self._questions.get(viewer, ()):
                gil.set_pace(None)
                self._leave(viewer, question)

    def _pass_on(self, viewer: Viewer, question: object) -> None:
        with self._changed:
            if len(self._line) > 1:
                self._line.rotate(-1)
                self._changed.notify_all()
                if not self._wait(viewer, question, deadline.left(MOST_SECONDS)):
                    raise TimeoutError("other questions take the time of this one")

    def _wait(self, viewer: Viewer, question: object, seconds: float) -> bool:
        gil.set_pace(None)
        if not self._changed.wait_for(lambda: self._has_turn(viewer, question), max(0.0, seconds)):
            self._leave(viewer, question)
            return False
        gil.set_pace(gil.AnswersPace(SLICE, self._is_late, lambda: self._pass_on(viewer, question)))
        return True

    def _has_turn(self, viewer: Viewer, question: object) -> bool:
        return self._line[0] == viewer and self._questions[viewer][0] is question

    def _leave(self, viewer: Viewer, question: object) -> None:
        questions = self._questions[viewer]
        questions.remove(question)
        if not questions:
            del self._questions[viewer]
            self._line.remove(viewer)
        elif self._line[0] == viewer:
            self._line.rotate(-1)
        self._changed.notify_all()
