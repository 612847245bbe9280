"""The calls of each API key in some slots. Closed ones that this process has read are read again once they have changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from usage_middleware.periods import Slot
from usage_middleware.report.context import ReportContext
from usage_middleware.report.unchanged import Mark, is_closed, marks
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.members import is_reserved
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.store.schema import CALLS

#: The calls of more keys are not remembered.
MOST_MEMBERS = 10_000


class ClosedBoard(NamedTuple):
    """The calls of each key in closed slots, and the marks of these then."""

    marks: Mark
    calls: Mapping[str, int]


class _Asked(NamedTuple):
    """What a batch was asked for: the marks of closed slots; their board, and that of the open ones."""

    marks: Deferred[Mapping[Slot, Mark]]
    closed: Deferred[dict[str, dict[str, int]]] | None
    open: Deferred[dict[str, dict[str, int]]]


class KnownBoards:
    """Asks a batch for how often each key called in some slots."""

    def __init__(self, context: ReportContext, org: str, batch: ReadBatch, slots: Sequence[Slot]) -> None:
        self._context = context
        self._org = org
        self._asked_at = context.plans.boards.generation
        self._closed = [slot for slot in slots if is_closed(slot, context.now)]
        self._open = [slot for slot in slots if not is_closed(slot, context.now)]
        self._name = org, tuple(self._closed)
        self._known: ClosedBoard | None = context.plans.boards.known([self._name]).get(self._name)
        self._asked = self._ask(batch, with_closed=self._known is None)

    def calls(self) -> dict[str, int]:
        """How often each key called, once the batch was read. What has changed meanwhile is read now."""
        if self._known is not None and self._known.marks != self._asked.marks.value:
            batch = self._context.batch(self._org)
            self._known, self._asked = None, self._ask(batch, with_closed=True)
            batch.read()
        found = dict(self._closed_calls())
        for key, calls in _calls(self._asked.open.value).items():
            found[key] = found.get(key, 0) + calls
        return found

    def _closed_calls(self) -> Mapping[str, int]:
        if self._known is None:
            assert self._asked.closed is not None
            self._known = ClosedBoard(self._asked.marks.value, _calls(self._asked.closed.value))
            if len(self._known.calls) <= MOST_MEMBERS:
                self._context.plans.boards.keep({self._name: self._known}, self._asked_at)
        return self._known.calls

    def _ask(self, batch: ReadBatch, *, with_closed: bool) -> _Asked:
        found = marks(batch, self._closed, (CALLS,))
        closed = batch.board(self._closed, "key", (CALLS,)) if with_closed else None
        return _Asked(found, closed, batch.board(self._open, "key", (CALLS,)))


def _calls(board: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {key: sums.get(CALLS, 0) for key, sums in board.items() if not is_reserved("key", key)}
