"""Sends an outbox's chunks until Redis acknowledges them. An organisation that can't be written holds up no other."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from usage_middleware.options import DeliveryOptions
from usage_middleware.record.attribution import Callers
from usage_middleware.record.outbox import RETAINED_SECONDS, Moment, OrgQueue, Outbox
from usage_middleware.record.overflow import OverflowCache
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.driver_errors import reason, redis_errors
from usage_middleware.store.members import OPERATOR
from usage_middleware.store.worker_status import OwnStatus
from usage_middleware.store.writer import Outcome, SendResult, Writer

logger = logging.getLogger("usage_middleware")

#: A chunk that Redis refuses this often is dropped.
MOST_FAULTS = 3
#: After so many silences in a row to one chunk, while the server answers something smaller, chunks are sent in parts: on some
#: paths small packets pass and large ones vanish. No chunk is dropped for it: silence says nothing about a chunk.
PARTS_AFTER = 2
#: For so long they are; then one is tried whole again.
PARTS_SECONDS = 300.0
_NO_WAY = "no answer to their calls, though Redis answers smaller commands; check the path to it, and its MTU"


class ChunkSender:
    """Sends the chunks of one worker's outbox, in the order of their numbers.

    Attributes:
        silent: True once a chunk got no answer: it may still arrive.
    """

    def __init__(self, writer: Writer, options: DeliveryOptions, callers: Callers, outbox: Outbox, status: OwnStatus) -> None:
        self._writer = writer
        self._options = options
        self._callers = callers
        self._outbox = outbox
        self._status = status
        self._overflow = OverflowCache(options.monotonic)
        self._failed: set[str] = set()
        #: Until when chunks are sent in parts, by node.
        self._parts_until: dict[str, float] = {}
        self.silent = False

    def begin(self) -> None:
        """Begin a round: organisations that failed in the last one are tried again, once."""
        self._failed = set()

    def seal(self) -> list[Chunk]:
        """Number everything that waits; the new chunks."""
        chunks: list[Chunk] = []
        for queue in self._outbox.queues():
            before = len(queue.pending)
            self._seal(queue)
            chunks += list(queue.pending)[before:]
        return chunks

    def _now(self) -> Moment:
        return Moment(self._options.clock(), self._options.monotonic())

    def _seal(self, queue: OrgQueue) -> None:
        self.drop(queue.org, queue.seal(int(self._options.clock())))

    def send(self, *, sealing: bool) -> str:
        """Send all chunks; why a node could not be written, if there is one.

        Args:
            sealing: number what waits, where nothing that is numbered waits before it.
        """
        down: dict[str, str] = {}
        for queue in self._outbox.queues():
            if not queue.has_news or queue.org in self._failed:
                continue
            # In a cluster, the nodes that answer don't wait for one that doesn't.
            node = self._writer.node_of(queue.org)
            if node not in down:
                if sealing and not queue.pending:
                    self._seal(queue)
                error = self._send(queue, node)
                if error:
                    down[node] = error
        return next(iter(down.values()), "")

    def _send(self, queue: OrgQueue, node: str) -> str:
        """Send an organisation's chunks; why its node can't be written, if it can't."""
        in_parts = self._parts_until.get(node, 0.0) > self._options.monotonic()
        answer = self._send_in_order(queue, in_parts=in_parts)
        if answer.outcome is Outcome.AWAY or (answer.outcome is Outcome.SILENT and not self._answers(queue, node)):
            return answer.reason
        return ""

    def _send_in_order(self, queue: OrgQueue, *, in_parts: bool) -> SendResult:
        """Send chunks until one can't be; the last answer."""
        exempt: set[str] = set()
        for _ in range(2 * len(queue.pending) + 2 * len(queue.retained) + 8):
            if not queue.pending:
                break
            chunk = self._overflow.apply(self._writer.schema, queue.pending[0], exempt)
            queue.change(chunk)
            now = self._now()
            worker, acked, doubt = self._status.worker, queue.acked, queue.doubt(now)
            sealed = None if self._outbox.is_from_file else queue.sealed
            answer = self._writer.send(worker, chunk, acked, now.wall, exempt, doubt=doubt, sealed=sealed, in_parts=in_parts)
            if answer.outcome is Outcome.COUNTED:
                self._acknowledge(queue, answer)
            elif answer.outcome is Outcome.GAP:
                queue.rewind(answer.last, now)
            elif answer.outcome is Outcome.FULL:
                exempt |= self._refuse(queue, answer)
            elif answer.outcome is Outcome.UNSURE:
                self._give_up(queue, queue.give_up_doubtful(), "Redis has lost this worker's mark: they may have been counted")
            else:
                self._fail(queue, answer)
                return answer
        return SendResult(Outcome.COUNTED)

    def _acknowledge(self, queue: OrgQueue, answer: SendResult) -> None:
        self._status.wrong_type += answer.wrong_type
        queue.acknowledge(self._now())
        self._options.counted(queue.org)
        if self._status.blocked.pop(queue.org, None) is not None and not self._status.blocked:
            logger.warning("usage: every organisation can be written again")

    def _refuse(self, queue: OrgQueue, answer: SendResult) -> set[str]:
        """Remember which members the cap refused; those that are keys of the directory, which no cap holds for."""
        exempt = set[str]()
        for dimension, names in answer.refused.items():
            known = self._callers.known_keys(queue.org, names) if dimension == "key" else set[str]()
            exempt |= known
            refused = set(names) - known
            self._status.refused += len(refused)
            self._overflow.remember(queue.org, dimension, refused)
        return exempt

    def _fail(self, queue: OrgQueue, answer: SendResult) -> None:
        self._status.retries += 1
        self._failed.add(queue.org)
        if answer.outcome is Outcome.SILENT:
            self.silent = True
            queue.unanswered(self._now())
        elif answer.outcome is Outcome.FAULT:
            self._fault(queue, answer.reason)
        elif answer.outcome is Outcome.LATER:
            self._block(queue, answer.reason)

    def _block(self, queue: OrgQueue, reason: str) -> None:
        if not self._status.blocked:
            logger.warning(
                "usage: %s can't be written now, and perhaps other organisations; their calls are kept: %s", queue.org, reason
            )
        self._status.block(queue.org, reason)

    def _fault(self, queue: OrgQueue, reason: str) -> None:
        queue.failures += 1
        if queue.failures >= MOST_FAULTS:
            self._give_up(queue, queue.give_up(), f"their chunk failed {MOST_FAULTS} times: {reason}")

    def _give_up(self, queue: OrgQueue, calls: int, why: str) -> None:
        self.drop(queue.org, calls)
        logger.error("usage: %d calls of %s are dropped, %s", calls, queue.org, why)

    def _answers(self, queue: OrgQueue, node: str) -> bool:
        """After a silence: whether the server answers something smaller. Then chunks are sent in parts before long."""
        try:
            last = self._writer.marks(self._status.worker, [queue.org])[queue.org].number or 0
        except redis_errors():
            return False
        if queue.pending and last < queue.pending[0].number:
            queue.silences += 1
            if queue.silences >= PARTS_AFTER:
                self._parts_until[node] = self._options.monotonic() + PARTS_SECONDS
            if queue.silences > PARTS_AFTER:
                self._block(queue, _NO_WAY)
        return True

    @property
    def progress(self) -> tuple[int, int]:
        """Changes while chunks that Redis refuses are tried again or dropped."""
        tries = sum(queue.failures + min(queue.silences, PARTS_AFTER) for queue in self._outbox.queues())
        return tries, sum(self._status.dropped.values())

    def verify(self, old: float | None = None) -> str:
        """Ask whether Redis still has what it acknowledged 10 s ago: release that, or send it again. The error, if any.

        `old` asks for what it acknowledged until then, by the clock that never jumps.

        A primary that is cut off from its replicas may answer and refuse to be written. What it has may be lost when a replica
        takes over, so nothing is released until Redis can be written again.
        """
        old = self._options.monotonic() - RETAINED_SECONDS if old is None else old
        queues = {queue.org: queue for queue in self._outbox.queues() if queue.retained and queue.retained[0][0] <= old}
        if not queues:
            return ""
        try:
            found = self._writer.marks(self._status.worker, queues)
        except redis_errors() as error:
            return reason(error)
        for org, mark in found.items():
            queue, last = queues[org], mark.number or 0
            if last < queue.acked and not mark.is_lost:
                queue.rewind(last, self._now())
            elif self._status.state == "ok":
                queue.release(self._options.monotonic())
        return ""

    def confirm(self) -> None:
        """Ask replicas to confirm what was acknowledged. It is kept until enough of them do."""
        nodes: dict[str, list[OrgQueue]] = {}
        for queue in self._outbox.queues():
            if queue.confirmed is not None and queue.confirmed < queue.acked:
                nodes.setdefault(self._writer.node_of(queue.org), []).append(queue)
        for queues in nodes.values():
            if not self._writer.replicated(self._status.worker, queues[0].org, self._options.wait_replicas):
                self._status.unreplicated += 1
                continue
            for queue in queues:
                queue.confirmed = queue.acked

    def make_room(self, *, dropping: bool) -> bool:
        """Keep the outbox within half of `backlog_bytes`; True if calls were dropped for it.

        Acknowledged chunks, kept in case Redis loses them, go first. Then, if `dropping`, calls that were never sent: an
        organisation that can't be written must not take the room of the others.
        """
        for queue in self._largest():
            queue.forget()
        dropped = False
        for queue in self._largest() if dropping else ():
            self.drop(queue.org, queue.shed())
            dropped = True
        return dropped

    def _largest(self) -> Iterator[OrgQueue]:
        """The largest queues first, while all of them together take too much."""
        for queue in sorted(self._outbox.queues(), key=lambda queue: queue.bytes, reverse=True):
            if self._outbox.bytes < self._options.backlog_bytes // 2:
                return
            yield queue

    def drop(self, org: str, calls: int) -> None:
        """Count calls that will never be counted. What the operator's tree lacks, an organisation lacks too."""
        if calls and not (org == OPERATOR and self._writer.schema.settings.operator_tree):
            self._status.drop(org, calls)
