"""Rounds of packing: all organisations that are due, one after the other, in steps that may be far apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from typing import Any

from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.packer import Packer, Steps
from usage_middleware.store.history.schedule import Schedule
from usage_middleware.store.history.seeding import Seeding
from usage_middleware.store.schema import Schema

logger = logging.getLogger("usage_middleware")

#: So many organisations are taken from the schedule at once.
_AT_ONCE = 20
#: An organisation that could not be packed waits so long, seconds.
LATER = 3600


class Rounds:
    """Packs what is due. One for each process.

    Attributes:
        packer: packs one organisation.
        schedule: says which are due.
        seeding: marks what is older than history.
        waiting_for: a worker that knows of no history: until it has ended, nothing is packed. Empty if there is none.
    """

    def __init__(self, client: Callable[[], Any], schema: Schema, clock: Callable[[], float], damage: DamageLog) -> None:
        self._clock = clock
        self.packer = Packer(client, schema, clock, damage)
        self.schedule = Schedule(client, schema, damage)
        self.seeding = Seeding(client, schema, clock, damage)
        self.waiting_for = ""

    def begin(self) -> bool:
        """Whether packing may begin: no worker runs that knows of no history.

        Raises:
            redis_errors(): as the client does.
        """
        self.waiting_for = self.schedule.agree(self._clock())
        return not self.waiting_for

    def round(self) -> Steps:
        """Mark what is older than history, then pack all organisations that are due now.

        Raises:
            redis_errors(): as the client does, if it can't be told which are due.
        """
        if self.begin():
            yield from self.seeding.steps()
        now, left = self._clock(), 0
        while self.begin():
            yield
            orgs = self.schedule.due(now, _AT_ONCE, left)
            if not orgs:
                return
            for org in orgs:
                left += not (yield from self.organisation(org))

    def organisation(self, org: str, *, alone: bool = False) -> Generator[None, None, bool]:
        """Pack what is due of an organisation, unless somebody else does. `begin` must have said that it may.

        What goes wrong is logged, and others go on being packed; if it is packed `alone`, it is raised.

        Returns:
            False if it stays where it was in the schedule: the memory of Redis is full.

        Raises:
            redis_errors(): as the client does.
        """
        if not self.schedule.take(org, self._clock()):
            return True
        try:
            yield from self.packer.pack(org)
        except Exception as error:
            is_moved = self.schedule.put_back(org, int(self._clock()) + LATER)
            if alone:
                raise
            logger.warning("usage: the history of %s can't be packed now: %s", org, error)
            return is_moved
        return self.schedule.put_back(org, self._again(org))

    def _again(self, org: str) -> int | None:
        due = self.packer.next_due(org)
        # What is due still was written meanwhile, or is damaged.
        return None if due is None else max(due, int(self._clock()) + LATER)
