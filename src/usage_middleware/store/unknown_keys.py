"""Which unknown credentials have a row of their own: a few, the same ones for all workers."""

from __future__ import annotations

from collections.abc import Callable, Collection

from usage_middleware.periods import DAY
from usage_middleware.store.driver_errors import is_missing_right, redis_errors
from usage_middleware.store.engine import Engine
from usage_middleware.store.schema import Schema

#: For how long an answer of Redis holds, seconds.
ASKED_SECONDS = 60.0
#: How long a name keeps its place after it was last seen, seconds.
KEPT_SECONDS = DAY

#: KEYS: the names that have a place, by when they were last seen. ARGV: now and how long a place is kept (ms), how many places
#: there are, names. Answers the names that have a place now.
_ADMIT = """
local now, kept, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - kept))
local room, admitted = most - redis.call('ZCARD', KEYS[1]), {}
for number = 4, #ARGV do
  local known = redis.call('ZSCORE', KEYS[1], ARGV[number])
  if not known and room > 0 then known, room = true, room - 1 end
  if known then
    redis.call('ZADD', KEYS[1], ARGV[1], ARGV[number])
    admitted[#admitted + 1] = ARGV[number]
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return admitted
"""


class UnknownKeys:
    """Hands out the places of unknown credentials. Redis is asked about a name once a minute, and of no more names than fit.

    Args:
        engine: the connection.
        schema: the names of keys.
        clock: seconds since the epoch.
    """

    def __init__(self, engine: Engine, schema: Schema, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._key = schema.unknown_keys
        self._most = schema.settings.max_unknown_keys
        self._clock = clock
        #: The names that have a place, and until when that need not be asked again.
        self._until: dict[str, float] = {}
        self._full_until = float("-inf")

    def admit(self, names: Collection[str]) -> set[str]:
        """Those of these names that have a place, or get one now.

        Raises:
            redis_errors: Redis does not answer.
        """
        now = self._clock()
        self._until = {name: until for name, until in self._until.items() if now - KEPT_SECONDS < until <= now + ASKED_SECONDS}
        found = {name for name in names if self._until.get(name, now) > now}
        again = [name for name in names if name in self._until and name not in found]
        is_full = now < self._full_until <= now + ASKED_SECONDS
        # A little more than fit, so that it is seen when there is no room.
        new = [] if is_full else [name for name in names if name not in self._until][: self._most + 1]
        if again or new:
            admitted = self._ask([*again, *new], now)
            self._until = {name: until for name, until in self._until.items() if name not in again}
            self._until.update(dict.fromkeys(admitted, now + ASKED_SECONDS))
            if len(admitted) < len(again) + len(new):
                self._full_until = now + ASKED_SECONDS
            found |= admitted
        return found

    def _ask(self, names: list[str], now: float) -> set[str]:
        arguments = (int(now * 1000), KEPT_SECONDS * 1000, self._most, *names)
        try:
            reply = self._engine.client.execute_command("EVAL", _ADMIT, 1, self._key, *arguments)
        except redis_errors() as error:
            if not (is_missing_right(error) or self._engine.damage.explains(error, self._key)):
                raise
            # Without the right to ask, or with a list that is damaged, each process has places of its own.
            return set(names[: max(0, self._most - len(self._until))])
        return {name.decode() if isinstance(name, bytes) else name for name in reply}
