"""Delivers alerts from the outbox: each is leased, given to its target, and tried again for a day where that fails."""

from __future__ import annotations

import logging
import queue
import random
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from usage_middleware.alerts.event import AlertEvent
from usage_middleware.alerts.thresholds import Item, decode, encode
from usage_middleware.alerts.webhook import NotDelivered
from usage_middleware.store.alert_outbox import AlertOutbox, Leased

logger = logging.getLogger("usage_middleware")

#: What alerts are given to.
Target: TypeAlias = Callable[[AlertEvent], object]

#: How long a target may take, seconds; and so long nobody else tries the same alert.
TARGET_SECONDS, LEASE_SECONDS = 10.0, 60.0
#: Pauses after failures, seconds; the last one for all that follow. And how long it is tried.
PAUSES = (5, 30, 120, 600, 1800, 3600, 7200)
GIVE_UP_SECONDS = 86_400
#: So many alerts are delivered before the thread looks at something else.
_MOST_AT_ONCE = 20
#: So many targets may hang at once.
MOST_HANGING = 4


class Delivery:
    """Gives alerts to the targets of this process."""

    def __init__(self, outbox: AlertOutbox, targets: Sequence[Target], clock: Callable[[], float]) -> None:
        self._outbox = outbox
        self._targets = targets
        self._clock = clock
        self._hanging: list[threading.Thread] = []

    def deliver(self, going_on: Callable[[], bool] = lambda: True) -> int:
        """Deliver what is due; how many were tried."""
        tried, orgs = 0, self._outbox.orgs
        for org, since in orgs.due(self._now_ms()):
            until = self._leased_until
            # Moved first: an alert that is created from here on moves it back, and is not overlooked.
            if not orgs.move(org, since, until):
                continue
            while tried < _MOST_AT_ONCE and going_on() and (leased := self._lease(org)) is not None:
                self._try(leased)
                tried += 1
            self._outbox.look_again(org, until)
        return tried

    def _lease(self, org: str) -> Leased | None:
        return self._outbox.lease(org, self._now_ms(), self._leased_until)

    @property
    def _leased_until(self) -> int:
        return self._now_ms() + int(LEASE_SECONDS * 1000)

    def _try(self, leased: Leased) -> None:
        item = decode(leased.item)
        if item is None or item.target >= len(self._targets):
            logger.warning("usage: the alert %s can't be delivered: it is damaged, or on_alert has no such target", leased.id)
            self._outbox.settle(leased)
            return
        error = self._given(self._targets[item.target], item.event)
        if error is None:
            self._outbox.settle(leased)
        else:
            self._failed(leased, item, error)

    def _failed(self, leased: Leased, item: Item, error: BaseException) -> None:
        now = self._now_ms()
        is_over = now - item.created_ms >= GIVE_UP_SECONDS * 1000
        if is_over or (isinstance(error, NotDelivered) and error.is_final):
            logger.warning("usage: the alert %s is given up after %d attempts: %s", item.event.id, item.attempts + 1, error)
            self._outbox.settle(leased)
            return
        pause = PAUSES[min(item.attempts, len(PAUSES) - 1)] * random.uniform(1.0, 1.5)
        logger.info("usage: the alert %s was not delivered, and is tried again: %s", item.event.id, error)
        self._outbox.settle(leased, encode(item._replace(attempts=item.attempts + 1)), now + int(pause * 1000))

    def _given(self, target: Target, event: AlertEvent) -> BaseException | None:
        """Give an alert to a target, in a thread that is not waited for longer than it may take. What went wrong."""
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) >= MOST_HANGING:
            return TimeoutError(f"{MOST_HANGING} earlier calls of on_alert have not returned")
        answers: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def call() -> None:
            try:
                target(event)
            except BaseException as error:
                answers.put(error)
            else:
                answers.put(None)

        thread = threading.Thread(target=call, name="usage-on-alert", daemon=True)
        thread.start()
        try:
            return answers.get(timeout=TARGET_SECONDS)
        except queue.Empty:
            self._hanging.append(thread)
            return TimeoutError(f"on_alert took longer than {TARGET_SECONDS:g} seconds")

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
