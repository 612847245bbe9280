"""One flush: take the calls out of the aggregate, have them sent or parked, and tell Redis and the log how it goes."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Collection
from functools import partial

from msgspec.structs import replace

from usage_middleware.options import DeliveryOptions
from usage_middleware.record.aggregate import Aggregate
from usage_middleware.record.attribution import Callers, CountError
from usage_middleware.record.journal import Journal
from usage_middleware.record.recovery import Recovery
from usage_middleware.record.sender import Sender
from usage_middleware.record.spool import Spool
from usage_middleware.store.driver_errors import reason, redis_errors
from usage_middleware.store.worker_status import OwnStatus
from usage_middleware.store.writer import SCRIPT_SHA, Disagreement, Writer

logger = logging.getLogger("usage_middleware")

#: How long a fork waits for a flush, seconds.
PAUSE_SECONDS = 0.2
#: How often the spool is searched, and routes are published; seconds.
RECOVER_EVERY = 15.0
ROUTES_EVERY = 3600.0
MOST_ROUTES = 5_000


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
        routes: Callable[[], Collection[str]],
        count_error: CountError,
    ) -> None:
        self._writer = writer
        self._aggregate = aggregate
        self._options = options
        self._routes = routes
        self._count_error = count_error
        self._new_sender = partial(Sender, writer, options, callers, count_error)
        self.spool = Spool(options, writer.schema.settings) if options.spool is not None else None
        self.reset()

    def reset(self) -> None:
        """Start as a new worker with nothing recorded, whatever lock another thread held when this process was forked."""
        self._lock = threading.Lock()
        self._recovery: Recovery | None = None
        if self.spool is not None:
            self.spool.after_fork_in_child()
            self._recovery = Recovery(self.spool, self._new_sender, self._count_error)
        self.status = OwnStatus(script=SCRIPT_SHA)
        self._disagreement = ""
        #: The worker whose status Redis has.
        self._announced = ""
        self._unacknowledged = 0
        self._recovered_at = self._published_at = float("-inf")
        self._renew()

    def _renew(self) -> None:
        """Go on as a new worker with nothing on its way."""
        self.status.worker = secrets.token_hex(16)
        journal = Journal(self.spool, self.status.worker) if self.spool is not None and self._options.journal else None
        self.sender = self._new_sender(self.status, journal)

    def add_up(self) -> None:
        """Read and add up the calls that wait for it."""
        self._aggregate.sum()

    def begin(self) -> None:
        """Call it before the first call is recorded: until now there was nothing to count."""
        if not self._aggregate.has_sums and self.sender.is_settled:
            self.status.flushed_through_ms = self._now_ms()

    def announce(self) -> None:
        """Let readers know that this worker exists and may hold calls."""
        with self._lock:
            if self._schema_fits():
                self._heartbeat()
            self._note_state()

    def flush(self) -> bool:
        """Send what there is; True when everything recorded before this call is acknowledged."""
        with self._lock:
            settled = self._flush()
            self._measure()
            self._heartbeat()
            self._note_state()
        return settled

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
        self._aggregate.elsewhere = self.sender.bytes
        self._unacknowledged = self.sender.calls

    def recover(self, going_on: Callable[[], bool], *, now: bool = False) -> None:
        """Send what ended processes left in the spool, every few seconds or now, while `going_on` says so."""
        due = self._recovered_at + RECOVER_EVERY <= self._options.monotonic()
        if self._recovery is None or not (due or now):
            return
        self._recovered_at = self._options.monotonic()
        sending = self.status.state == "ok"
        for path in self._recovery.paths():
            if not going_on():
                return
            with self._lock:
                sending = self._recovery.recover(path, self.status, sending=sending) and sending

    # The end

    def retire(self) -> None:
        """Leave nothing behind in Redis, and go on as a new worker if more comes. Call it when all is settled."""
        with self._lock:
            if self._announced == self.status.worker and self.sender.retire():
                self._renew()
                self._measure()

    def hand_over(self, timeout: float) -> bool:
        """Put what is not acknowledged on disk, for the next process. False if it can't be.

        Args:
            timeout: how long to wait for a flush under way, seconds.
        """
        if self.spool is None or not self._lock.acquire(timeout=timeout):
            return False
        try:
            is_on_disk = self.sender.hand_over(self.spool, self._aggregate.drain())
            if is_on_disk:
                self._renew()
            self._measure()
            return is_on_disk
        finally:
            self._lock.release()

    def pause(self) -> bool:
        """Wait a moment for a flush under way, and let no other begin; False if it takes too long."""
        return self._lock.acquire(timeout=PAUSE_SECONDS)

    def resume(self) -> None:
        """After `pause`."""
        self._lock.release()

    # What Redis learns

    def _schema_fits(self) -> bool:
        """Whether Redis answers, and holds counters of the shape that this recorder writes."""
        self._disagreement = ""
        try:
            self._writer.check_schema(self._now_ms())
        except Disagreement as error:
            self._disagreement = str(error)
            return False
        except redis_errors() as error:
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
            self._writer.heartbeat(self.status.worker, self.snapshot().fields(now_ms), now_ms)
            self._announced = self.status.worker
        except redis_errors() as error:
            self.sender.error = reason(error)

    def _publish_routes(self) -> None:
        """Every hour: the application's routes, for processes that only serve views."""
        if self._published_at + ROUTES_EVERY > self._options.monotonic():
            return
        self._published_at = self._options.monotonic()
        try:
            labels = list(self._routes())[:MOST_ROUTES]
            if labels:
                self._writer.publish_routes(labels, self._now_ms())
        except redis_errors() as error:
            logger.debug("usage: the application's routes could not be published: %s", error)
        except Exception:  # An application's routes may be anything.
            self._count_error("routes")

    # How it goes

    def _note_state(self) -> None:
        """Set the state, and log when it changes."""
        status, before = self.status, self.status.state
        status.reason = self._disagreement or self.sender.error or self.sender.journal_error
        status.state = "refused" if self._disagreement else "away" if status.reason else "ok"
        if status.state == before:
            return
        if status.state == "refused":
            logger.error("usage: nothing is written to Redis, and calls are kept in memory: %s", status.reason)
        elif status.state == "away":
            logger.warning("usage: Redis can't be written, and calls are kept until it can: %s", status.reason)
        else:
            logger.warning("usage: Redis is written again")
            self._recovered_at = float("-inf")

    def snapshot(self) -> OwnStatus:
        """How this worker is doing now."""
        status = self.status
        return replace(
            status,
            pid=os.getpid(),
            backlog_calls=self._aggregate.calls + self._unacknowledged,
            backlog_bytes=self._aggregate.bytes + self._aggregate.elsewhere,
            spool_files=self._recovery.files if self._recovery is not None else 0,
            spool_calls=self._recovery.calls if self._recovery is not None else 0,
            dropped=dict(status.dropped),
            blocked=dict(status.blocked),
            lost=dict(status.lost),
        )

    @property
    def has_news(self) -> bool:
        """True while something is not acknowledged, even if it is only that calls were dropped."""
        return self._aggregate.has_news or not self.sender.is_settled

    def _now_ms(self) -> int:
        return int(self._options.clock() * 1000)
