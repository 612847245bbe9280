"""One flush: take the aggregate out, find out who called, have it sent; and tell how that goes."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Collection
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from usage_middleware.record.aggregate import Aggregate, Batch, Caller, folded, organisation
from usage_middleware.record.caps import KnownKeys
from usage_middleware.record.outbox import row_of
from usage_middleware.record.sender import Lost, Sender
from usage_middleware.settings import DEFAULT_ORG
from usage_middleware.store.schema import ANONYMOUS
from usage_middleware.store.writer import TROUBLES, Disagreement, Writer

logger = logging.getLogger("usage_middleware")

#: digest -> (organisation, key, whether the directory knows it)
Resolved = dict[bytes, tuple[str, str, bool]]
Resolve = Callable[[Collection[bytes]], Resolved]

#: For so long a fork waits for a flush.
HOLD_SECONDS = 0.2


class Flusher:
    """Delivers what an aggregate holds, each call once. `flush` may be called from any thread.

    Attributes:
        sender: what is on its way, and the counts of what went wrong.
        state: `ok`, `away` (Redis can't be written now) or `refused` (Redis holds another shape of counters).
        reason: why, unless it is ok.
        flushed_through_ms: all that this worker finished before then is acknowledged.
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
        self._aggregate = aggregate
        self._resolve = resolve
        self._lost = lost
        self._clock = clock
        self._new_sender = partial(Sender, writer, known_keys=known_keys, lost=lost, clock=clock, monotonic=monotonic)
        self.reset()

    def reset(self) -> None:
        """Begin as a new worker with nothing on its way, whatever lock another thread held when this process forked."""
        self._lock = threading.Lock()
        self.sender = self._new_sender()
        self.state = "ok"
        self.reason = ""
        self.flushed_through_ms = 0
        self._unacknowledged = 0
        self._beaten = False
        self._folded_at = 0

    def flush(self) -> bool:
        """Send what there is; True when everything recorded before this call is acknowledged."""
        with self._lock:
            self.sender.begin()
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
        self.sender.make_room(self._aggregate.limit // 2)
        if not complete or not self.sender.outbox.settled:
            return False
        self.flushed_through_ms = batch.until_ms
        self.sender.outbox.tidy()
        return True

    def finish(self) -> None:
        """Leave nothing behind in Redis, and go on as a new worker if there is more to do. Call it when all is settled."""
        with self._lock:
            if not self._beaten:
                return
            try:
                self._writer.forget(self.sender.worker, self.sender.outbox.organisations())
            except Exception as error:  # Also what a client raises that is closed meanwhile; the marks are not worth more.
                logger.debug("usage: the marks of this worker stay until they expire: %s", error)
            self.sender.renew()
            self._beaten = False
            self._weigh()

    def _can_write(self) -> bool:
        if not self._agreed():
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

    def _agreed(self) -> bool:
        """Whether there is a server to write to that holds what we write."""
        try:
            self._writer.agree(int(self._clock() * 1000))
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
        self._aggregate.elsewhere = self.sender.outbox.bytes
        self._unacknowledged = self.sender.outbox.calls

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
            self.sender.outbox.put(row_of(minute, *caller, endpoint, tags, status, cell))
        self._count_drops(batch, who or {})
        if unresolved:
            self._aggregate.put_back(unresolved, {})
        self._weigh()
        return not unresolved

    def _callers(self, batch: Batch) -> Resolved | None:
        callers: set[Caller] = {key[1] for key in batch.cells} | set(batch.dropped)
        digests = {caller for caller in callers if isinstance(caller, bytes)}
        if not digests:
            return {}
        try:
            found = self._resolve(digests)
            return {digest: found.get(digest, (DEFAULT_ORG, ANONYMOUS, False)) for digest in digests}
        except TROUBLES as error:
            self.sender.trouble = str(error)
        except Exception:  # A directory of the application's own may raise anything.
            self._lost("resolve")
        return None

    def _count_drops(self, batch: Batch, who: Resolved) -> None:
        for caller, calls in batch.dropped.items():
            org = who[caller][0] if isinstance(caller, bytes) and caller in who else organisation(caller)
            self.sender.outbox.drop(org, calls)
            self.sender.note_drop(org, calls)

    def _fold(self) -> None:
        """While Redis is away: the minutes of a half-hour become one, if memory runs short."""
        minute = int(self._clock()) // 60
        if self._aggregate.bytes < self._aggregate.limit // 2 or self._folded_at == minute:
            return
        self._folded_at = minute
        batch = self._aggregate.drain()
        slot_seconds = self._writer.schema.layers.middle.seconds
        self._aggregate.put_back(folded(batch.cells, slot_seconds, int(self._clock())), batch.dropped)

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
        self.state, self.reason = "ok", ""

    def _beat(self) -> None:
        if self.state == "refused":
            return
        now_ms = int(self._clock() * 1000)
        try:
            self._writer.beat(self.sender.worker, self._facts(now_ms), now_ms)
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
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "version": _version(),
        }

    @property
    def has_news(self) -> bool:
        """True while something is not acknowledged, be it only that calls were dropped."""
        return self._aggregate.has_news or not self.sender.outbox.settled

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


def _version() -> str:
    try:
        return version("usage-middleware")
    except PackageNotFoundError:
        return "unknown"
