"""`Alerting`: the thread that looks for thresholds, delivers alerts, and keeps `usage.remaining` fresh."""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from usage_middleware import fork, signals
from usage_middleware.alerts.delivery import Delivery, Target
from usage_middleware.alerts.period_ends import PeriodEnds
from usage_middleware.alerts.remaining import REFRESH_SECONDS, KnownRemaining, Remaining
from usage_middleware.alerts.thresholds import Thresholds
from usage_middleware.alerts.webhook import Webhook
from usage_middleware.errors import ConfigurationError
from usage_middleware.options import check_plain_function
from usage_middleware.plans.declared import DeclaredPlans
from usage_middleware.report.context import ReportContext, ReportSource
from usage_middleware.report.viewer import Viewer
from usage_middleware.store import deadline
from usage_middleware.store.alert_outbox import AlertOutbox

logger = logging.getLogger("usage_middleware")

#: An organisation is looked at again after so many seconds; the outbox is, without news.
EVERY_SECONDS, POLL_SECONDS = 5.0, 5.0
#: How long Redis may take for one organisation, and for one whose period has ended; how long the end waits for the thread,
#: seconds.
STEP_SECONDS, PERIOD_END_SECONDS, END_SECONDS = 10.0, 30.0, 1.0
#: So many organisations a process remembers to have looked at.
MOST_ORGS = 10_000


def targets_of(given: object) -> tuple[Target, ...]:
    """What the option `on_alert` means.

    Raises:
        ConfigurationError: it is neither a function nor a `Webhook` nor several of them.
    """
    if given is None:
        return ()
    found: tuple[Any, ...] = tuple(given) if isinstance(given, list | tuple) else (given,)
    for one in found:
        if not isinstance(one, Webhook):
            check_plain_function("on_alert", one)
        if one is None:
            raise ConfigurationError("on_alert must be a function, a Webhook, or several of them, not None in a list")
    return found


class Alerting:
    """Looks at organisations after their calls were counted. It does nothing where no plan is declared."""

    def __init__(
        self,
        source: ReportSource,
        declared: DeclaredPlans,
        targets: Sequence[Target],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._is_on = declared.is_on
        self._monotonic = monotonic
        outbox = AlertOutbox(source.engine, source.schema)
        self._thresholds = Thresholds(outbox, len(targets), source.clock)
        self._period_ends = PeriodEnds(source.plans.period_ends, self._thresholds, source.clock)
        self._delivery = Delivery(outbox, targets, source.clock) if targets else None
        self._known = KnownRemaining(source.clock)
        self._reset()
        fork.engines.add(self)

    def _reset(self) -> None:
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        #: Organisations with news -> when the first of it came; and when each was looked at last, by two clocks.
        self._news: dict[str, float] = {}
        self._looked: dict[str, tuple[float, float]] = {}
        #: When it is asked next which periods have ended.
        self._ends_at = -math.inf
        self._thread: threading.Thread | None = None
        self._started_in: int | None = None
        self._is_over = False

    def after_fork_in_child(self) -> None:
        """Start again: the parent's thread looks at what the parent counted."""
        self._reset()

    def note(self, org: str) -> None:
        """Calls of an organisation (a member) were counted. Called by the thread that delivers them."""
        if self._is_on:
            self._news.setdefault(org, self._monotonic())
            self._wake()

    def remaining(self, org: str, name: str) -> Remaining | None:
        """What is known of a limit or quota of a whole organisation; None until it is, and if there is none.

        It never waits: the number is at most some seconds old while it is asked for.
        """
        found = self._known.get(org, name)
        if self._is_on and (found is None or self._known.is_due(org)):
            self._wake()
        return found

    def close(self) -> None:
        """End the thread. What waits to be delivered is delivered by another process, or the next one."""
        thread, self._is_over = self._thread, True
        self._wakes.put(None)
        if thread is not None and thread is not threading.current_thread() and self._started_in == os.getpid():
            thread.join(END_SECONDS)
        self._reset()

    def _wake(self) -> None:
        if self._started_in != os.getpid():
            self._started_in = os.getpid()
            thread = threading.Thread(target=self._run, args=(self._wakes,), name="usage-alerts", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # No new thread while the interpreter shuts down.
                return
            self._thread = thread
        if self._wakes.empty():
            self._wakes.put(None)

    def _run(self, wakes: queue.SimpleQueue[None]) -> None:
        signals.leave_to_the_main_thread()
        while not self._is_over and wakes is self._wakes:
            self.step()
            try:
                wakes.get(timeout=self._pause())
            except queue.Empty:
                continue

    def step(self) -> None:
        """Do what is due now."""
        for org in self._due():
            self._safely(partial(self._look, org))
        for org in self._known.due():
            self._safely(partial(self._refresh, org))
        if self._is_on and self._monotonic() >= self._ends_at:
            self._look_at_ends()
        if self._delivery is not None:
            # Each of its commands has an end; what it delivers to takes as long as it may.
            self._safely(partial(self._delivery.deliver, lambda: not self._is_over), math.inf)

    def _look_at_ends(self) -> None:
        """Do what is due for organisations whose periods have ended, and whose plans have changed."""
        found: list[tuple[str, float]] = []
        self._safely(lambda: found.extend(self._period_ends.due()))
        for org, since in found:
            if not self._is_over:
                self._safely(partial(self._look_at_end, org, since), PERIOD_END_SECONDS)
        self._ends_at = self._monotonic() + (0.0 if found else POLL_SECONDS)

    def _look_at_end(self, org: str, since: float) -> None:
        self._period_ends.look(self._context(), org, since)

    def _due(self) -> list[str]:
        now = self._monotonic()
        return [org for org in list(self._news) if now - self._looked.get(org, (-EVERY_SECONDS, 0))[0] >= EVERY_SECONDS]

    def _pause(self) -> float:
        """How long there is nothing to do."""
        now = self._monotonic()
        soonest = [self._looked[org][0] + EVERY_SECONDS - now for org in list(self._news) if org in self._looked]
        refresh = [REFRESH_SECONDS] if self._known.is_asked else []
        return max(0.05, min([POLL_SECONDS, self._ends_at - now, *soonest, *refresh]))

    def _look(self, org: str) -> None:
        self._news.pop(org, None)
        before = self._looked.get(org)
        if len(self._looked) >= MOST_ORGS:
            self._looked.clear()
        self._looked[org] = (self._monotonic(), self._source.clock())
        try:
            context = self._context()
            self._period_ends.enter(context, org)
            self._thresholds.evaluate(context, org, None if before is None else before[1])
        except BaseException:
            # Nothing was seen: the keys of the meantime have to be looked at again.
            self._news.setdefault(org, self._monotonic())
            if before is None:
                self._looked.pop(org, None)
            else:
                self._looked[org] = (self._monotonic(), before[1])
            raise

    def _refresh(self, org: str) -> None:
        self._known.read(self._context(), org)

    def _context(self) -> ReportContext:
        return self._source.context(Viewer.operator())

    def _safely(self, step: Callable[[], object], seconds: float = STEP_SECONDS) -> None:
        try:
            with deadline.within(seconds), self._source.engine.guard():
                step()
        except Exception as error:  # Whatever it was, the thread must go on.
            if not self._is_over and threading.current_thread() in (self._thread, threading.main_thread()):
                logger.warning("usage: looking for alerts failed, and is tried again: %s", error)
