"""Packs history in idle moments of the delivering thread: small steps, with long rests in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from usage_middleware.record.attribution import CountError
from usage_middleware.store.history.packer import Steps
from usage_middleware.store.history.rounds import Rounds

#: How often it looks whether something is due, seconds.
EVERY = 60.0
#: After a step it rests so many times as long as the step took: a hundredth of a core at most.
RESTS = 99


class IdlePacking:
    """A round of packing that goes on step by step.

    Args:
        rounds: packs what is due; None: nothing is packed.
        count_error: counts and logs what goes wrong.
    """

    def __init__(self, rounds: Rounds | None, count_error: CountError, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rounds = rounds
        self._count_error = count_error
        self._monotonic = monotonic
        self._steps: Steps | None = None
        self._next = monotonic() + EVERY

    @property
    def rest(self) -> float:
        """Seconds until the next step; infinite if nothing is packed."""
        return float("inf") if self._rounds is None else max(0.0, self._next - self._monotonic())

    def step(self) -> None:
        """Do a step, if it is time. Never raises."""
        if self._rounds is None or self.rest > 0:
            return
        began = self._monotonic()
        if self._steps is None:
            self._steps = self._rounds.round()
        try:
            next(self._steps)
        except StopIteration:
            self._end()
        except Exception:  # Whatever it was, calls must go on being delivered.
            self._count_error("history")
            self._end()
        else:
            self._next = self._monotonic() + RESTS * (self._monotonic() - began)

    def _end(self) -> None:
        self._steps = None
        self._next = self._monotonic() + EVERY
