"""What the interpreter is told while answers are made: short turns at its lock, and few garbage collections.

Both are settings of the whole process. While any thread is inside they are ours. Afterwards what they were before holds again,
unless somebody else has changed them in the meantime.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")

#: Microseconds of a turn. Python's own are fifty times as long.
TURN = 101
#: How many new objects there may be before the garbage collector looks at them. Python's own number is 700.
YOUNG = 100_003
#: For how many seconds nobody looks at new ones, if answers are made without a break.
LONGEST = 5.0
# Odd numbers, so that they are told from what an application sets.


class WhileInside(Generic[T]):
    """A setting that is another one while any thread is inside.

    Args:
        get, put: the setting.
        ours: what it shall be, if it was so before.
    """

    def __init__(self, get: Callable[[], T], put: Callable[[T], None], ours: Callable[[T], T]) -> None:
        self._get = get
        self._put = put
        self._ours = ours
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = self._during = self._get()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._change()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            # After a fork the child may leave what its parent entered.
            self._inside = max(0, self._inside - 1)
            if not self._inside:
                self._restore()

    def _change(self) -> None:
        # Who saved it while anybody was inside may have put ours back since: that is not what it was before.
        if not self._is_ours():
            self._before = self._get()
        self._during = self._ours(self._before)
        if self._during != self._before:
            self._put(self._during)

    def _is_ours(self) -> bool:
        """Whether it is what we made of it: nobody else has changed it."""
        return self._during != self._before and self._get() == self._during

    def _restore(self) -> None:
        if self._is_ours():
            self._put(self._before)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Inside of this it is for everybody as it was before."""
        with self._lock:
            was_ours = bool(self._inside) and self._is_ours()
            if was_ours:
                self._put(self._before)
        try:
            yield
        finally:
            with self._lock:
                if was_ours and self._inside and self._get() == self._before:
                    self._put(self._during)

    def after_fork_in_child(self) -> None:
        """The threads that were inside are not here."""
        self._restore()
        self._begin()


class FewCollections(WhileInside[tuple[int, int, int]]):
    """Inside of it the garbage collector looks at new objects rarely.

    Those of an answer are free when it is made, without the collector. But if it looks at them before, they count as old, and
    too many old ones set off a full collection, which stops all threads for as long as it takes to look at everything that the
    application holds.
    """

    def __init__(self) -> None:
        super().__init__(gc.get_threshold, lambda thresholds: gc.set_threshold(*thresholds), _few)
        self._looked = 0.0

    def _change(self) -> None:
        super()._change()
        self._looked = monotonic()

    def look(self) -> None:
        """Have new objects looked at if nobody has for long: what the application leaves in circles is freed by that alone."""
        now = monotonic()
        if now - self._looked >= LONGEST:
            self._looked = now
            if self._is_ours() and gc.isenabled():
                gc.collect(0)


def _turn() -> int:
    return round(sys.getswitchinterval() * 1e6)


def _set_turn(microseconds: int) -> None:
    # Python cuts off what is less than a microsecond: what it says that a turn takes would otherwise become less.
    sys.setswitchinterval((microseconds + 0.5) / 1e6)


def _few(thresholds: tuple[int, int, int]) -> tuple[int, int, int]:
    young, middle, old = thresholds
    # 0 switches the collector off.
    return (max(young, YOUNG), middle, old) if young else thresholds


#: Inside of it threads take turns at the interpreter's lock fifty times as often. Some work can't rest in its midst, such as
#: encoding an answer: a request that becomes ready waits a tenth of a millisecond for the lock then, not five.
short_turns = WhileInside(_turn, _set_turn, lambda before: min(before, TURN))
few_collections = FewCollections()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=short_turns.after_fork_in_child)
    os.register_at_fork(after_in_child=few_collections.after_fork_in_child)
