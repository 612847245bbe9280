"""`usage.pack_history` and `usage.unpack_history`: what a worker does in idle moments, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from usage_middleware.errors import ConfigurationError, UsageUnavailable
from usage_middleware.periods import DAY, month_start
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.names import months
from usage_middleware.store.history.packer import Steps
from usage_middleware.store.history.rounds import Rounds
from usage_middleware.store.history.schedule import Schedule
from usage_middleware.store.history.unpacker import Unpacker
from usage_middleware.store.members import OPERATOR, org_member
from usage_middleware.store.schema import Schema


class History:
    """Packs and unpacks when asked.

    Args:
        client: the writer's client of this process.
        schema: the names of keys.
        clock: seconds since the epoch.
        damage: told what is damaged.
        guard: turns errors of Redis into `UsageUnavailable`.
    """

    def __init__(
        self,
        client: Callable[[], Any],
        schema: Schema,
        clock: Callable[[], float],
        damage: DamageLog,
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._schema = schema
        self._clock = clock
        self._guard = guard
        self._schedule = Schedule(client, schema, damage)
        self._rounds = Rounds(client, schema, clock, damage)
        self._unpacker = Unpacker(client, schema, clock, damage)

    @property
    def rounds(self) -> Rounds | None:
        """What workers do in idle moments; None without history."""
        return self._rounds if self._schema.settings.history else None

    def pack(self, org: str | None = None) -> int:
        """Pack now what is due, without rests. Workers do the same in idle moments; this is for cron, or for many old days.

        It may be stopped at any moment, and called while workers pack: every number is moved once.

        Args:
            org: an organisation; None: all that are due, and all of them together.

        Returns:
            How many days were packed, at one resolution each.

        Raises:
            ConfigurationError: history is off.
            UsageUnavailable: Redis does not answer, or a worker runs that knows of no history. Where all are packed, what fails
                with one organisation is logged, and it is packed an hour later.
        """
        if not self._schema.settings.history:
            raise ConfigurationError("there is nothing to pack: history is off (Usage(history=True))")
        before = self._rounds.packer.days
        with self._guard():
            for _ in self._rounds.round() if org is None else self._organisation(org_member(org)):
                pass
        if self._rounds.waiting_for:
            other = self._rounds.waiting_for
            raise UsageUnavailable(f"Nothing is packed while {other} runs without history: update it, or set history=True.")
        return self._rounds.packer.days - before

    def _organisation(self, org: str) -> Steps:
        if self._rounds.begin():
            yield from self._rounds.seeding.steps()
            yield from self._rounds.organisation(org, alone=True)

    def unpack(self, org: str | None = None, month: str | None = None) -> int:
        """Write packed time back as live counters, as before an older version of this package takes over.

        Set `history=False` in all processes before, or it is packed again. What has passed its retention is not written.

        Args:
            org: an organisation; None: all of them, and the counters of all of them together.
            month: a UTC month, such as `2026-11`; None: all months.

        Returns:
            How many numbers were written back.

        Raises:
            ConfigurationError: `month` is not a month.
            UsageUnavailable: Redis does not answer.
        """
        wanted = list(self._months()) if month is None else [_checked(month)]
        with self._guard():
            orgs = [*self._schedule.organisations(), OPERATOR] if org is None else [org_member(org)]
            found = sum(self._unpacker.unpack(one, each) for one in orgs for each in wanted)
            if org is None and month is None:
                self._schedule.forget()
        return found

    def _months(self) -> Iterator[str]:
        now = int(self._clock())
        return months(now - self._schema.settings.history_kept - 31 * DAY, now + DAY)


def _checked(month: object) -> str:
    try:
        if isinstance(month, str) and f"{datetime.fromtimestamp(month_start(month), UTC):%Y-%m}" == month:
            return month
    except ValueError:
        pass
    raise ConfigurationError(f"month must be a UTC month such as '2026-11', not {month!r}")
