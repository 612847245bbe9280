"""Calls on their way to Redis: for each organisation those that wait, and the numbered chunks that were cut from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from usage_middleware.events import CallKey, CallTotals, Cells
from usage_middleware.gil import yielding
from usage_middleware.periods import DAY
from usage_middleware.record.aggregate import BIN_BYTES, size_of
from usage_middleware.store.chunk import Chunk, cut
from usage_middleware.store.members import OPERATOR, OTHER
from usage_middleware.store.payload import Doubt
from usage_middleware.store.retention import is_late
from usage_middleware.store.schema import Schema

#: For how long an acknowledged chunk is kept, to send it again to a Redis that lost it.
RETAINED_SECONDS = 10.0
#: After so long a chunk that Redis may have is not sent again: a day less than Redis remembers a worker's last number.
SENT_SECONDS = 7 * DAY


def _size(cells: Cells) -> int:
    return sum(size_of(key, len(totals.bins)) for key, totals in yielding(cells.items()))


def _calls(cells: Cells) -> int:
    return sum(totals.calls for totals in yielding(cells.values()))


class Moment(NamedTuple):
    """A time on two clocks, seconds. Either may stand still while a machine is suspended."""

    wall: float
    monotonic: float


def _is_long_ago(then: Moment | None, now: Moment) -> bool:
    """Whether Redis may have forgotten since what it had of a worker, by the clock that went further."""
    return then is not None and max(now.wall - then.wall, now.monotonic - then.monotonic) >= SENT_SECONDS


class OrgQueue:
    """Everything that one worker has for one organisation. Only the flusher touches it.

    Attributes:
        sealed: the number of the last chunk that was cut.
        acked: the number of the last chunk that Redis is known to have.
        waiting: calls that are in no chunk yet.
        pending: chunks to be sent, in the order of their numbers.
        retained: (when acknowledged, chunk), oldest first.
        dropped: calls to be counted as dropped with the next chunk.
        failures: how often Redis refused the first pending chunk for what is in it.
        silences: how often in a row there was no answer to it, though Redis answered something smaller.
        confirmed: the number of the last chunk that enough replicas are known to have; None unless they are asked.
        bytes: about what all of it takes in memory.
    """

    def __init__(self, schema: Schema, org: str, sealed: int = 0, *, replicated: bool = False) -> None:
        self.schema = schema
        self.org = org
        self.sealed = self.acked = sealed
        self.confirmed = sealed if replicated else None
        self.waiting: Cells = {}
        self.pending: deque[Chunk] = deque()
        self.retained: deque[tuple[float, Chunk]] = deque()
        self.dropped = 0
        self.failures = self.silences = 0
        #: When the first pending chunk got no answer, and when a chunk was last acknowledged.
        self._unanswered: Moment | None = None
        self._acked_at: Moment | None = None
        #: The number of the last chunk that another process may have sent.
        self._restored = 0
        self.bytes = 0

    def unanswered(self, now: Moment) -> None:
        """No answer came to the first pending chunk."""
        self._unanswered = self._unanswered or now

    def doubt(self, now: Moment) -> Doubt:
        """Whether Redis may have the first pending chunk."""
        chunk = self.pending[0]
        if not chunk.cells or (self._unanswered is None and chunk.number > self._restored):
            return Doubt.NONE
        return Doubt.OLD if _is_long_ago(self._unanswered, now) else Doubt.RECENT

    def _begin_next(self) -> None:
        self.failures = self.silences = 0
        self._unanswered = None

    @property
    def has_news(self) -> bool:
        """True while something is not acknowledged."""
        return bool(self.waiting or self.pending or self.dropped)

    def put(self, key: CallKey, totals: CallTotals) -> None:
        """Add calls to those that wait for the next chunk."""
        mine = self.waiting.get(key)
        if mine is None:
            self.waiting[key] = totals
            self.bytes += size_of(key, len(totals.bins))
        else:
            before = len(mine.bins)
            mine.merge(totals)
            self.bytes += BIN_BYTES * (len(mine.bins) - before)

    def seal(self, now: int) -> int:
        """Cut what waits into numbered chunks. All calls of a key are in one chunk, with everything they add to.

        Returns how many calls are so late that nothing is kept for them; they are counted as dropped.
        """
        cells, self.waiting = self.waiting, {}
        minutes = {minute for minute in {key.minute for key in yielding(cells)} if is_late(self.schema, minute, now)}
        late = {key: cells.pop(key) for key in list(cells) if key.minute in minutes} if minutes else {}
        self.bytes -= _size(late)
        lost = _calls(late)
        self.dropped += lost
        for part in cut(cells, len(self.schema.settings.counters)):
            self._append(part, now)
        if self.dropped:
            self._append({}, now)
        return lost

    def _append(self, cells: Cells, now: int) -> None:
        self.sealed += 1
        self.pending.append(Chunk(self.org, self.sealed, cells, self.dropped, now))
        self.dropped = 0

    def restore(self, pending: Iterable[Chunk], retained: Iterable[Chunk]) -> None:
        """Take over the chunks of another process. Redis is asked again whether it has the acknowledged ones."""
        self.pending.extend(pending)
        self._restored = max((chunk.number for chunk in self.pending), default=0)
        self.retained.extend((-RETAINED_SECONDS, chunk) for chunk in retained)
        self.bytes += sum(_size(chunk.cells) for chunk in (*self.pending, *(chunk for _, chunk in self.retained)))

    def acknowledge(self, now: Moment) -> None:
        """The first pending chunk is in Redis, and so is every one before it."""
        chunk = self.pending.popleft()
        self.acked, self._acked_at = chunk.number, now
        self._begin_next()
        self.retained.append((now.monotonic, chunk))
        self.release(now.monotonic)

    def release(self, now: float) -> None:
        """Forget chunks that Redis has had for long enough. Call it only when Redis is known to have `acked`."""
        while self.retained and self.retained[0][0] <= now - RETAINED_SECONDS and self._is_safe(self.retained[0][1]):
            self.bytes -= _size(self.retained.popleft()[1].cells)

    def _is_safe(self, chunk: Chunk) -> bool:
        return self.confirmed is None or chunk.number <= self.confirmed

    def forget(self) -> None:
        """Keep no acknowledged chunk any longer."""
        while self.retained:
            self.bytes -= _size(self.retained.popleft()[1].cells)

    def rewind(self, last: int, now: Moment) -> None:
        """Redis has everything up to `last` and nothing after it: send again what is retained of the rest.

        After so long that Redis may have forgotten who had a mark, only what was not acknowledged is sent.
        """
        if _is_long_ago(self._acked_at, now):
            self.forget()
        again = [chunk for _, chunk in self.retained if chunk.number > last]
        self.retained = deque(entry for entry in self.retained if entry[1].number <= last)
        while self.pending and self.pending[0].number <= last:
            self.bytes -= _size(self.pending.popleft().cells)
        self.pending.extendleft(reversed(again))
        self.acked = last
        self._begin_next()
        if self.confirmed is not None:
            self.confirmed = min(self.confirmed, last)

    def change(self, chunk: Chunk) -> None:
        """Replace the first pending chunk by one with the same number."""
        if chunk is not self.pending[0]:
            self.bytes += _size(chunk.cells) - _size(self.pending[0].cells)
            self.pending[0] = chunk

    def give_up(self) -> int:
        """Count the calls of the first pending chunk as dropped, and nothing else of it; returns how many calls.

        The number stays: if the chunk did arrive after all, its calls are not counted as dropped too.
        """
        chunk = self.pending[0]
        self._begin_next()
        if chunk.cells:
            self.change(chunk.emptied())
        else:
            self.pending.popleft()
        return chunk.calls

    def give_up_doubtful(self) -> int:
        """As `give_up`, with all other chunks that another process may have sent."""
        doubtful = [chunk for chunk in self.pending if chunk.number <= max(self._restored, self.pending[0].number)]
        emptied = [chunk.emptied() for chunk in doubtful]
        self.bytes -= sum(_size(chunk.cells) for chunk in doubtful)
        self.pending = deque([*emptied, *list(self.pending)[len(doubtful) :]])
        self._begin_next()
        return sum(chunk.calls for chunk in doubtful)

    def shed(self) -> int:
        """Drop what was never sent, all but the first pending chunk; returns how many calls."""
        unsent = list(self.pending)[1:]
        cells = [self.waiting, *(chunk.cells for chunk in unsent)]
        calls = sum(map(_calls, cells))
        self.bytes -= sum(map(_size, cells))
        self.waiting = {}
        self.pending = deque(list(self.pending)[:1])
        self.dropped += calls + sum(chunk.dropped for chunk in unsent)
        return calls

    def calls(self) -> int:
        """How many calls are not acknowledged."""
        return _calls(self.waiting) + sum(_calls(chunk.cells) for chunk in self.pending)


class Outbox:
    """The queues of one worker. Of an organisation with nothing on its way only the last number is kept.

    Attributes:
        is_from_file: a file has told what the worker did; it may have gone on since.
    """

    def __init__(self, schema: Schema, *, replicated: bool = False) -> None:
        self._schema = schema
        self._replicated = replicated
        self._queues: dict[str, OrgQueue] = {}
        self._numbers: dict[str, int] = {}
        self.is_from_file = False

    def put(self, key: CallKey, totals: CallTotals) -> None:
        """Add calls for their organisation and for the operator's tree, if there is one. `(other)` has no tree of its own."""
        org, _ = key.owner
        if self._schema.settings.operator_tree:
            self.queue(OPERATOR).put(replace(key, caller=(org, "")), totals.copy())
        if org != OTHER:
            self.queue(org).put(key, totals)

    def drop(self, org: str, calls: int) -> None:
        """Count calls of an organisation as dropped; `*` if it is not known whose they are."""
        if org not in (OPERATOR, OTHER):
            self.queue(org).dropped += calls
        if self._schema.settings.operator_tree:
            self.queue(OPERATOR).dropped += calls

    def queue(self, org: str) -> OrgQueue:
        """The queue of an organisation."""
        found = self._queues.get(org)
        if found is None:
            found = self._queues[org] = OrgQueue(self._schema, org, self._numbers.get(org, 0), replicated=self._replicated)
        return found

    def know(self, org: str, number: int) -> None:
        """Go on after this number, which an organisation's last chunk got earlier."""
        self._numbers[org] = number

    def numbers(self) -> dict[str, int]:
        """The number of each organisation's last chunk."""
        return {**self._numbers, **{org: queue.sealed for org, queue in self._queues.items()}}

    def queues(self) -> list[OrgQueue]:
        """All queues in use."""
        return list(self._queues.values())

    def tidy(self) -> None:
        """Keep only the number of each organisation that has nothing on its way."""
        for org, box in list(self._queues.items()):
            if not box.has_news and not box.retained:
                self._numbers[org] = box.sealed
                del self._queues[org]

    def organisations(self) -> list[str]:
        """Every organisation that this worker ever cut a chunk for."""
        return list({**self._numbers, **self._queues})

    @property
    def settled(self) -> bool:
        """True when everything is acknowledged."""
        return not any(queue.has_news for queue in self._queues.values())

    @property
    def confirmed(self) -> bool:
        """True when enough replicas have all that was acknowledged."""
        return all(queue.confirmed is None or queue.confirmed >= queue.acked for queue in self._queues.values())

    @property
    def bytes(self) -> int:
        """About how many bytes all of it takes."""
        return sum(queue.bytes for queue in self._queues.values())

    @property
    def calls(self) -> int:
        """How many calls of organisations are not acknowledged."""
        return sum(queue.calls() for queue in self._queues.values() if queue.org != OPERATOR)
