"""Which organisations have something to pack, and when: so that no packer has to look at all of them.

A worker notes an organisation before it sends a chunk. Scores of the schedule are seconds since the epoch.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from typing import Any

from usage_middleware.options import HALF_HOURS_AFTER
from usage_middleware.periods import DAY
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.driver_errors import is_full, redis_errors
from usage_middleware.store.members import OPERATOR
from usage_middleware.store.meta import HISTORY_SINCE
from usage_middleware.store.replies import text
from usage_middleware.store.schema import Schema

#: So long nobody else takes an organisation that somebody packs, seconds. After a packer was killed, it waits so long.
TAKEN_SECONDS = 3600
#: A worker whose last sign of life is older has ended, seconds.
ALIVE_SECONDS = 60
#: While a worker writes what it does not mark for packing, history begins so much later than now, seconds.
BEGINS_LATER = 600
#: What `meta` says once something may be packed.
FEATURE = "history"
#: An organisation that goes on being counted is noted again after so long, seconds: Redis may have lost it, or a packer that
#: found nothing left may have removed it.
NOTED_SECONDS = 3600
#: So many organisations are remembered as noted.
_MOST_NOTED = 100_000


class Schedule:
    """The organisations that have something to pack."""

    def __init__(self, client: Callable[[], Any], schema: Schema, damage: DamageLog) -> None:
        self._client = client
        self._schema = schema
        self._damage = damage
        #: Organisation -> for when it was noted, and when that was.
        self._noted: dict[str, tuple[int, float]] = {}

    def note(self, org: str, minutes: Collection[int], now: float) -> None:
        """Note that calls of these minutes are about to be counted for an organisation. Never raises for Redis."""
        oldest = min(minutes, default=int(now))
        # What comes late waits from now on.
        due = max(oldest - oldest % DAY + DAY + HALF_HOURS_AFTER, int(now))
        noted, at = self._noted.get(org, (due + 1, now))
        if noted <= due and due > now and abs(now - at) < NOTED_SECONDS:
            return
        if len(self._noted) >= _MOST_NOTED:
            self._noted.clear()
        try:
            self.hurry(org, due)
            self._noted[org] = due, now
        except redis_errors() as error:
            self._damage.explains(error, self._schema.history_schedule)

    def hurry(self, org: str, due: int) -> None:
        """An organisation is due then, or before.

        Raises:
            redis_errors(): as the client does.
        """
        with self._client().pipeline(transaction=False) as pipe:
            pipe.execute_command("ZADD", self._schema.history_schedule, "LT", due, org)
            pipe.expire(self._schema.history_schedule, self._schema.settings.history_kept)
            pipe.execute()

    def due(self, now: float, most: int, after: int = 0) -> list[str]:
        """Organisations that are due, the longest first, without the first so many.

        Raises:
            redis_errors(): as the client does.
        """
        found = self._client().zrangebyscore(self._schema.history_schedule, "-inf", int(now), start=after, num=most)
        return [text(org) for org in found]

    def take(self, org: str, now: float) -> bool:
        """Keep others from packing an organisation for a while; False if somebody does.

        Where the memory of Redis is full, others are not kept from it. To pack makes room, and two may do it at once.

        Raises:
            redis_errors(): as the client does.
        """
        client, lease = self._client(), self._schema.history_lease(org)
        try:
            is_free = client.set(lease, secrets.token_hex(8), nx=True, ex=TAKEN_SECONDS)
            client.zadd(self._schema.history_schedule, {org: int(now) + TAKEN_SECONDS}, xx=True)
            self._remember(org, int(now))
        except redis_errors() as error:
            if not is_full(error):
                raise
            return True
        return bool(is_free)

    def _remember(self, org: str, now: int) -> None:
        """Something of an organisation is about to be packed: `organisations` has it until that has ended."""
        packed, kept = self._schema.history_packed, self._schema.settings.history_kept + 31 * DAY
        with self._client().pipeline(transaction=False) as pipe:
            pipe.zadd(packed, {org: now + kept})
            pipe.zremrangebyscore(packed, "-inf", now)
            pipe.expire(packed, kept)
            pipe.execute()

    def put_back(self, org: str, due: int | None) -> bool:
        """Somebody has packed an organisation, which is due again then; None: when it is noted again.

        Returns:
            False if the memory of Redis is full: the organisation stays where it was.

        Raises:
            redis_errors(): as the client does.
        """
        client = self._client()
        try:
            if due is None:
                client.zrem(self._schema.history_schedule, org)
            else:
                client.zadd(self._schema.history_schedule, {org: due})
        except redis_errors() as error:
            if not is_full(error):
                raise
            return False
        finally:
            client.delete(self._schema.history_lease(org))
        return True

    def agree(self, now: float) -> str:
        """The name of a worker that knows of no history; empty if there is none, and packing may begin.

        While there is one, history begins later than now: what it writes is not kept for as long.

        Raises:
            redis_errors(): as the client does.
        """
        client = self._client()
        alive = client.zrangebyscore(self._schema.workers, int((now - ALIVE_SECONDS) * 1000), "+inf")
        with client.pipeline(transaction=False) as pipe:
            for worker in map(text, alive):
                pipe.hmget(self._schema.worker(worker), "host", "pid", "history")
            found = pipe.execute()
        others = [f"{text(host)}:{text(pid or b'')}" for host, pid, history in found if host and history != b"1"]
        if others:
            client.hset(self._schema.meta, HISTORY_SINCE, int((now + BEGINS_LATER) * 1000))
        elif text(client.hget(self._schema.meta, "features") or b"") != FEATURE:
            client.hset(self._schema.meta, "features", FEATURE)
        return next(iter(others), "")

    def organisations(self) -> list[str]:
        """Every organisation that was counted for the operator, is in no key directory, or has something packed or to pack.

        Raises:
            redis_errors(): as the client does.
        """
        client = self._client()
        counted = client.zrange(self._schema.seen(OPERATOR, "org"), 0, -1)
        unknown = client.zrange(self._schema.unknown_orgs, 0, -1)
        noted = client.zrange(self._schema.history_schedule, 0, -1)
        packed = client.zrange(self._schema.history_packed, 0, -1)
        return sorted({text(org) for org in (*counted, *unknown, *noted, *packed)} - {OPERATOR})

    def forget(self) -> None:
        """Nothing is packed any more: remove the schedule, and what `meta` says of history.

        Raises:
            redis_errors(): as the client does.
        """
        client = self._client()
        client.delete(self._schema.history_schedule)
        client.delete(self._schema.history_packed)
        client.hset(self._schema.meta, "features", "")
        client.hdel(self._schema.meta, HISTORY_SINCE)
