"""Sends what is in the outbox until Redis has acknowledged it; what one organisation lacks, the others don't feel."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Iterator

from usage_middleware.record.journal import Journal
from usage_middleware.record.outbox import RETAINED_SECONDS, OrgQueue, Outbox
from usage_middleware.record.overflow import FindKnownKeys, OverflowCache
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.schema import OPERATOR, OTHER
from usage_middleware.store.writer import TROUBLES, Outcome, SendResult, Writer

logger = logging.getLogger("usage_middleware")

#: Counts and logs an error of ours.
CountError = Callable[[str], None]

#: A chunk that Redis refuses so often for its own sake is set aside.
MOST_FAULTS = 3
#: One that gets no answer so often, while the same server answers something else, too: it must be the chunk.
MOST_SILENCES = 30
#: For so many organisations dropped calls are told apart in `dropped`.
MOST_ORGANISATIONS = 1_000


class Sender:
    """One worker's outbox and its numbers. Only the flusher touches it, under its lock.

    Attributes:
        worker: 128 random bits.
        trouble: why the server could not be written in this round, if it could not.
        dropped: calls that will never be counted, by organisation.
        retries: how often a chunk was not taken.
        refused: members that a cap turned into `(other)`.
        in_the_way: keys of another type that were skipped.
        held: organisations that can't be written now while others can, and why.
        unreplicated: how often fewer replicas than asked for had it in time.
        silent: True once a chunk got no answer: it may still be on its way.
        journal: where everything is on disk before it is sent; None: nowhere.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        known_keys: FindKnownKeys,
        count_error: CountError,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        wait_replicas: int = 0,
        new_journal: Callable[[str], Journal | None] = lambda worker: None,
    ) -> None:
        self._writer = writer
        self._wait_replicas = wait_replicas
        self._new_journal = new_journal
        self._known_keys = known_keys
        self._count_error = count_error
        self._clock = clock
        self._monotonic = monotonic
        self._refusals = OverflowCache(monotonic)
        self._tried: set[str] = set()
        self.dropped: dict[str, int] = {}
        self.held: dict[str, str] = {}
        self.retries = self.refused = self.in_the_way = self.unreplicated = 0
        self.trouble = ""
        self.renew()

    def renew(self) -> None:
        """Go on as a new worker with nothing on its way."""
        worker = secrets.token_hex(16)
        self.adopt(worker, self._new_journal(worker))

    def adopt(self, worker: str, journal: Journal | None) -> None:
        """Go on as this worker, whose outbox is yet to be filled."""
        self.worker = worker
        self.outbox = Outbox(self._writer.schema, replicated=self._wait_replicas > 0)
        self.journal = journal
        self.silent = False

    def take_counts(self, other: Sender) -> None:
        """Add what went wrong with another one."""
        self.retries += other.retries
        self.refused += other.refused
        self.in_the_way += other.in_the_way
        self.unreplicated += other.unreplicated
        for org, calls in other.dropped.items():
            self.note_drop(org, calls)

    def begin(self) -> None:
        """A new round: what failed in the last one may be tried again, once."""
        self.trouble = ""
        self._tried = set()

    def seal(self) -> list[Chunk]:
        """Cut all that waits into chunks; those."""
        chunks: list[Chunk] = []
        for box in self.outbox.queues():
            before = len(box.pending)
            self.note_drop(box.org, box.seal(int(self._clock())))
            chunks += list(box.pending)[before:]
        return chunks

    @property
    def faults(self) -> tuple[int, int]:
        """Changes as long as chunks that are refused for their own sake are tried again or set aside."""
        return sum(box.failures for box in self.outbox.queues()), sum(self.dropped.values())

    def send(self) -> bool:
        """Send all chunks; False when it is no use to go on."""
        down: set[str] = set()
        for box in self.outbox.queues():
            if not box.has_news or box.org in self._tried:
                continue
            node = self._writer.node_of(box.org)
            if node not in down and not self._reaches(box):
                down.add(node)
        # The nodes of a cluster that do answer must not wait for the one that doesn't.
        return not down or self._writer.is_cluster

    def _reaches(self, box: OrgQueue) -> bool:
        answer = self._deliver(box)
        if answer.outcome not in (Outcome.AWAY, Outcome.SILENT):
            return True
        if answer.outcome is Outcome.SILENT and self._is_the_chunk(box):
            return True
        self.trouble = answer.reason
        return False

    def _deliver(self, box: OrgQueue) -> SendResult:
        """Send a box's chunks in order until one can't be; the last answer."""
        if not box.pending and self.journal is None:
            self.note_drop(box.org, box.seal(int(self._clock())))
        exempt: set[str] = set()
        for _ in range(2 * len(box.pending) + 2 * len(box.retained) + 8):
            if not box.pending:
                break
            chunk = self._refusals.apply(self._writer.schema, box.pending[0], exempt)
            box.change(chunk)
            answer = self._writer.send(self.worker, chunk, box.acked, self._clock(), exempt)
            if answer.outcome is Outcome.COUNTED:
                self.in_the_way += answer.in_the_way
                box.acknowledge(self._monotonic())
                self._release(box.org)
            elif answer.outcome is Outcome.GAP:
                box.rewind(answer.last)
            elif answer.outcome is Outcome.FULL:
                exempt |= self._full(box, answer)
            else:
                self._failed(box, answer)
                return answer
        return SendResult(Outcome.COUNTED)

    def _failed(self, box: OrgQueue, answer: SendResult) -> None:
        self.retries += 1
        self.silent |= answer.outcome is Outcome.SILENT
        self._tried.add(box.org)
        if answer.outcome is Outcome.FAULT:
            self._fault(box, answer.reason, MOST_FAULTS)
        elif answer.outcome is Outcome.LATER:
            self._hold(box.org, answer.reason)

    def _hold(self, org: str, reason: str) -> None:
        if not self.held:
            logger.warning("usage: the calls of %s wait, and perhaps of others: %s", org, reason)
        if org in self.held or len(self.held) < MOST_ORGANISATIONS:
            self.held[org] = reason

    def _release(self, org: str) -> None:
        if self.held.pop(org, None) is not None and not self.held:
            logger.warning("usage: no organisation's calls wait any more")

    def _fault(self, box: OrgQueue, reason: str, most: int) -> None:
        box.failures += 1
        if box.failures < most:
            return
        calls = box.give_up()
        self.note_drop(box.org, calls)
        logger.error("usage: %d calls of %s are dropped, their chunk failed %d times: %s", calls, box.org, most, reason)

    def _is_the_chunk(self, box: OrgQueue) -> bool:
        """After silence: True when the server does answer something else, so that others may be sent."""
        try:
            last = self._writer.applied(self.worker, [box.org])[box.org]
        except TROUBLES:
            return False
        if box.pending and last < box.pending[0].number:
            self._fault(box, "no answer", MOST_SILENCES)
        return True

    def _full(self, box: OrgQueue, answer: SendResult) -> set[str]:
        """Remember what the cap refused; keys of the directory are always let in."""
        exempt = set[str]()
        for dimension, names in answer.refused.items():
            known = self._known(box.org, names) if dimension == "key" else set[str]()
            exempt |= known
            refused = set(names) - known
            self.refused += len(refused)
            self._refusals.remember(box.org, dimension, refused)
        return exempt

    def _known(self, org: str, names: Collection[str]) -> set[str]:
        try:
            return set(self._known_keys(org, names)) & set(names)
        except Exception:  # A directory of the application's own may raise anything.
            self._count_error("known_keys")
            return set()

    def verify(self) -> bool:
        """Before acknowledged chunks are let go: does Redis still have them? False if it can't tell."""
        old = self._monotonic() - RETAINED_SECONDS
        boxes = {box.org: box for box in self.outbox.queues() if box.retained and box.retained[0][0] <= old}
        if not boxes:
            return True
        try:
            found = self._writer.applied(self.worker, boxes)
        except TROUBLES as error:
            self.trouble = str(error)
            return False
        for org, last in found.items():
            if last < boxes[org].acked:
                boxes[org].rewind(last)
            else:
                boxes[org].release(self._monotonic())
        return True

    def confirm(self) -> None:
        """Have replicas confirm what was acknowledged; until enough of them do, it is kept."""
        nodes: dict[str, list[OrgQueue]] = {}
        for box in self.outbox.queues():
            if box.confirmed is not None and box.confirmed < box.acked:
                nodes.setdefault(self._writer.node_of(box.org), []).append(box)
        for boxes in nodes.values():
            if not self._writer.replicated(self.worker, boxes[0].org, self._wait_replicas):
                self.unreplicated += 1
                continue
            for box in boxes:
                box.confirmed = box.acked

    def make_room(self, bound: int) -> None:
        """What can't be written, while the rest can, must not take the room of all; what is only kept for safety goes first."""
        for box in self._largest(bound):
            box.forget()
        if self.trouble and not self._writer.is_cluster:
            return
        for box in self._largest(bound):
            self.note_drop(box.org, box.shed())
            if self.journal is not None:
                self.journal.broken = True

    def _largest(self, bound: int) -> Iterator[OrgQueue]:
        """The largest boxes first, as long as all of them take more than the bound."""
        for box in sorted(self.outbox.queues(), key=lambda box: box.bytes, reverse=True):
            if self.outbox.bytes < bound:
                return
            yield box

    def note_drop(self, org: str, calls: int) -> None:
        """Calls that will never be counted. What the operator's tree lacks, it lacks for an organisation too."""
        if not calls or (org == OPERATOR and self._writer.schema.settings.operator_tree):
            return
        name = org if org in self.dropped or len(self.dropped) < MOST_ORGANISATIONS else OTHER
        self.dropped[name] = self.dropped.get(name, 0) + calls
