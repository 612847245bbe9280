"""One flush: take the aggregate out, find out who called, have it sent; and tell how that goes."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Collection
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from usage_middleware.events import Cells, add_totals, calls_in, owner_of
from usage_middleware.record.aggregate import Aggregate, Batch, folded, size_of
from usage_middleware.record.attribution import Callers, Resolve, Resolved, put
from usage_middleware.record.journal import Journal
from usage_middleware.record.overflow import FindKnownKeys
from usage_middleware.record.recovery import Recovery
from usage_middleware.record.sender import CountError, Sender
from usage_middleware.record.spool import Spool
from usage_middleware.store.writer import SCRIPT_SHA, TROUBLES, Disagreement, Writer

logger = logging.getLogger("usage_middleware")

#: For so long a fork waits for a flush.
HOLD_SECONDS = 0.2
#: So often the spool is looked through, and the routes are told of again; seconds.
RECOVER_EVERY = 15.0
ROUTES_EVERY = 3600.0
MOST_ROUTES = 5_000


class Flusher:
    """Delivers what an aggregate holds, each call once. `flush` may be called from any thread.

    Attributes:
        sender: what is on its way, and the counts of what went wrong.
        state: `ok`, `away` (Redis can't be written now) or `refused` (Redis holds another shape of counters).
        reason: why, unless it is ok.
        spool: where calls are kept on disk; None: nowhere.
        skew_ms: how far this process's clock is ahead of Redis'; None while that is not known.
        flushed_through_ms: all that this worker finished before then is acknowledged.
    """

    def __init__(
        self,
        writer: Writer,
        aggregate: Aggregate,
        *,
        resolve: Resolve,
        known_keys: FindKnownKeys,
        count_error: CountError,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        spool: Spool | None = None,
        journal: bool = False,
        wait_replicas: int = 0,
        routes: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._writer = writer
        self._aggregate = aggregate
        self._callers = Callers(resolve, count_error)
        self._count_error = count_error
        self._clock = clock
        self._monotonic = monotonic
        self._routes = routes
        self.spool = spool
        self._new_sender = partial(
            Sender,
            writer,
            known_keys=known_keys,
            count_error=count_error,
            clock=clock,
            monotonic=monotonic,
            wait_replicas=wait_replicas,
        )
        self._new_journal = partial(Journal, spool) if spool is not None and journal else lambda worker: None
        self.reset()

    def reset(self) -> None:
        """Begin as a new worker with nothing on its way, whatever lock another thread held when this process forked."""
        self._lock = threading.Lock()
        if self.spool is not None:
            self.spool.forget()
            self.recovery = Recovery(self.spool, self._new_sender, self._callers, self._count_error)
        self.sender = self._new_sender(new_journal=self._new_journal)
        self.state = "ok"
        self.reason = ""
        self.flushed_through_ms = 0
        self.skew_ms: int | None = None
        #: Calls that are on disk, and have no number yet.
        self._held: Cells = {}
        self._held_calls = self._held_bytes = 0
        self._unacknowledged = 0
        self._beaten = False
        self._folded_at = 0
        self._recovered_at = self._told_routes_at = float("-inf")

    def add_up(self) -> None:
        """Read and add up the calls that wait for it."""
        self._aggregate.sum()

    def flush(self) -> bool:
        """Send what there is; True when everything recorded before this call is acknowledged."""
        with self._lock:
            self.sender.begin()
            settled = self._flush()
            self._weigh()
            self._heartbeat()
        return settled

    def begin(self) -> None:
        """Call it before the first call says when it ended: all that ended here before is counted, there was nothing."""
        if not self._aggregate.has_sums and not self._held and self.sender.outbox.settled:
            self.flushed_through_ms = int(self._clock() * 1000)

    def announce(self) -> None:
        """Let readers know that this worker exists and may hold calls."""
        with self._lock:
            if self._schema_fits():
                self._heartbeat()

    def hold(self) -> bool:
        """Wait a moment for a flush that is under way, and keep others from beginning; False if it takes longer."""
        return self._lock.acquire(timeout=HOLD_SECONDS)

    def let_go(self) -> None:
        """After `hold`."""
        self._lock.release()

    def _flush(self) -> bool:
        if not self._is_whole():
            return False
        if self.state == "away":
            # A Redis that hangs takes seconds to say nothing: what came in since is on disk before.
            self._keep()
        if not self._can_write():
            self._keep()
            return False
        batch = self._aggregate.drain()
        complete = self._sort(batch)
        if not self._write_down(batch):
            return False
        self._send()
        self.sender.confirm()
        self.sender.make_room(self._aggregate.limit // 2)
        self._note_acks()
        if not complete or not self.sender.outbox.settled:
            return False
        self.flushed_through_ms = batch.until_ms
        self.sender.outbox.tidy()
        self._tell_routes()
        return True

    def finish(self) -> None:
        """Leave nothing behind in Redis, and go on as a new worker if there is more to do. Call it when all is settled."""
        with self._lock:
            if not self._beaten or not self._removed_journal():
                return
            # A chunk that got no answer may still arrive: the mark must then be there.
            marks = [] if self.sender.silent else self.sender.outbox.organisations()
            try:
                self._writer.forget(self.sender.worker, marks)
            except Exception as error:  # Also what a client raises that is closed meanwhile; the marks are not worth more.
                logger.debug("usage: the marks of this worker stay until they expire: %s", error)
            self._renew()

    def _renew(self) -> None:
        self.sender.renew()
        self._hold({})
        self._beaten = False
        self._weigh()

    def _can_write(self) -> bool:
        if not self._schema_fits():
            return False
        self.sender.verify()
        return self._send()

    def _send(self) -> bool:
        going_on = self.sender.send()
        if self.sender.trouble:
            self._gone(self.sender.trouble)
        else:
            self._back()
        return going_on

    def _schema_fits(self) -> bool:
        """Whether there is a server to write to that holds what we write."""
        try:
            self._writer.check_schema(int(self._clock() * 1000))
        except Disagreement as error:
            self._refuse(str(error))
            return False
        except TROUBLES as error:
            self.sender.trouble = str(error)
            self._gone(self.sender.trouble)
            # In a cluster the node of `{*}` may be away alone; what is there was agreed before.
            return bool(self.sender.outbox.organisations()) and self._writer.is_cluster
        return True

    def _weigh(self) -> None:
        self._aggregate.elsewhere = self.sender.outbox.bytes + self._held_bytes
        self._unacknowledged = self.sender.outbox.calls + self._held_calls

    # Who called

    def _sort(self, batch: Batch, *, ask: bool = True) -> bool:
        """Put what can be sent into the outbox; False if some must wait until it is known whose it is."""
        cells = self._with_held(batch.cells)
        callers = {key.caller for key in cells} | set(batch.dropped)
        who = self._callers.find(callers) if ask else None
        self.sender.trouble = self._callers.trouble or self.sender.trouble
        others = put(cells, who, self.sender.outbox)
        self._count_drops(batch, who or {})
        on_disk = self.sender.journal is not None or not ask
        self._hold(others if on_disk else {})
        if others and not on_disk:
            self._aggregate.put_back(others, {})
        self._weigh()
        return not others

    def _count_drops(self, batch: Batch, who: Resolved) -> None:
        for caller, calls in batch.dropped.items():
            org = who[caller][0] if isinstance(caller, bytes) and caller in who else owner_of(caller)[0]
            self.sender.outbox.drop(org, calls)
            self.sender.note_drop(org, calls)

    # What is on disk

    def _with_held(self, cells: Cells) -> Cells:
        for key, cell in self._held.items():
            add_totals(cells, key, cell)
        return cells

    def _hold(self, cells: Cells) -> None:
        self._held = cells
        self._held_calls = calls_in(cells)
        self._held_bytes = sum(size_of(key, len(cell.bins)) for key, cell in cells.items())

    def _write_down(self, batch: Batch) -> bool:
        """With a journal: number everything and have it on disk, before any of it is sent."""
        journal = self.sender.journal
        if journal is None:
            return True
        chunks = self.sender.seal()
        try:
            if journal.needs_rewriting:
                journal.rewrite(self.sender.outbox, self._held)
            elif chunks or batch.cells:
                journal.note(chunks, self._held, {}, replaces=True)
        except OSError:
            self._count_error("journal")
        return self._is_whole()

    def _is_whole(self) -> bool:
        """A journal that lacks something could have calls counted twice: it is written anew, or there is none."""
        journal = self.sender.journal
        if journal is None or not journal.broken:
            return True
        try:
            journal.rewrite(self.sender.outbox, self._held)
        except OSError:
            self._count_error("journal")
            return self._removed_journal()
        return True

    def _removed_journal(self) -> bool:
        try:
            if self.sender.journal is not None:
                self.sender.journal.remove()
        except OSError as error:
            self._count_error("journal")
            self._gone(f"the journal can't be written or removed: {error}")
            return False
        return True

    def _note_acks(self) -> None:
        try:
            if self.sender.journal is not None:
                self.sender.journal.note_acks(self.sender.outbox)
        except OSError:
            self._count_error("journal")

    def _keep(self) -> None:
        """While Redis is away: on disk with a journal, and in less memory if it runs short."""
        journal = self.sender.journal
        if journal is None:
            self._fold()
            return
        batch = self._aggregate.drain()
        if batch.cells or batch.dropped:
            self._count_drops(batch, {})
            dropped = {box.org: box.dropped for box in self.sender.outbox.queues() if box.dropped}
            try:
                journal.note([], batch.cells, dropped, replaces=False)
            except OSError:
                self._count_error("journal")
            self._hold(self._with_held(batch.cells))
        if self._should_fold(self._held_bytes):
            self._hold(self._folded(self._held))
            journal.broken = True
        self._weigh()

    def put_aside(self, timeout: float) -> bool:
        """At the end: put everything that is not acknowledged on disk, for the next process. False if it can't be."""
        if self.spool is None or not self._lock.acquire(timeout=timeout):
            return False
        try:
            return self._put_aside(self.sender.journal or Journal(self.spool, self.sender.worker))
        finally:
            self._lock.release()

    def _put_aside(self, journal: Journal) -> bool:
        self._sort(self._aggregate.drain(), ask=False)
        self.sender.seal()
        self._weigh()
        calls = self.backlog_calls
        try:
            lost = journal.leave(self.sender.outbox, self._held)
        except OSError:
            self._count_error("spool")
            return False
        logger.warning("usage: %d calls are left to the next process, in %s", calls - lost, self.spool_directory)
        if lost:
            logger.error("usage: %d calls are dropped, the spool is full (backlog_bytes)", lost)
        self._renew()
        return True

    def recover(self, going_on: Callable[[], bool], *, now: bool = False) -> None:
        """Send what processes left in the spool that are gone, every few seconds (or now), as long as `going_on` says so."""
        due = self._recovered_at + RECOVER_EVERY <= self._monotonic()
        if self.spool is None or not (due or now):
            return
        self._recovered_at = self._monotonic()
        send = self.state == "ok"
        for path in self.recovery.paths():
            if not going_on():
                return
            with self._lock:
                send = self.recovery.take(path, self.sender, send=send) and send

    def _fold(self) -> None:
        """While Redis is away: the minutes of a half-hour become one, if memory runs short."""
        if self._should_fold(self._aggregate.bytes):
            batch = self._aggregate.drain()
            self._aggregate.put_back(self._folded(batch.cells), batch.dropped)

    def _should_fold(self, size: int) -> bool:
        minute = int(self._clock()) // 60
        if size < self._aggregate.limit // 2 or self._folded_at == minute:
            return False
        self._folded_at = minute
        return True

    def _folded(self, cells: Cells) -> Cells:
        return folded(cells, self._writer.schema.layers.middle.seconds, int(self._clock()))

    def _tell_routes(self) -> None:
        """Every hour: the application's routes, for processes that only serve views."""
        if self._told_routes_at + ROUTES_EVERY > self._monotonic():
            return
        self._told_routes_at = self._monotonic()
        try:
            labels = list(self._routes())[:MOST_ROUTES]
            if labels:
                self._writer.publish_routes(labels, int(self._clock() * 1000))
        except TROUBLES as error:
            logger.debug("usage: the routes are not told of: %s", error)
        except Exception:  # An application's routes may be anything.
            self._count_error("routes")

    # How it goes

    def _gone(self, reason: str) -> None:
        if self.state != "away":
            logger.warning("usage: Redis can't be written, calls are kept in memory meanwhile: %s", reason)
        self.state, self.reason = "away", reason

    def _refuse(self, reason: str) -> None:
        if self.state != "refused":
            logger.error("usage: nothing is written: %s", reason)
        self.state, self.reason = "refused", reason

    def _back(self) -> None:
        if self.state != "ok":
            logger.warning("usage: Redis is written again")
            self._recovered_at = float("-inf")
        self.state, self.reason = "ok", ""

    def _heartbeat(self) -> None:
        if self.state == "refused" or (self.sender.trouble and not self._writer.is_cluster):
            return
        now_ms = int(self._clock() * 1000)
        self.skew_ms = self._writer.skew_ms(self._clock)
        try:
            self._writer.heartbeat(self.sender.worker, self._facts(now_ms), now_ms)
            self._beaten = True
        except TROUBLES as error:
            self._gone(str(error))

    def _facts(self, now_ms: int) -> dict[str, str | int]:
        return {
            "flushed_through_ms": self.flushed_through_ms,
            "beat_ms": now_ms,
            "backlog_calls": self.backlog_calls,
            "backlog_bytes": self.backlog_bytes,
            "dropped": sum(self.sender.dropped.values()),
            "retries": self.sender.retries,
            "refused": self.sender.refused,
            "in_the_way": self.sender.in_the_way,
            "unreplicated": self.sender.unreplicated,
            "held": len(self.sender.held),
            "held_reason": next(iter(self.sender.held.values()), ""),
            "spool_files": self.spool_files,
            "spool_calls": self.spool_calls,
            "skew_ms": "" if self.skew_ms is None else self.skew_ms,
            "script": SCRIPT_SHA,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "version": _version(),
        }

    @property
    def has_news(self) -> bool:
        """True while something is not acknowledged, be it only that calls were dropped."""
        return self._aggregate.has_news or bool(self._held) or not self.sender.outbox.settled

    @property
    def backlog_calls(self) -> int:
        """Calls that are recorded and not acknowledged."""
        return self._aggregate.calls + self._unacknowledged

    @property
    def backlog_bytes(self) -> int:
        """About what they take in memory, with what is kept for a Redis that forgets."""
        return self._aggregate.bytes + self._aggregate.elsewhere

    @property
    def spool_directory(self) -> Path | None:
        """Where calls are kept on disk."""
        return self.spool.directory if self.spool is not None else None

    @property
    def spool_files(self) -> int:
        """Files of processes that are gone, with calls in them."""
        return self.recovery.files if self.spool is not None else 0

    @property
    def spool_calls(self) -> int:
        """How many calls those are."""
        return self.recovery.calls if self.spool is not None else 0


@cache
def _version() -> str:
    try:
        return version("usage-middleware")
    except PackageNotFoundError:
        return "unknown"
