"""One flush: take the aggregate out, find out who called, send chunks until each is acknowledged."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from importlib.metadata import PackageNotFoundError, version

from usage_middleware.record.aggregate import Aggregate, Batch, Caller, folded, organisation
from usage_middleware.record.outbox import RETAINED_SECONDS, Box, Outbox, Refusals, row_of
from usage_middleware.settings import DEFAULT_ORG
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.expand import dimensions_of, substitute
from usage_middleware.store.schema import ANONYMOUS, OPERATOR, OTHER, Schema
from usage_middleware.store.writer import TROUBLES, Answer, Disagreement, Outcome, Writer

logger = logging.getLogger("usage_middleware")

#: digest -> (organisation, key, whether the directory knows it)
Resolve = Callable[[Collection[bytes]], dict[bytes, tuple[str, str, bool]]]
#: (organisation, ids) -> those that are keys of the directory
KnownKeys = Callable[[str, Collection[str]], Collection[str]]
#: Counts and logs an error of ours.
Lost = Callable[[str], None]

#: A chunk that Redis refuses so often for its own sake is set aside.
MOST_FAULTS = 3
#: One that gets no answer so often, while the same server answers something else, too: it must be the chunk.
MOST_SILENCES = 30
#: For so many organisations dropped calls are told apart in `dropped`.
MOST_ORGANISATIONS = 1_000
#: For so long a fork waits for a flush.
HOLD_SECONDS = 0.2


def nobody(org: str, ids: Collection[str]) -> Collection[str]:
    """A directory that knows no key."""
    return ()


class Flusher:
    """Delivers what an aggregate holds, each call once. `flush` may be called from any thread.

    Attributes:
        worker: 128 random bits; new in the child of a fork and after `renew`.
        state: `ok`, `away` (Redis can't be written now) or `refused` (Redis holds another shape of counters).
        reason: why, unless it is ok.
        flushed_through_ms: all that this worker finished before then is acknowledged.
        dropped: calls that will never be counted, by organisation.
    """

    def __init__(
        self,
        writer: Writer,
        aggregate: Aggregate,
        *,
        resolve: Resolve,
        known_keys: KnownKeys,
        lost: Lost,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._writer = writer
        self._schema: Schema = writer.schema
        self._aggregate = aggregate
        self._resolve = resolve
        self._known_keys = known_keys
        self._lost = lost
        self._clock = clock
        self._monotonic = monotonic
        self.reset()

    def reset(self) -> None:
        """Begin as a new worker with nothing on its way, whatever lock another thread held when this process forked."""
        self._lock = threading.Lock()
        self.state = "ok"
        self.reason = ""
        self.flushed_through_ms = 0
        self.dropped: dict[str, int] = {}
        self.retries = self.refused = self.in_the_way = 0
        self._unacknowledged = 0
        self._trouble = ""
        self._tried: set[str] = set()
        self._beaten = False
        self._folded_at = 0
        self._refusals = Refusals()
        self._renew()

    def _renew(self) -> None:
        self.worker = secrets.token_hex(16)
        self.outbox = Outbox(self._schema)

    def flush(self) -> bool:
        """Send what there is; True when everything recorded before this call is acknowledged."""
        with self._lock:
            self._trouble = ""
            self._tried = set()
            settled = self._flush()
            self._weigh()
            self._beat()
        return settled

    def begin(self) -> None:
        """Call it before the first call is recorded: all that finished here before is counted, there was nothing."""
        if not self.has_news:
            self.flushed_through_ms = int(self._clock() * 1000)

    def announce(self) -> None:
        """Let readers know that this worker exists and may hold calls."""
        with self._lock:
            if self._agreed():
                self._beat()

    def hold(self) -> bool:
        """Wait a moment for a flush that is under way, and keep others from beginning; False if it takes longer."""
        return self._lock.acquire(timeout=HOLD_SECONDS)

    def let_go(self) -> None:
        """After `hold`."""
        self._lock.release()

    def _flush(self) -> bool:
        if not self._can_write():
            self._fold()
            return False
        batch = self._aggregate.drain()
        complete = self._sort(batch)
        self._send()
        self._make_room()
        if not complete or not self.outbox.settled:
            return False
        self.flushed_through_ms = batch.until_ms
        self.outbox.tidy()
        return True

    def finish(self) -> None:
        """Leave nothing behind in Redis, and go on as a new worker if there is more to do. Call it when all is settled."""
        with self._lock:
            if not self._beaten:
                return
            try:
                self._writer.forget(self.worker, self.outbox.organisations())
            except TROUBLES as error:
                logger.debug("usage: the marks of this worker stay until they expire: %s", error)
            self._renew()
            self._beaten = False
            self._weigh()

    def _can_write(self) -> bool:
        if not self._agreed():
            return False
        self._verify()
        return self._send()

    def _agreed(self) -> bool:
        """Whether there is a server to write to that holds what we write."""
        try:
            self._writer.agree(int(self._clock() * 1000))
        except Disagreement as error:
            self._refuse(str(error))
            return False
        except TROUBLES as error:
            self._gone(str(error))
            # In a cluster the node of `{*}` may be away alone; what is there was agreed before.
            return bool(self.outbox.organisations()) and self._writer.is_cluster
        return True

    def _weigh(self) -> None:
        self._aggregate.elsewhere = self.outbox.bytes
        self._unacknowledged = self.outbox.calls

    # Who called

    def _sort(self, batch: Batch) -> bool:
        who = self._callers(batch)
        unresolved = {}
        for key, cell in batch.cells.items():
            minute, caller, endpoint, tags, status = key
            if isinstance(caller, bytes):
                if who is None:
                    unresolved[key] = cell
                    continue
                caller = _caller(who[caller], status)
            self.outbox.put(row_of(minute, *caller, endpoint, tags, status, cell))
        self._count_drops(batch, who or {})
        if unresolved:
            self._aggregate.put_back(unresolved, {})
        self._weigh()
        return not unresolved

    def _callers(self, batch: Batch) -> dict[bytes, tuple[str, str, bool]] | None:
        callers: set[Caller] = {key[1] for key in batch.cells} | set(batch.dropped)
        digests = {caller for caller in callers if isinstance(caller, bytes)}
        if not digests:
            return {}
        try:
            return self._resolve(digests)
        except TROUBLES as error:
            self._gone(str(error))
        except Exception:  # A directory of the application's own may raise anything.
            self._lost("resolve")
        return None

    def _count_drops(self, batch: Batch, who: dict[bytes, tuple[str, str, bool]]) -> None:
        for caller, calls in batch.dropped.items():
            org = who[caller][0] if isinstance(caller, bytes) and caller in who else organisation(caller)
            self.outbox.drop(org, calls)
            self._note_drop(org, calls)

    def _note_drop(self, org: str, calls: int) -> None:
        if not calls or (org == OPERATOR and self._schema.settings.operator_tree):
            return
        name = org if org in self.dropped or len(self.dropped) < MOST_ORGANISATIONS else OTHER
        self.dropped[name] = self.dropped.get(name, 0) + calls

    def _fold(self) -> None:
        """While Redis is away: the minutes of a half-hour become one, if memory runs short."""
        minute = int(self._clock()) // 60
        if self._aggregate.bytes < self._aggregate.limit // 2 or self._folded_at == minute:
            return
        self._folded_at = minute
        batch = self._aggregate.drain()
        self._aggregate.put_back(folded(batch.cells, self._schema.layers.middle.seconds, int(self._clock())), batch.dropped)

    def _make_room(self) -> None:
        """What can't be written, while the rest can, must not take the room of all; what is only kept for safety goes first."""
        for box in self._largest():
            box.forget()
        if self._trouble and not self._writer.is_cluster:
            return
        for box in self._largest():
            self._note_drop(box.org, box.shed())

    def _largest(self) -> Iterator[Box]:
        """The largest boxes first, as long as all of them take more than half of the bound."""
        for box in sorted(self.outbox.boxes(), key=lambda box: box.bytes, reverse=True):
            if self.outbox.bytes < self._aggregate.limit // 2:
                return
            yield box

    # Sending

    def _send(self) -> bool:
        """Send all chunks; False when it is no use to go on."""
        down: set[str] = set()
        for box in self.outbox.boxes():
            if not box.has_news or box.org in self._tried:
                continue
            node = self._writer.node_of(box.org)
            if node not in down and not self._reaches(box):
                down.add(node)
        if not self._trouble:
            self._back()
        # The nodes of a cluster that do answer must not wait for the one that doesn't.
        return not down or self._writer.is_cluster

    def _reaches(self, box: Box) -> bool:
        answer = self._deliver(box)
        if answer.outcome not in (Outcome.AWAY, Outcome.SILENT):
            return True
        if answer.outcome is Outcome.SILENT and self._is_the_chunk(box):
            return True
        self._gone(answer.reason)
        return False

    def _deliver(self, box: Box) -> Answer:
        """Send a box's chunks in order until one can't be; the last answer."""
        if not box.pending:
            self._note_drop(box.org, box.seal(int(self._clock())))
        exempt: set[str] = set()
        for _ in range(2 * len(box.pending) + 2 * len(box.retained) + 8):
            if not box.pending:
                break
            chunk = self._without_refused(box, exempt)
            answer = self._writer.send(self.worker, chunk, box.acked, self._clock(), exempt)
            if answer.outcome is Outcome.COUNTED:
                self.in_the_way += answer.in_the_way
                box.acknowledge(self._monotonic())
            elif answer.outcome is Outcome.GAP:
                box.rewind(answer.last)
            elif answer.outcome is Outcome.FULL:
                exempt |= self._full(box, answer)
            else:
                self._failed(box, answer)
                return answer
        return Answer(Outcome.COUNTED)

    def _failed(self, box: Box, answer: Answer) -> None:
        self.retries += 1
        self._tried.add(box.org)
        if answer.outcome is Outcome.FAULT:
            self._fault(box, answer.reason, MOST_FAULTS)
        elif answer.outcome is Outcome.LATER:
            logger.debug("usage: %s can't be written now: %s", box.org, answer.reason)

    def _fault(self, box: Box, reason: str, most: int) -> None:
        box.failures += 1
        if box.failures < most:
            return
        calls = box.give_up()
        self._note_drop(box.org, calls)
        logger.error("usage: %d calls of %s are dropped, their chunk failed %d times: %s", calls, box.org, most, reason)

    def _is_the_chunk(self, box: Box) -> bool:
        """After silence: True when the server does answer something else, so that others may be sent."""
        try:
            last = self._writer.applied(self.worker, [box.org])[box.org]
        except TROUBLES:
            return False
        if box.pending and last < box.pending[0].number:
            self._fault(box, "no answer", MOST_SILENCES)
        return True

    def _without_refused(self, box: Box, exempt: set[str]) -> Chunk:
        chunk, now = box.pending[0], self._monotonic()
        if not self._refusals:
            return chunk
        names = _members(self._schema, chunk)
        refused = {dimension: self._refusals.of(box.org, dimension, found, now) for dimension, found in names.items()}
        refused["key"] = refused.get("key", set()) - exempt
        if any(refused.values()):
            chunk = substitute(self._schema, chunk, refused)
            box.change(chunk)
        return chunk

    def _full(self, box: Box, answer: Answer) -> set[str]:
        """Remember what the cap refused; keys of the directory are always let in."""
        now, exempt = self._monotonic(), set[str]()
        for dimension, names in answer.refused.items():
            known = self._known(box.org, names) if dimension == "key" else set[str]()
            exempt |= known
            refused = set(names) - known
            self.refused += len(refused)
            self._refusals.remember(box.org, dimension, refused, now)
        return exempt

    def _known(self, org: str, names: Collection[str]) -> set[str]:
        try:
            return set(self._known_keys(org, names)) & set(names)
        except Exception:  # A directory of the application's own may raise anything.
            self._lost("known_keys")
            return set()

    def _verify(self) -> None:
        """Before acknowledged chunks are let go: does Redis still have them?"""
        old = self._monotonic() - RETAINED_SECONDS
        boxes = {box.org: box for box in self.outbox.boxes() if box.retained and box.retained[0][0] <= old}
        if not boxes:
            return
        try:
            found = self._writer.applied(self.worker, boxes)
        except TROUBLES:
            return
        for org, last in found.items():
            if last < boxes[org].acked:
                boxes[org].rewind(last)
            else:
                boxes[org].release(self._monotonic())

    # How it goes

    def _gone(self, reason: str) -> None:
        if self.state != "away":
            logger.warning("usage: Redis can't be written, calls are kept in memory meanwhile: %s", reason)
        self.state, self.reason = "away", reason
        self._trouble = reason

    def _refuse(self, reason: str) -> None:
        if self.state != "refused":
            logger.error("usage: nothing is written: %s", reason)
        self.state, self.reason = "refused", reason

    def _back(self) -> None:
        if self.state != "ok":
            logger.warning("usage: Redis is written again")
        self.state, self.reason = "ok", ""

    def _beat(self) -> None:
        if self.state == "refused":
            return
        now_ms = int(self._clock() * 1000)
        try:
            self._writer.beat(self.worker, self._facts(now_ms), now_ms)
            self._beaten = True
        except TROUBLES as error:
            self._gone(str(error))

    def _facts(self, now_ms: int) -> dict[str, str | int]:
        return {
            "flushed_through_ms": self.flushed_through_ms,
            "beat_ms": now_ms,
            "backlog_calls": self.backlog_calls,
            "backlog_bytes": self.backlog_bytes,
            "dropped": sum(self.dropped.values()),
            "retries": self.retries,
            "refused": self.refused,
            "in_the_way": self.in_the_way,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "version": _version(),
        }

    @property
    def has_news(self) -> bool:
        """True while something is not acknowledged, be it only that calls were dropped."""
        return self._aggregate.has_news or not self.outbox.settled

    @property
    def backlog_calls(self) -> int:
        """Calls that are recorded and not acknowledged."""
        return self._aggregate.calls + self._unacknowledged

    @property
    def backlog_bytes(self) -> int:
        """About what they take in memory, with what is kept for a Redis that forgets."""
        return self._aggregate.bytes + self._aggregate.elsewhere


def _caller(resolved: tuple[str, str, bool], status: int) -> tuple[str, str]:
    org, key, known = resolved
    return (org, key) if known or status not in (401, 403) else (DEFAULT_ORG, ANONYMOUS)


def _members(schema: Schema, chunk: Chunk) -> dict[str, set[str]]:
    endpoint, who, *declared = dimensions_of(schema, chunk.org)
    names = {endpoint: {row.endpoint for row in chunk.rows}}
    names[who] = {row.org if who == "org" else row.key for row in chunk.rows}
    for place, dimension in enumerate(declared):
        names[dimension] = {row.tags[place] for row in chunk.rows}
    return names


def _version() -> str:
    try:
        return version("usage-middleware")
    except PackageNotFoundError:
        return "unknown"
