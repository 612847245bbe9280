"""Which organisations are to be looked at, and when: a list in Redis that all workers share."""

from __future__ import annotations

from usage_middleware.store.engine import Engine
from usage_middleware.store.replies import text
from usage_middleware.store.script import Script

#: So many organisations are named in one go.
_SOME = 20

#: Moves an organisation, unless somebody else has moved it since. KEYS: the agenda. ARGV: it, the time that was, the new one
#: ('': none).
_MOVE = Script("""
local was = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not was or tonumber(was) ~= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == '' then redis.call('ZREM', KEYS[1], ARGV[1]) else redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1]) end
return 1
""")


class Agenda:
    """Organisations (members) by the time when they are due, milliseconds since the epoch."""

    def __init__(self, engine: Engine, name: str) -> None:
        """`name` is the Redis key."""
        self._engine = engine
        self._name = name

    def enter(self, org: str, at_ms: int) -> None:
        """See that an organisation is looked at then, or sooner where it stands there already."""
        self._engine.client.execute_command("ZADD", self._name, "LT", at_ms, org)

    def due(self, now_ms: int) -> list[tuple[str, float]]:
        """Some organisations that are due, the earliest first, and since when."""
        client = self._engine.client
        found = client.execute_command("ZRANGEBYSCORE", self._name, "-inf", now_ms, "LIMIT", 0, _SOME)
        if not found:
            return []
        scores = client.execute_command("ZMSCORE", self._name, *found)
        # In between, another worker may have moved some.
        times = ((text(org), float(score)) for org, score in zip(found, scores, strict=True) if score is not None)
        return [(org, at) for org, at in times if at <= now_ms]

    def move(self, org: str, was: float, to_ms: int | None) -> bool:
        """Say when an organisation is due next (None: no more). False if somebody else has said so since it `was` due."""
        to = "" if to_ms is None else to_ms
        return bool(_MOVE.run(self._engine.client, [self._name], (org, was, to)))
