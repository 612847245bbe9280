"""All that one worker has on its way to Redis: parked calls, the outbox, and with a journal the same on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf

from usage_middleware.events import CallerId, Cells, calls_in
from usage_middleware.options import DeliveryOptions
from usage_middleware.record.aggregate import Batch
from usage_middleware.record.attribution import Callers, CountError, organisation_of, put
from usage_middleware.record.chunk_sender import ChunkSender
from usage_middleware.record.journal import Journal
from usage_middleware.record.outbox import Outbox
from usage_middleware.record.parked import Parked
from usage_middleware.record.spool import Spool
from usage_middleware.store.driver_errors import redis_errors
from usage_middleware.store.keys import Resolved
from usage_middleware.store.members import OPERATOR, OTHER
from usage_middleware.store.worker_status import OwnStatus
from usage_middleware.store.writer import Writer

logger = logging.getLogger("usage_middleware")

#: So many rounds may deliver what another process has left.
MOST_ROUNDS = 30


class Sender:
    """Numbers one worker's calls, writes them to the journal, sends them, and keeps them until Redis has them.

    Calls are numbered only once: after `accept` they are parked or in the outbox, and they leave it when Redis has acknowledged
    them. Used under the flusher's lock.

    Attributes:
        outbox: calls with a number, or about to get one.
        parked: calls without a number.
        error: why Redis could not be written in this round, if it could not.
        journal_error: why the journal could be neither written nor removed, if it could not. Nothing is sent then.
    """

    def __init__(
        self,
        writer: Writer,
        options: DeliveryOptions,
        callers: Callers,
        count_error: CountError,
        status: OwnStatus,
        journal: Journal | None = None,
    ) -> None:
        self._writer = writer
        self._options = options
        self._callers = callers
        self._count_error = count_error
        self._status = status
        self._journal = journal
        self.outbox = Outbox(writer.schema, replicated=options.wait_replicas > 0)
        self._chunks = ChunkSender(writer, options, callers, self.outbox, status)
        self.parked = Parked()
        self._has_new_calls = False
        self.error = self.journal_error = ""

    def begin(self) -> bool:
        """Begin a round; False if nothing may be sent, because the journal lacks something."""
        self.error = self.journal_error = ""
        self._chunks.begin()
        return self._repair_journal()

    def resend(self) -> bool:
        """Send again what Redis has lost and what it has not acknowledged; False if Redis can't be written."""
        self.error = self._chunks.verify() or self.error
        return self._send()

    def _send(self) -> bool:
        error = self._chunks.send(sealing=self._journal is None)
        self.error = error or self.error
        return not error or self._writer.is_cluster

    def accept(self, batch: Batch, *, asking: bool = True) -> None:
        """Put calls and the parked ones into the outbox. Calls of unknown callers stay parked.

        Args:
            batch: calls that the aggregate held.
            asking: False does not ask the key directory who called.
        """
        self._has_new_calls = bool(batch.cells)
        self.parked.park(batch.cells, batch.dropped)
        cells, dropped, _ = self.parked.drain()
        cells = self._admit(cells, dropped, asking=asking)
        who = None
        if asking:
            who = self._callers.find(cells, dropped)
            self.error = self._callers.error or self.error
            self._status.key_store_error = self._callers.store_error
        self._callers.note_names({key.caller for key in cells if isinstance(key.caller, tuple)})
        left, conflicting = put(cells, who, self.outbox)
        self._status.conflicting += conflicting
        self.parked.park(left, {})
        self._drop(dropped, who or {})

    def _admit(self, cells: Cells, dropped: dict[CallerId, int], *, asking: bool) -> Cells:
        """Put calls of organisations without a tree under `(other)`; those that nobody could be asked about stay parked."""
        cells, waiting, refused = self._callers.admission.sort(cells, dropped, asking=asking)
        self.parked.park(waiting, {})
        self._status.refused += refused
        if self._writer.schema.settings.operator_tree:
            return cells
        others = calls_in({key: cells.pop(key) for key in list(cells) if key.owner[0] == OTHER})
        if others:
            self.drop(OTHER, others)
        return cells

    def drop(self, org: str, calls: int) -> None:
        """Note in the status that calls will never be counted."""
        self._chunks.drop(org, calls)

    def _drop(self, dropped: dict[CallerId, int], who: Resolved) -> None:
        """Count dropped calls for whoever called; those of credentials that nobody could be asked about stay parked."""
        for caller, calls in dropped.items():
            org = organisation_of(caller, who) if isinstance(caller, bytes) else self._callers.admission.place(caller[0])
            if org is None:
                self.parked.park({}, {caller: calls})
                continue
            self.outbox.drop(org, calls)
            if org == OPERATOR:
                self._status.dropped_unresolved += calls
            else:
                self.drop(org, calls)

    def flush(self) -> bool:
        """Send what was accepted; True when Redis has acknowledged everything."""
        if self._journal is not None:
            self._on_disk(self.write_ahead)
            if not self._repair_journal():
                return False
        self._send()
        self._chunks.confirm()
        if self._chunks.make_room(dropping=not self.error or self._writer.is_cluster) and self._journal is not None:
            self._journal.broken = True
        self.note_acks()
        if not self.is_settled:
            return False
        self.outbox.tidy()
        return True

    def deliver(self) -> bool:
        """Send what was accepted in as many rounds as help; True when Redis has everything, and enough replicas too."""
        for _ in range(MOST_ROUNDS):
            before = self._chunks.progress
            self.begin()
            self.resend()
            if self.outbox.settled or self.error or self._chunks.progress == before:
                break
        self._chunks.confirm()
        return self.outbox.settled and self.outbox.confirmed

    def park(self, batch: Batch) -> None:
        """Keep calls while Redis is away: on disk with a journal, and in less memory if it runs short."""
        cells, dropped, _ = batch
        if self._journal is not None and (cells or dropped):
            self._drop(dropped, {})
            unsent = {queue.org: queue.dropped for queue in self.outbox.queues() if queue.dropped}
            self._on_disk(lambda journal: journal.note([], cells, unsent, replaces=False))
            dropped = {}
        self.parked.park(cells, dropped)
        slot_seconds = self._writer.schema.layers.middle.seconds
        if (
            self.parked.fold(self._options.backlog_bytes // 2, slot_seconds, int(self._options.clock()))
            and self._journal is not None
        ):
            self._journal.broken = True

    @property
    def has_journal(self) -> bool:
        """Whether calls are on disk before they are sent."""
        return self._journal is not None

    def put_aside(self, spool: Spool, batch: Batch) -> None:
        """At the end, while Redis is away: put everything on disk, and go on with a journal."""
        self.accept(batch, asking=False)
        self._chunks.seal()
        if self._journal is None:
            self._journal = Journal(spool, self._status.worker)
        self._on_disk(self._rewrite)

    def hand_over(self, spool: Spool, batch: Batch) -> bool:
        """At the end: put everything that is not acknowledged on disk, for the next process. False if the disk fails."""
        self.accept(batch, asking=False)
        unresolved, self.parked.dropped = sum(self.parked.dropped.values()), {}
        self._drop({(OPERATOR, ""): unresolved} if unresolved else {}, {})
        self._chunks.seal()
        calls = self.calls
        try:
            journal = self._journal or Journal(spool, self._status.worker)
            lost = journal.hand_over(self.outbox, self.parked.cells)
        except OSError:
            self._count_error("spool")
            return False
        logger.warning("usage: Redis is away; %d calls are left to the next process, in %s", calls - lost, spool.directory)
        if lost:
            logger.error("usage: %d calls are dropped, because the spool is full; see the option backlog_bytes", lost)
        return True

    def retire(self) -> bool:
        """Leave nothing in Redis and on disk. Call it when all is settled.

        False if the journal can't be removed, or Redis has lost something of the last seconds, which is to be sent again.
        """
        error = self._chunks.verify(old=inf)
        if not (self.outbox.settled and self._remove_journal()):
            return False
        # A chunk without an answer may still arrive, and must then find this worker's mark.
        marks = [] if self._chunks.silent else self.outbox.organisations()
        try:
            if not error:
                self._writer.forget(self._status.worker, marks)
        except Exception as raised:  # A client that is closed meanwhile may raise anything.
            error = repr(raised)
        if error:
            logger.debug("usage: this worker's marks stay in Redis until they expire: %s", error)
        return True

    # The journal

    def write_ahead(self, journal: Journal) -> None:
        """Number everything, and have it on disk before any of it is sent.

        Raises:
            OSError: it is not on disk, and must not be sent.
        """
        chunks = self._chunks.seal()
        if journal.needs_rewriting:
            self._rewrite(journal)
        elif chunks or self._has_new_calls:
            journal.note(chunks, self.parked.cells, {}, replaces=True)

    def _repair_journal(self) -> bool:
        """Rewrite a journal that lacks something, or remove it: with it, calls could be counted twice."""
        if self._journal is None or not self._journal.broken:
            return True
        return self._on_disk(self._rewrite) or self._remove_journal()

    def _rewrite(self, journal: Journal) -> None:
        journal.rewrite(self.outbox, self.parked.cells)

    def note_acks(self) -> None:
        """Write down what Redis has acknowledged."""
        self._on_disk(lambda journal: journal.note_acks(self.outbox))

    def _remove_journal(self) -> bool:
        if self._on_disk(Journal.remove):
            return True
        self.journal_error = f"the journal in {self._options.spool} can be neither written nor removed"
        return False

    def _on_disk(self, step: Callable[[Journal], None]) -> bool:
        try:
            if self._journal is not None:
                step(self._journal)
        except OSError:
            self._count_error("journal")
            return False
        return True

    def settle(self) -> None:
        """Tell Redis that this worker, which has ended, owes nothing any more."""
        try:
            self._writer.settle(self._status.worker)
        except redis_errors() as error:
            logger.debug("usage: a worker that ended stays among those that owe calls, for some days: %s", error)

    # What is left

    @property
    def is_settled(self) -> bool:
        """True when Redis has acknowledged everything, drops included."""
        return not self.parked and self.outbox.settled

    @property
    def is_unused(self) -> bool:
        """True while its worker's name stands nowhere: not in Redis, and not on disk."""
        return self.is_settled and not self.outbox.organisations()

    @property
    def calls(self) -> int:
        """How many calls are not acknowledged."""
        return self.outbox.calls + self.parked.calls

    @property
    def pending_bytes(self) -> int:
        """About how much of that is of credentials that nobody could be asked about yet."""
        return self.parked.bytes_of_pending(self._callers.known)

    @property
    def bytes(self) -> int:
        """About how much memory they take, with what is kept in case Redis loses it."""
        return self.outbox.bytes + self.parked.bytes
