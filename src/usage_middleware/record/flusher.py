"""One flush: take the calls out of the aggregate, have them sent or parked, and tell Redis and the log how it goes."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from msgspec.structs import replace

from usage_middleware import fork
from usage_middleware.options import DeliveryOptions
from usage_middleware.record.aggregate import Aggregate
from usage_middleware.record.attribution import Callers, CountError
from usage_middleware.record.inquiry import MOST_PENDING, Inquiry
from usage_middleware.record.journal import Journal
from usage_middleware.record.notices import Notices
from usage_middleware.record.parked import with_drops
from usage_middleware.record.recovery import Recovery
from usage_middleware.record.sender import Sender
from usage_middleware.record.spool import Spool
from usage_middleware.store import deadline
from usage_middleware.store.driver_errors import reason, redis_errors
from usage_middleware.store.worker_status import OwnStatus
from usage_middleware.store.writer import SCRIPT, Disagreement, Writer

#: So long a fork waits for a flush that is not waiting for Redis, and so often it looks; seconds.
PAUSE_SECONDS, PAUSE_STEP = 0.2, 0.001
#: How often the spool is searched, and routes are published; seconds.
RECOVER_EVERY, ROUTES_EVERY = 15.0, 3600.0


class Flusher:
    """Delivers what an aggregate holds, each call once. `flush` may be called from any thread.

    Attributes:
        status: how this worker is doing. `snapshot` is up to date, this is as of the last flush.
        spool: where calls are kept on disk; None: nowhere.
        sender: the calls that are on their way.
    """

    def __init__(
        self,
        writer: Writer,
        aggregate: Aggregate,
        options: DeliveryOptions,
        callers: Callers,
        routes: Callable[[], Mapping[str, bool]],
        count_error: CountError,
    ) -> None:
        self._writer = writer
        self._aggregate = aggregate
        self._options = options
        self._routes = routes
        self._count_error = count_error
        self._inquiry = Inquiry(aggregate, callers, options.monotonic)
        self._new_sender = partial(Sender, writer, options, callers, count_error)
        self.spool = Spool(options, writer.schema.settings) if options.spool is not None else None
        self.reset()

    def reset(self) -> None:
        """Start as a new worker with nothing recorded, whatever lock another thread held when this process was forked."""
        self._lock = threading.Lock()
        self._owner = 0  # The thread that has the lock.
        self._recovery: Recovery | None = None
        if self.spool is not None:
            self.spool.after_fork_in_child()
            self._recovery = Recovery(self.spool, self._new_sender, self._count_error)
        self.status = OwnStatus(script=SCRIPT.sha, history=self._writer.schema.settings.history)
        self._disagreement, self._has_agreed = "", False
        self._notices = Notices(self._options.monotonic)
        self._announced = ""  # The worker whose status Redis has.
        self._began_ms = self._unacknowledged = 0
        self._recovered_at = self._published_at = float("-inf")
        self._renew()

    def _renew(self, began_ms: int | None = None) -> None:
        """Go on as a new worker with nothing on its way."""
        self._pid, self.status.worker = os.getpid(), secrets.token_hex(16)
        self._began_ms = self._now_ms() if began_ms is None else began_ms
        journal = Journal(self.spool, self.status.worker) if self.spool is not None and self._options.journal else None
        self.sender = self._new_sender(self.status, journal)

    def add_up(self) -> None:
        """Read and add up the calls that wait for it."""
        self._aggregate.sum()

    def ask_who_called(self) -> None:
        """Between two flushes: where many credentials are new, ask whose they are before they take more memory."""
        if self._aggregate.pending >= MOST_PENDING and self.is_ok:
            with self._alone():
                self._inquiry.ask()

    def begin(self) -> None:
        """Call it before the first call is recorded: until now there was nothing to count."""
        if not self._aggregate.has_sums and self.sender.is_settled:
            self.status.flushed_through_ms = self._now_ms()
        if self._announced != self.status.worker:
            self._began_ms = self._now_ms()

    def announce(self) -> None:
        """Let readers know that this worker exists and may hold calls. It gets its name now, which no other may have.

        The process may have been copied before: by a snapshot of its machine, or by a fork that Python was not told of.
        """
        with self._alone():
            if self._pid != os.getpid() or self.sender.is_unused:
                self._renew(self._began_ms)
            self._notices.spool(self.status, self.spool)
            if self._schema_fits():
                self._heartbeat()
            self._note_state()

    def flush(self) -> bool:
        """Send what there is; True when everything recorded before this call is acknowledged."""
        with self._alone():
            settled = self._flush()
            self._measure()
            self._heartbeat()
            self._note_state()
        return settled

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            TimeoutError: another thread flushes, and does not end in time.
        """
        # A fork in between makes a new one for the child.
        lock = self._lock
        with deadline.held(lock):
            self._owner = threading.get_ident()
            yield

    def _flush(self) -> bool:
        if not self.sender.begin():
            return False
        if self.status.state == "away":
            # A Redis that hangs takes seconds to fail. With a journal, new calls are on disk before that.
            self._park()
        if not (self._schema_fits() and self.sender.resend()):
            self._park()
            return False
        batch = self._aggregate.drain()
        self.sender.accept(batch)
        self._measure()
        if not self.sender.flush():
            return False
        self.status.flushed_through_ms = batch.until_ms
        self._publish_routes()
        return True

    def _park(self) -> None:
        self.sender.park(self._aggregate.drain())
        self._measure()

    def _measure(self) -> None:
        self._aggregate.elsewhere, self._aggregate.pending_elsewhere = self.sender.bytes, self.sender.pending_bytes
        self._unacknowledged = self.sender.calls

    def recover(self, going_on: Callable[[], bool], *, now: bool = False) -> None:
        """Send what ended processes left in the spool, every few seconds or now, while `going_on` says so."""
        due = self._recovered_at + RECOVER_EVERY <= self._options.monotonic()
        if self._recovery is None or not (due or now):
            return
        self._recovered_at = self._options.monotonic()
        self._notices.spool(self.status, self.spool)
        sending = self.status.state == "ok"
        for path in self._recovery.paths():
            if not going_on():
                return
            with self._alone():
                sending = self._recovery.recover(path, self.status, sending=sending) and sending

    # The end

    @property
    def is_ok(self) -> bool:
        """False while Redis is known to be away."""
        return self.status.state == "ok"

    def retire(self) -> bool:
        """When all is settled: leave nothing in Redis, and be a new worker if more comes. False if Redis lost what it had."""
        with self._alone():
            if (self._announced == self.status.worker or self.sender.has_journal) and self.sender.retire():
                self._renew()
            self._measure()
            return self.sender.is_settled

    def put_aside(self) -> None:
        """Put what is not acknowledged on disk, and keep trying to deliver it. Whatever ends the process then, it is safe."""
        if self.spool is None:
            return
        with self._alone():
            self.sender.put_aside(self.spool, self._aggregate.drain())
            self._measure()

    def hand_over(self) -> None:
        """Put what is not acknowledged on disk, for the next process."""
        if self.spool is None:
            return
        with self._alone():
            if self.sender.hand_over(self.spool, self._aggregate.drain()):
                self._renew()
            self._measure()

    def pause(self) -> bool:
        """Let no flush begin until `resume`; False if one is under way that waits for Redis, or that takes too long."""
        over = time.monotonic() + PAUSE_SECONDS
        while not self._lock.acquire(timeout=PAUSE_STEP):
            if fork.is_waiting(self._owner) or time.monotonic() > over:
                return False
        return True

    def resume(self) -> None:
        """After `pause`."""
        self._lock.release()

    # What Redis learns

    def _schema_fits(self) -> bool:
        """Whether Redis answers, and holds counters of the shape that this recorder writes."""
        self._disagreement = ""
        try:
            self._notices.missing_right(self.status, self._writer.check_schema(self._now_ms()))
            self._has_agreed = True
        except Disagreement as error:
            self._disagreement = str(error)
            return False
        except redis_errors() as error:
            if self._has_agreed and self._notices.missing_right(self.status, error):
                return True
            self.sender.error = reason(error)
            # In a cluster the node of `{*}` may be away alone. What the others hold was checked before.
            return self._writer.is_cluster and bool(self.sender.outbox.organisations())
        return True

    def _heartbeat(self) -> None:
        if self._disagreement or (self.sender.error and not self._writer.is_cluster):
            return
        self.status.skew_ms = self._writer.skew_ms(self._options.clock)
        now_ms = self._now_ms()
        try:
            self._writer.heartbeat(self.status.worker, self.snapshot().fields(now_ms), now_ms, self._began_ms)
            self._announced = self.status.worker
        except redis_errors() as error:
            if not (self._notices.missing_right(self.status, error) or self._writer.damage.explains(error, "workers")):
                self.sender.error = reason(error)

    def _publish_routes(self) -> None:
        """Every hour: the application's routes, for processes that only serve views."""
        if self._published_at + ROUTES_EVERY > self._options.monotonic():
            return
        self._published_at = self._options.monotonic()
        try:
            self._writer.publish(self._routes(), self._now_ms())
        except Exception:  # An application's routes may be anything.
            self._count_error("routes")

    def _note_state(self) -> None:
        """Set the state, and log when it changes."""
        status, before = self.status, self.status.state
        status.reason = self._disagreement or self.sender.error or self.sender.journal_error
        status.state = "refused" if self._disagreement else "away" if status.reason else "ok"
        if status.state == before:
            return
        self._notices.state(status, before)
        if status.state == "ok":
            self._recovered_at = float("-inf")

    def snapshot(self) -> OwnStatus:
        """How this worker is doing now."""
        status = self.status
        # Also what no flush has come to yet.
        dropped, unresolved = with_drops(status, self._aggregate.dropped, self.sender.parked.dropped)
        return replace(
            status,
            pid=os.getpid(),
            backlog_calls=self._aggregate.calls + self._unacknowledged,
            backlog_bytes=self._aggregate.bytes + self._aggregate.elsewhere,
            **(self._recovery.counts if self._recovery is not None else {}),
            damaged=str(self._writer.damage),
            dropped=dropped,
            dropped_unresolved=unresolved,
            blocked=dict(status.blocked),
            lost=dict(status.lost),
        )

    @property
    def has_news(self) -> bool:
        """True while something is not acknowledged, even if it is only that calls were dropped."""
        return self._aggregate.has_news or not self.sender.is_settled

    def _now_ms(self) -> int:
        return int(self._options.clock() * 1000)
