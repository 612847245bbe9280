"""Alerts in Redis: each is created once, whoever sees it, and waits there until it is delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from usage_middleware.store.agenda import Agenda
from usage_middleware.store.engine import Engine
from usage_middleware.store.replies import text
from usage_middleware.store.schema import Schema
from usage_middleware.store.script import Script

#: How long it is known that a threshold was reached, seconds.
KEPT_SECONDS = 400 * 86_400

#: Creates an alert unless it is there. KEYS: alerts of the month, outbox, its items. ARGV: field, record, seconds, now, then
#: pairs of an id and an item.
_CREATE = Script("""
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('EXPIRE', KEYS[1], ARGV[3])
for i = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[2], ARGV[4], ARGV[i])
end
return 1
""")
#: Leases the alert that is due first. KEYS: outbox, its items. ARGV: now, until when it is leased.
_LEASE = Script("""
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)
if #due == 0 then return false end
local item = redis.call('HGET', KEYS[2], due[1])
if not item then redis.call('ZREM', KEYS[1], due[1]) return {due[1], ''} end
redis.call('ZADD', KEYS[1], ARGV[2], due[1])
return {due[1], item}
""")
#: Changes a leased alert, if it is still there. KEYS: outbox, its items. ARGV: id, when to try again, item ('': it is done).
_SETTLE = Script("""
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
if not redis.call('HGET', KEYS[2], ARGV[1]) then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
""")


class Leased(NamedTuple):
    """An alert that this process is to deliver."""

    org: str
    id: str
    item: bytes


class AlertOutbox:
    """Creates, leases and settles alerts. Organisations are members, times are milliseconds since the epoch.

    Attributes:
        orgs: which organisations have alerts to be delivered.
    """

    def __init__(self, engine: Engine, schema: Schema) -> None:
        self._engine = engine
        self._schema = schema
        self.orgs = Agenda(engine, schema.outbox_orgs)

    def create(self, org: str, month: str, field: str, record: bytes, items: Mapping[str, bytes], now_ms: int) -> bool:
        """Create an alert, with an item for each that has to get it. False if it was there already."""
        keys = [self._schema.alerts(org, month), self._schema.outbox(org), self._schema.outbox_items(org)]
        pairs = [part for pair in items.items() for part in pair]
        # Before: an organisation without alerts does no harm there, an alert that nobody looks for does.
        self._enter(org, items, now_ms)
        created = bool(_CREATE.run(self._engine.client, keys, (field, record, KEPT_SECONDS, now_ms, *pairs)))
        if created:
            # And after: somebody may have looked in between, found nothing, and crossed it out.
            self._enter(org, items, now_ms)
        return created

    def _enter(self, org: str, items: Mapping[str, bytes], now_ms: int) -> None:
        if items:
            self.orgs.enter(org, now_ms)

    def fired(self, org: str, months: Sequence[str]) -> dict[str, bytes]:
        """The alerts of some months: what reached a threshold -> its record."""
        found: dict[str, bytes] = {}
        for month in months:
            name = self._schema.alerts(org, month)
            try:
                reply: Mapping[Any, Any] = self._engine.read_client.hgetall(name)
            except Exception as error:
                if not self._engine.damage.explains(error, name):
                    raise
                continue
            found |= {text(field): record for field, record in reply.items()}
        return found

    def lease(self, org: str, now_ms: int, until_ms: int) -> Leased | None:
        """The alert that is due first, leased until then; None if none is."""
        reply = _LEASE.run(self._engine.client, self._keys(org), (now_ms, until_ms))
        return None if not reply else Leased(org, text(reply[0]), bytes(reply[1]))

    def settle(self, leased: Leased, item: bytes = b"", at_ms: int = 0) -> None:
        """The alert is done; with an `item`, it is tried again then."""
        _SETTLE.run(self._engine.client, self._keys(leased.org), (leased.id, at_ms, item))

    def look_again(self, org: str, was: float) -> None:
        """Say when to look at an organisation again: when its next alert is due."""
        reply = self._engine.client.execute_command("ZRANGE", self._schema.outbox(org), 0, 0, "WITHSCORES")
        score = None if not reply else reply[-1][1] if isinstance(reply[-1], list | tuple) else reply[-1]
        self.orgs.move(org, was, None if score is None else int(float(score)))

    def _keys(self, org: str) -> list[str]:
        return [self._schema.outbox(org), self._schema.outbox_items(org)]
